package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// search searches texts for all forms of all keys at once. It finds candidates by their first 8 bytes.
type search struct {
	keys     *keys
	pairs    [1 << 16]bool // the first two bytes of the forms, a quick check that excludes most positions
	starts   map[[minLength]byte][]pattern
	longest  int
	bytes    int64
	findings []string
}

type pattern struct {
	form
	key key
}

func newSearch(known *keys) *search {
	s := &search{keys: known, starts: map[[minLength]byte][]pattern{}}
	for _, k := range known.list {
		for _, f := range forms(k.text) {
			start := [minLength]byte([]byte(f.text))
			s.starts[start] = append(s.starts[start], pattern{f, k})
			s.pairs[int(start[0])<<8|int(start[1])] = true
			s.longest = max(s.longest, len(f.text))
		}
	}
	return s
}

// text searches one text and reports whether it contains no key.
func (s *search) text(what string, text []byte) bool {
	s.bytes += int64(len(text))
	clean := true
	for i := 0; i+minLength <= len(text); i++ {
		if !s.pairs[int(text[i])<<8|int(text[i+1])] {
			continue
		}
		for _, p := range s.starts[[minLength]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], []byte(p.form.text)) {
				clean = false
				s.found(what, p, text[max(0, i-60):i])
			}
		}
	}
	return clean
}

// found adds a finding: the origin of the key and the text before it, in which keys are replaced.
func (s *search) found(what string, p pattern, before []byte) {
	for _, k := range s.keys.list {
		for _, f := range forms(k.text) {
			before = bytes.ReplaceAll(before, []byte(f.text), []byte("[key]"))
		}
	}
	finding := fmt.Sprintf("%s: a key of %d bytes, %s, from %s, after %q",
		what, len(p.key.text), p.form.name, p.key.origin, before)
	if !slices.Contains(s.findings, finding) {
		s.findings = append(s.findings, finding)
	}
}

// stream searches a text of any size in parts of at most 1 MiB.
func (s *search) stream(what string, r io.Reader) error {
	buffer := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := io.ReadFull(r, buffer[kept:])
		whole := buffer[:kept+n]
		s.text(what, whole)
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil
			}
			return err
		}
		// A key may cross the boundary between two parts, so the end of this part is searched again with the next one.
		kept = copy(buffer, whole[len(whole)-min(s.longest-1, len(whole)):])
	}
}

func (s *search) file(path string) {
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		err = s.stream(path, file)
	}
	if err != nil && !os.IsNotExist(err) {
		s.findings = append(s.findings, "could not be searched: "+err.Error())
	}
}

// output runs a program and searches its output.
func (s *search) output(name string, args ...string) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	printed, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = s.stream(name+" "+strings.Join(args, " "), printed)
		if ended := cmd.Wait(); err == nil {
			err = ended
		}
	}
	if err != nil {
		s.findings = append(s.findings, fmt.Sprintf("could not be searched: %s: %v: %s", name, err, stderr.String()))
	}
}

// temporary are the directories of temporary files, logs and core dumps.
var temporary = []string{"tmp", "var/tmp", "dev/shm", "run", "var/log", "var/crash", "var/lib/systemd/coredump"}

// excluded are directories below temporary that are not searched: that of the containers, whose exposed files are
// searched separately; the journal, which is read by journalctl; the mounts of namespaces.
var excluded = []string{containers, "run/log/journal", "var/log/journal", "run/guest", "run/netns"}

// nsdb is the name of the directory that a test uses as its NSDB. It contains the keys by design.
const nsdb = "nsdb"

// remaining searches the journal, the units, and the temporary files that were written since the given time.
func (s *search) remaining(root string, since time.Time) {
	s.output("journalctl", "--quiet", "--no-pager", "--all", "-o", "export", fmt.Sprintf("--since=@%d", since.Unix()))
	s.output("systemctl", "show", "--all", "svc-*")
	for _, path := range exposedFiles(root) {
		s.file(path)
	}
	for _, directory := range temporary {
		_ = filepath.WalkDir(filepath.Join(root, directory), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // the file was removed since
			}
			isExcluded := func(directory string) bool { return path == filepath.Join(root, directory) }
			if d.IsDir() && (d.Name() == nsdb || slices.ContainsFunc(excluded, isExcluded)) {
				return fs.SkipDir
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() && !info.ModTime().Before(since) {
				s.file(path)
			}
			return nil
		})
	}
}

// report prints a line for each finding, or one line with the amount of searched data. It returns the exit code: 1 if
// there are findings, or if no keys are known, otherwise 0.
func (s *search) report(w io.Writer, where string) int {
	for _, finding := range s.findings {
		fmt.Fprintln(w, "not ok secrets:", finding)
	}
	if len(s.findings) > 0 {
		return 1
	}
	if len(s.keys.list) == 0 {
		fmt.Fprintln(w, "not ok secrets: no keys are known, so nothing was searched")
		return 1
	}
	fmt.Fprintf(w, "# secrets: none of %d keys is in %s: %.1f MB\n", len(s.keys.list), where, float64(s.bytes)/1e6)
	return 0
}
