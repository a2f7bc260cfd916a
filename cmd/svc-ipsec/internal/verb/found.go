package verb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/container"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// foundFile keeps what the last good ADD found outside of its configuration. CHECK, and the ADD that changes a container,
// go by it: what the files hold by then is another matter.
const foundFile = "found.json"

// foundVersion is the format of that file.
const foundVersion = 1

type keptFound struct {
	Version int                 `json:"version"`
	Files   map[string]keptFile `json:"files,omitempty"`
}

type keptFile struct {
	Content []byte `json:"content,omitempty"`
	Fault   string `json:"fault,omitempty"`
}

// look finds what the configuration points at. What cannot be found is no fault of the container, but of the connections
// that need it.
func (c *change) look() {
	c.request.configuration.Found = config.Found{Files: readKeys(c.request.configuration.PSKFiles())}
}

// readKeys reads pre-shared keys. An editor ends a file with a newline: one is taken off, and everything else is the key.
func readKeys(paths []string) map[string]config.File {
	files := map[string]config.File{}
	for _, path := range paths {
		content, err := lookup.File(path, config.MaxSecret+1, true)
		content = bytes.TrimSuffix(content, []byte("\n"))
		if err == nil && (len(content) == 0 || len(content) > config.MaxSecret) {
			err = fmt.Errorf("%d bytes: allowed: 1 to %d, less one newline at the end", len(content), config.MaxSecret)
		}
		if err != nil {
			files[path] = config.File{Fault: err.Error()}
			continue
		}
		files[path] = config.File{Content: spec.NewSecret(content)}
	}
	return files
}

// setFound keeps what was found. It holds secrets.
func (c *change) setFound() error {
	kept := keptFound{Version: foundVersion, Files: map[string]keptFile{}}
	for path, file := range c.request.configuration.Found.Files {
		kept.Files[path] = keptFile{Content: file.Content.Reveal(), Fault: file.Fault}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	_, err = c.folder.Write(foundFile, text)
	return err
}

// recallFound reads back what the last good ADD found; nothing, if there was none.
func recallFound(f *container.Folder) (config.Found, error) {
	found := config.Found{Files: map[string]config.File{}}
	text, err := os.ReadFile(filepath.Join(f.Path, foundFile))
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	var kept keptFound
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err == nil && kept.Version > foundVersion {
		err = fmt.Errorf("version %d is newer than this program's %d", kept.Version, foundVersion)
	}
	if err != nil {
		return found, fmt.Errorf("read what was found: %w", err)
	}
	for path, file := range kept.Files {
		found.Files[path] = config.File{Content: spec.NewSecret(file.Content), Fault: file.Fault}
	}
	return found, nil
}
