package file

import (
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// extensions are the file name extensions of objects.
var extensions = []string{".yaml", ".yml", ".json"}

// objectName splits the name of an object's file into the id and the format. ok is false if the file is no object: it
// has another extension, or it is a temporary file of an editor or copy tool (.x.yaml.swp, .#x.yaml, .x.yaml.Qk3dTz of
// rsync, x.yaml~, #x.yaml#, 4913 of vim, x.yaml.tmp, x.yaml.dpkg-new).
func objectName(name string) (stem string, format native.Format, ok bool) {
	if ignoredName(name) {
		return "", 0, false
	}
	extension := filepath.Ext(name)
	switch extension {
	case ".yaml", ".yml":
		format = native.YAML
	case ".json":
		format = native.JSON
	default:
		return "", 0, false
	}
	return strings.TrimSuffix(name, extension), format, true
}

// ignoredName reports whether a file is hidden or has a name that tools use for temporary files and backups.
func ignoredName(name string) bool {
	switch {
	case name == "" || name == "4913":
		return true
	case name[0] == '.' || name[0] == '#':
		return true
	case strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".tmp"):
		return true
	}
	return strings.Contains(name, ".dpkg-")
}

// isSwapName reports whether Kubernetes uses the name in a volume to replace the content in one step (`..data`).
func isSwapName(name string) bool { return strings.HasPrefix(name, "..") }
