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

// Finding is one fault of an NSDB directory.
type Finding struct {
	File    string // below the directory
	Key     string // inside the object; "" for the object as a whole
	Wrong   string
	Allowed string // "" where Wrong says it
}

// String is one line: file, key, what is wrong, what is allowed.
func (f Finding) String() string {
	line := f.File + ": "
	if f.Key != "" {
		line += f.Key + " "
	}
	line += f.Wrong
	if f.Allowed != "" {
		line += ": allowed: " + f.Allowed
	}
	return line
}

// Validate reports every fault of a whole NSDB directory, of all hosts, sorted by file. It looks once and waits for
// nobody who is writing. The error says that the directory itself cannot be read.
func Validate(dir string) ([]Finding, error) {
	findings, _, err := ValidateObjects(dir)
	return findings, err
}

// Object is an object without a fault, and the file that holds it.
type Object struct {
	File     string // below the directory
	Document *native.Document
}

// ValidateObjects does what Validate does, and returns the objects that have no fault.
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
	c := newCensus(files)
	c.outermost(entries)
	c.count()
	c.compare()
	slices.SortFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Wrong, b.Wrong))
	})
	return slices.Compact(c.findings), c.good, nil
}

// outermost reports what stands in the directory and is read by nobody.
func (c *census) outermost(entries []fs.DirEntry) {
	folders := []string{
		native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config, native.Status,
	}
	for _, entry := range entries {
		name := entry.Name()
		_, _, isObject := objectName(name)
		switch {
		case passing(name) || slices.Contains(folders, name):
		case isObject:
			c.find(Finding{name, "", "is in no folder", "objects in " + strings.Join(folders, ", ")})
		case c.isFolder(name):
			c.find(Finding{name, "", "is a folder that nobody reads", strings.Join(folders, ", ")})
		}
	}
}

func (c *census) isFolder(name string) bool {
	stat, err := c.files.stat(name)
	return err == nil && stat.IsDir()
}

// objects calls visit for every object of a folder that can be parsed, and reports the others.
func (c *census) objects(folder native.Key, visit func(id, file string, document *native.Document) native.Faults) {
	for _, stem := range c.stems(folder, false) {
		key := folder + native.Key("/"+stem)
		sights := c.files.see(string(key), false)
		if len(sights) == 0 {
			continue // gone meanwhile
		}
		c.exists[key] = true
		if len(sights) > 1 {
			for _, s := range sights {
				c.find(Finding{File: string(folder) + "/" + s.name, Wrong: twoFiles(sights).Error()})
			}
			continue
		}
		file := string(folder) + "/" + sights[0].name
		document, err := c.parse(file, sights[0])
		if err != nil {
			c.find(Finding{File: file, Wrong: err.Error()})
			continue
		}
		faults := visit(stem, file, document).All()
		for _, fault := range faults {
			c.find(Finding{file, fault.Key, spec.Quote(fault.Value), fault.Allowed})
		}
		if len(faults) == 0 {
			c.good[key] = Object{file, document}
		}
	}
}

// stems lists the names of a folder's objects, or of its folders, whose ids are good, and reports what else is in it.
func (c *census) stems(folder native.Key, ofFolders bool) (stems []string) {
	entries, err := c.files.list(string(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.find(Finding{File: string(folder), Wrong: "cannot be listed: " + cause(err)})
	}
	for _, entry := range entries {
		name := entry.Name()
		if passing(name) || folder == native.Config && name == native.Hosts {
			continue
		}
		file := string(folder) + "/" + name
		stem, _, isObject := objectName(name)
		switch {
		case ofFolders && c.isFolder(file):
			stem = name
		case ofFolders:
			wrong := "is not a folder"
			if _, err := c.files.stat(file); err != nil {
				wrong = cause(err)
			}
			c.find(Finding{file, "", wrong, "a folder for each host"})
			continue
		case !isObject:
			c.find(Finding{file, "", "is no object", "files that end in " + strings.Join(extensions, ", ")})
			continue
		}
		var fault *spec.Fault
		if _, err := spec.ParseID[string]("id", stem); errors.As(err, &fault) {
			c.find(Finding{file, "", "is not named by an id", fault.Allowed})
			continue
		}
		stems = append(stems, stem)
	}
	slices.Sort(stems)
	return slices.Compact(stems)
}

func (c *census) parse(file string, seen sight) (*native.Document, error) {
	if seen.fault != "" {
		return nil, errors.New(strings.TrimPrefix(seen.fault, seen.name+": "))
	}
	value, _, err := c.files.read(file, seen.signature)
	if err != nil {
		return nil, err
	}
	_, format, _ := objectName(seen.name)
	return native.Parse(value, format)
}
