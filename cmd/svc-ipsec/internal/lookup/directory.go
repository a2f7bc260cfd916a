package lookup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// KeyDirectoryFile holds one line, the directory below which files of keys and certificates must lie. A file, since an
// executable gets no variables of the operator's.
const KeyDirectoryFile = "/etc/svc-supervisor/key-directory"

// maxPath is longer than any path of the kernel's.
const maxPath = 4096

// OpenKeyFiles reads which directory is configured. Without the file there is none. A file that does not say it clearly, or
// that others than root could have written, refuses every key file: its owner meant to restrict them.
func OpenKeyFiles(configuration string) *KeyFiles {
	k := &KeyFiles{directory: "/", reserved: reserved, unexpected: map[string]bool{}}
	if _, err := os.Lstat(configuration); errors.Is(err, fs.ErrNotExist) {
		return k
	}
	directory, configured, err := readKeyDirectory(configuration)
	if err != nil {
		k.fault = fmt.Errorf("%s: %w", configuration, err)
		return k
	}
	k.directory, k.configured = directory, configured
	return k
}

func readKeyDirectory(configuration string) (directory, configured string, err error) {
	anywhere := &KeyFiles{directory: "/", unexpected: map[string]bool{}}
	content, err := anywhere.Read(configuration, maxPath, false)
	if err != nil {
		return "", "", err
	}
	line := strings.TrimSuffix(string(content), "\n")
	configured = filepath.Clean(line)
	if !filepath.IsAbs(line) || configured != line && configured+"/" != line || strings.ContainsFunc(line, unicode.IsControl) {
		return "", "", errors.New("not one line with an absolute directory: allowed: one line, like /etc/keys")
	}
	directory, info, err := anywhere.follow(configured)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", configured, err)
	}
	if !info.IsDir() || !roots(info) {
		return "", "", fmt.Errorf("%s: is not a directory of root's: allowed: a directory of root's", configured)
	}
	return directory, configured, nil
}
