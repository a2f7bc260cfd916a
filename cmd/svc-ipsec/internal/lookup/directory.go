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

// KeyDirectoryFile contains one line, the directory below which all key and certificate files must be. The setting is a
// file and not an environment variable, because plugins do not get the operator's variables.
const KeyDirectoryFile = "/etc/svc-supervisor/key-directory"

// maxPath is larger than the maximum length of a path in the kernel.
const maxPath = 4096

// OpenKeyFiles returns a KeyFiles for the directory in the file configuration. If that file does not exist, no
// directory is configured. If the file is invalid, or if other users than root can write to it, the KeyFiles refuses
// all key files, because the operator intended to restrict them.
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

// readKeyDirectory returns the directory in the file configuration, with its symbolic links resolved and as it is
// written in the file.
func readKeyDirectory(configuration string) (directory, configured string, err error) {
	anywhere := &KeyFiles{directory: "/", unexpected: map[string]bool{}}
	content, err := anywhere.Read(configuration, maxPath, false)
	if err != nil {
		return "", "", err
	}
	line := strings.TrimSuffix(string(content), "\n")
	configured = filepath.Clean(line)
	if !filepath.IsAbs(line) || configured != line && configured+"/" != line ||
		strings.ContainsFunc(line, unicode.IsControl) {
		return "", "", errors.New("not one line with an absolute directory: allowed: one line, like /etc/keys")
	}
	directory, info, err := anywhere.resolve(configured)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", configured, err)
	}
	if !info.IsDir() || !ownedByRoot(info) {
		return "", "", fmt.Errorf("%s: is not a directory that root owns: allowed: a directory that root owns",
			configured)
	}
	return directory, configured, nil
}
