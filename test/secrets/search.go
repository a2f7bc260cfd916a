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

// search looks for all forms of all keys at once, by their first 8 bytes.
type search struct {
	keys    *keys
	pairs   [1 << 16]bool // the first two bytes of them: most texts end here
	starts  map[[least]byte][]pattern
	longest int
	bytes   int64
	finds   []string
}

type pattern struct {
	form
	key key
}

func newSearch(known *keys) *search {
	s := &search{keys: known, starts: map[[least]byte][]pattern{}}
	for _, k := range known.list {
		for _, f := range forms(k.text) {
			start := [least]byte([]byte(f.text))
			s.starts[start] = append(s.starts[start], pattern{f, k})
			s.pairs[int(start[0])<<8|int(start[1])] = true
			s.longest = max(s.longest, len(f.text))
		}
	}
	return s
}

// text searches one text and reports whether it is free of keys.
func (s *search) text(what string, text []byte) bool {
	s.bytes += int64(len(text))
	clean := true
	for i := 0; i+least <= len(text); i++ {
		if !s.pairs[int(text[i])<<8|int(text[i+1])] {
			continue
		}
		for _, p := range s.starts[[least]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], []byte(p.form.text)) {
				clean = false
				s.found(what, p, text[max(0, i-60):i])
			}
		}
	}
	return clean
}

// found notes a key by where it comes from, and what stood before it, without any key.
func (s *search) found(what string, p pattern, before []byte) {
	for _, k := range s.keys.list {
		for _, f := range forms(k.text) {
			before = bytes.ReplaceAll(before, []byte(f.text), []byte("[key]"))
		}
	}
	find := fmt.Sprintf("%s: a key of %d bytes, %s, from %s, after %q", what, len(p.key.text), p.form.name, p.key.origin, before)
	if !slices.Contains(s.finds, find) {
		s.finds = append(s.finds, find)
	}
}

// stream searches what need not fit into memory.
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
		// A key may go across.
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
		s.finds = append(s.finds, "could not be searched: "+err.Error())
	}
}

// output searches what a program prints.
func (s *search) output(name string, args ...string) {
	cmd := exec.Command(name, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
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
		s.finds = append(s.finds, fmt.Sprintf("could not be searched: %s: %v: %s", name, err, complaint.String()))
	}
}

// Where programs put what they do not want to keep, or what they died with.
var temporary = []string{"tmp", "var/tmp", "dev/shm", "run", "var/log", "var/crash", "var/lib/systemd/coredump"}

// Among these what holds keys by design, where only the files are searched that others can read; the journal, which is read as
// a whole; namespaces.
var apart = []string{containers, "run/log/journal", "var/log/journal", "run/guest", "run/netns"}

// nsdb is the name of a folder that a test has for its NSDB, where the keys come from.
const nsdb = "nsdb"

// left searches the journal, the units, and the files that were written since.
func (s *search) left(root string, since time.Time) {
	s.output("journalctl", "--quiet", "--no-pager", "--all", "-o", "export", fmt.Sprintf("--since=@%d", since.Unix()))
	s.output("systemctl", "show", "--all", "svc-*")
	for _, path := range openFiles(root) {
		s.file(path)
	}
	for _, folder := range temporary {
		_ = filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // gone meanwhile
			}
			if d.IsDir() && (d.Name() == nsdb || slices.ContainsFunc(apart, func(f string) bool { return path == filepath.Join(root, f) })) {
				return fs.SkipDir
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() && !info.ModTime().Before(since) {
				s.file(path)
			}
			return nil
		})
	}
}

// report prints a line for each find, or one that tells how much was searched, and answers with an exit code.
func (s *search) report(w io.Writer, where string) int {
	for _, find := range s.finds {
		fmt.Fprintln(w, "not ok secrets:", find)
	}
	if len(s.finds) > 0 {
		return 1
	}
	if len(s.keys.list) == 0 {
		fmt.Fprintln(w, "not ok secrets: no key was found to search for")
		return 1
	}
	fmt.Fprintf(w, "# secrets: none of %d keys is in %s: %.1f MB\n", len(s.keys.list), where, float64(s.bytes)/1e6)
	return 0
}
