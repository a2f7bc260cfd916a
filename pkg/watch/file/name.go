package file

import (
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// extensions are the endings of an object's file.
var extensions = []string{".yaml", ".yml", ".json"}

// objectName takes a file's name apart; false for what is no object: a file of another ending, or one that an editor or
// a copy tool makes on its way (.x.yaml.swp, .#x.yaml, .x.yaml.Qk3dTz of rsync, x.yaml~, #x.yaml#, 4913 of vim, x.yaml.tmp,
// x.yaml.dpkg-new).
func objectName(name string) (stem string, format native.Format, ok bool) {
	if passing(name) {
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

// passing says whether a name is one that tools use on their way, or that is hidden.
func passing(name string) bool {
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

// swapName says whether a name is one that a volume of Kubernetes switches its content with (`..data`).
func swapName(name string) bool { return strings.HasPrefix(name, "..") }
