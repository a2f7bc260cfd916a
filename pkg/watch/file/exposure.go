package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Exposure is a directory of the NSDB that others than root can write, or a file with keys that others can read. It is no
// fault: what the objects say is done all the same.
type Exposure struct {
	Path   string // absolute
	Reason string // what is wrong, and what to do
}

// String is one line.
func (e Exposure) String() string {
	return printable(e.Path) + ": " + e.Reason
}

// exposedDirectory reports whether others than root, or than the user of this process, can write a directory.
func exposedDirectory(path string, s signature) (Exposure, bool) {
	if ownedByUs(s) && s.mode.Perm()&0o022 == 0 {
		return Exposure{}, false
	}
	return Exposure{path, fmt.Sprintf("others than root can write the directory (mode %04o, owner %d), and so decide what runs here: "+
		"chown it to root and chmod it to 0755", s.mode.Perm(), s.owner)}, true
}

// exposedKeys reports whether others than root, or than the user of this process, can read a file that holds keys.
func exposedKeys(path string, s signature) (Exposure, bool) {
	if ownedByUs(s) && s.mode.Perm()&0o077 == 0 {
		return Exposure{}, false
	}
	return Exposure{path, fmt.Sprintf("others than root can read the keys in the file (mode %04o, owner %d): "+
		"chown it to root, chmod it to 0600 and replace the keys", s.mode.Perm(), s.owner)}, true
}

func ownedByUs(s signature) bool {
	return s.owner == 0 || int(s.owner) == os.Geteuid()
}

// Exposures lists what is exposed in a whole NSDB directory, of all hosts, sorted by path.
func Exposures(dir string) ([]Exposure, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	files, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("NSDB directory %s: %s", dir, cause(err))
	}
	defer files.close()
	folders := []string{
		".", native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config, native.Config + "/" + native.Hosts,
	}
	hosts, _ := files.list(native.Bindings)
	for _, host := range hosts {
		folders = append(folders, string(native.BindingsKey(spec.HostID(host.Name()))))
	}
	var exposures []Exposure
	for _, name := range folders {
		stat, err := files.stat(name)
		if err != nil || !stat.IsDir() {
			continue
		}
		if e, exposed := exposedDirectory(filepath.Join(dir, name), sign(stat)); exposed {
			exposures = append(exposures, e)
		}
	}
	configurations, _ := files.names(native.Configurations)
	for _, stem := range configurations {
		sights := files.see(native.Configurations+"/"+stem, false)
		for _, s := range sights {
			name := native.Configurations + "/" + s.name
			e, exposed := exposedKeys(filepath.Join(dir, name), s.signature)
			if s.fault != "" || !exposed {
				continue
			}
			text, _, err := files.read(name, s.signature)
			_, format, _ := objectName(s.name)
			if document, parseErr := native.Parse(text, format); err == nil && parseErr == nil && document.HoldsKeys() {
				exposures = append(exposures, e)
			}
		}
	}
	return sortedExposures(exposures), nil
}

// exposures lists what is exposed of what the last look read.
func (t *tree) exposures() []Exposure {
	var exposures []Exposure
	for name, s := range t.folders {
		if !s.mode.IsDir() {
			continue // it is not there
		}
		if e, exposed := exposedDirectory(t.path(native.Key(name)), s); exposed {
			exposures = append(exposures, e)
		}
	}
	for key, b := range t.beliefs {
		if !b.keys || !strings.HasPrefix(string(key), native.Configurations+"/") {
			continue
		}
		path := filepath.Join(filepath.Dir(t.path(key)), b.sights[0].name)
		if e, exposed := exposedKeys(path, b.sights[0].signature); exposed {
			exposures = append(exposures, e)
		}
	}
	return sortedExposures(exposures)
}

func sortedExposures(list []Exposure) []Exposure {
	slices.SortFunc(list, func(a, b Exposure) int { return strings.Compare(a.Path, b.Path) })
	return slices.Compact(list)
}

// exposureLog logs each exposure once, and again when it is another one or came back.
type exposureLog struct {
	log   *slog.Logger
	known map[Exposure]bool
}

func (l *exposureLog) follow(exposures []Exposure) {
	now := make(map[Exposure]bool, len(exposures))
	for _, e := range exposures {
		now[e] = true
		if !l.known[e] {
			l.log.Warn("NSDB is exposed", "path", e.Path, "reason", e.Reason)
		}
	}
	l.known = now
}
