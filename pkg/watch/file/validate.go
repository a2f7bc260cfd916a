package file

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Finding is one fault in an NSDB directory.
type Finding struct {
	File    string // relative to the directory
	Key     string // inside the object; "" for the object as a whole
	Wrong   string // the fault
	Allowed string // what is allowed; "" if Wrong includes it
}

// String returns one line with file, key, fault, and what is allowed.
func (f Finding) String() string {
	text := f.File + ": "
	if f.Key != "" {
		text += f.Key + " "
	}
	text += f.Wrong
	if f.Allowed != "" {
		text += ": allowed: " + f.Allowed
	}
	return text
}

// Validate returns all faults in an NSDB directory, for all hosts, sorted by file. It reads the files once and does not
// wait for files that are being written. It returns an error only if the directory itself cannot be read.
func Validate(dir string) ([]Finding, error) {
	findings, _, err := ValidateObjects(dir)
	return findings, err
}

// Object is an object without faults and its file.
type Object struct {
	File     string // relative to the directory
	Document *native.Document
}

// ValidateObjects does the same as Validate, and also returns the objects without faults.
func ValidateObjects(dir string) ([]Finding, map[native.Key]Object, error) {
	files, err := openDirectory(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("NSDB directory %s: %s", dir, cause(err))
	}
	defer files.close()
	entries, err := files.list(".")
	if err != nil {
		return nil, nil, fmt.Errorf("NSDB directory %s: %s", dir, cause(err))
	}
	v := newValidator(files)
	v.checkTopLevel(entries)
	v.readAll()
	v.checkReferences()
	slices.SortFunc(v.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Wrong, b.Wrong))
	})
	return slices.Compact(v.findings), v.valid, nil
}

// checkTopLevel reports objects and directories in the NSDB directory itself that are never read.
func (v *validator) checkTopLevel(entries []fs.DirEntry) {
	directories := []string{
		native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config,
		native.Status,
	}
	for _, entry := range entries {
		name := entry.Name()
		_, _, isObject := objectName(name)
		switch {
		case ignoredName(name) || slices.Contains(directories, name):
		case isObject:
			v.report(Finding{name, "", "is in no folder", "objects in " + strings.Join(directories, ", ")})
		case v.isDirectory(name):
			v.report(Finding{name, "", "is an unknown directory", strings.Join(directories, ", ")})
		}
	}
}

func (v *validator) isDirectory(name string) bool {
	stat, err := v.files.stat(name)
	return err == nil && stat.IsDir()
}

// objects calls visit for each object of a directory that can be parsed, and reports the faults of all objects.
func (v *validator) objects(
	directory native.Key, visit func(id, file string, document *native.Document) native.Faults,
) {
	for _, stem := range v.stems(directory, false) {
		key := directory + native.Key("/"+stem)
		candidates := v.files.candidates(string(key), false)
		if len(candidates) == 0 {
			continue // removed since the directory was listed
		}
		v.exists[key] = true
		if len(candidates) > 1 {
			for _, s := range candidates {
				v.report(Finding{File: string(directory) + "/" + s.name, Wrong: duplicateFiles(candidates).Error()})
			}
			continue
		}
		file := string(directory) + "/" + candidates[0].name
		document, err := v.parse(file, candidates[0])
		if err != nil {
			v.report(Finding{File: file, Wrong: err.Error()})
			continue
		}
		faults := visit(stem, file, document).All()
		for _, fault := range faults {
			v.report(Finding{file, fault.Key, spec.Quote(fault.Value), fault.Allowed})
		}
		if len(faults) == 0 {
			v.valid[key] = Object{file, document}
		}
	}
}

// stems lists the ids of the objects in a directory, or with ofDirectories the names of its subdirectories. It reports
// entries that are of another kind or have an invalid id.
func (v *validator) stems(directory native.Key, ofDirectories bool) (stems []string) {
	entries, err := v.files.list(string(directory))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.report(Finding{File: string(directory), Wrong: "cannot be listed: " + cause(err)})
	}
	for _, entry := range entries {
		name := entry.Name()
		if ignoredName(name) || directory == native.Config && name == native.Hosts {
			continue
		}
		file := string(directory) + "/" + name
		stem, _, isObject := objectName(name)
		switch {
		case ofDirectories && v.isDirectory(file):
			stem = name
		case ofDirectories:
			wrong := "is not a directory"
			if _, err := v.files.stat(file); err != nil {
				wrong = cause(err)
			}
			v.report(Finding{file, "", wrong, "a directory for each host"})
			continue
		case !isObject:
			v.report(Finding{file, "", "is no object", "files that end in " + strings.Join(extensions, ", ")})
			continue
		}
		var fault *spec.Fault
		if _, err := spec.ParseID[string]("id", stem); errors.As(err, &fault) {
			v.report(Finding{file, "", "has a name that is not an id", fault.Allowed})
			continue
		}
		stems = append(stems, stem)
	}
	slices.Sort(stems)
	return slices.Compact(stems)
}

func (v *validator) parse(file string, found candidate) (*native.Document, error) {
	if found.problem != "" {
		return nil, errors.New(strings.TrimPrefix(found.problem, found.name+": "))
	}
	value, _, err := v.files.read(file, found.signature)
	if err != nil {
		return nil, err
	}
	_, format, _ := objectName(found.name)
	return native.Parse(value, format)
}
