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

// Exposure is a directory of the NSDB that users other than root can write, or a file with keys that they can read. It
// is not a fault: the supervisor uses the objects all the same.
type Exposure struct {
	Path   string // absolute
	Reason string // the problem, and how to solve it
}

// String returns one line with path and reason.
func (e Exposure) String() string {
	return printable(e.Path) + ": " + e.Reason
}

// exposedDirectory reports whether users other than root and the user of this process can write a directory.
func exposedDirectory(path string, s signature) (Exposure, bool) {
	if ownedByRootOrUser(s) && s.mode.Perm()&0o022 == 0 {
		return Exposure{}, false
	}
	return Exposure{path, fmt.Sprintf("others than root can write the directory (mode %04o, owner %d), "+
		"and so decide what runs here: chown it to root and chmod it to 0755", s.mode.Perm(), s.owner)}, true
}

// exposedKeyFile reports whether users other than root and the user of this process can read a file that contains keys.
func exposedKeyFile(path string, s signature) (Exposure, bool) {
	if ownedByRootOrUser(s) && s.mode.Perm()&0o077 == 0 {
		return Exposure{}, false
	}
	return Exposure{path, fmt.Sprintf("others than root can read the keys in the file (mode %04o, owner %d): "+
		"chown it to root, chmod it to 0600 and replace the keys", s.mode.Perm(), s.owner)}, true
}

func ownedByRootOrUser(s signature) bool {
	return s.owner == 0 || int(s.owner) == os.Geteuid()
}

// Exposures lists the exposed directories and files of an NSDB directory, for all hosts, sorted by path.
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
	directories := []string{
		".", native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config,
		native.Config + "/" + native.Hosts,
	}
	hosts, _ := files.list(native.Bindings)
	for _, host := range hosts {
		directories = append(directories, string(native.BindingsKey(spec.HostID(host.Name()))))
	}
	var exposures []Exposure
	for _, name := range directories {
		stat, err := files.stat(name)
		if err != nil || !stat.IsDir() {
			continue
		}
		if e, exposed := exposedDirectory(filepath.Join(dir, name), signatureOf(stat)); exposed {
			exposures = append(exposures, e)
		}
	}
	configurations, _ := files.names(native.Configurations)
	for _, stem := range configurations {
		candidates := files.candidates(native.Configurations+"/"+stem, false)
		for _, s := range candidates {
			name := native.Configurations + "/" + s.name
			e, exposed := exposedKeyFile(filepath.Join(dir, name), s.signature)
			if s.problem != "" || !exposed {
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

func sortedExposures(list []Exposure) []Exposure {
	slices.SortFunc(list, func(a, b Exposure) int { return strings.Compare(a.Path, b.Path) })
	return slices.Compact(list)
}

// exposureLog logs each exposure once. It logs it again if its reason changes, or if it disappears and comes back.
type exposureLog struct {
	log    *slog.Logger
	logged map[Exposure]bool
}

func (l *exposureLog) update(exposures []Exposure) {
	now := make(map[Exposure]bool, len(exposures))
	for _, e := range exposures {
		now[e] = true
		if !l.logged[e] {
			l.log.Warn("NSDB is exposed", "path", e.Path, "reason", e.Reason)
		}
	}
	l.logged = now
}
