package verb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

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
	Names   map[string]keptName `json:"names,omitempty"`
	// A list: its keys are objects.
	Certificates []keptCertificate `json:"certificates,omitempty"`
	At           time.Time         `json:"at"`
}

type keptFile struct {
	Content []byte `json:"content,omitempty"`
	Fault   string `json:"fault,omitempty"`
}

type keptName struct {
	Address netip.Addr `json:"address"`
	Fault   string     `json:"fault,omitempty"`
}

type keptCertificate struct {
	Files config.CertificateFiles `json:"files"`
	Found config.Certificate      `json:"found"`
}

// look finds what the configuration points at. What cannot be found is no fault of the container, but of the connections
// that need it; what the last good ADD found stays in its place, so that an edit elsewhere costs no tunnel.
func (c *change) look(ctx context.Context) error {
	var err error
	if c.last, err = recallFound(c.folder); err != nil {
		return err
	}
	wanted, now := c.request.configuration, time.Now()
	c.keys = lookup.OpenKeyFiles(c.KeyDirectory)
	wanted.Found = config.Found{
		Files:        readKeys(c.keys, wanted.PSKFiles(), c.last.Files),
		Certificates: c.readCertificates(wanted.Certificates(), c.last.Certificates, now),
		Names:        c.lookUpPeers(ctx, c.last.Names),
		At:           now,
	}
	for _, path := range c.keys.Unexpected() {
		c.Log.Warn("a key file is outside of /etc/svc-supervisor: name the directory of key files in "+c.KeyDirectory,
			slog.String("container", string(c.request.owner.Name)), slog.String("file", path))
	}
	return nil
}

// readKeys reads pre-shared keys. An editor ends a file with a newline: one is taken off, and everything else is the key.
func readKeys(keys *lookup.KeyFiles, paths []string, last map[string]config.File) map[string]config.File {
	files := map[string]config.File{}
	for _, path := range paths {
		content, err := keys.Read(path, config.MaxSecret+1, true)
		content = bytes.TrimSuffix(content, []byte("\n"))
		if err == nil && (len(content) == 0 || len(content) > config.MaxSecret) {
			err = fmt.Errorf("%d bytes: allowed: 1 to %d, less one newline at the end", len(content), config.MaxSecret)
		}
		if err != nil {
			files[path] = config.File{Content: last[path].Content, Fault: err.Error()}
			continue
		}
		files[path] = config.File{Content: spec.NewSecret(content)}
	}
	return files
}

// setFound keeps what was found. It holds secrets.
func (c *change) setFound() error {
	found := c.request.configuration.Found
	kept := keptFound{Version: foundVersion, Files: map[string]keptFile{}, Names: map[string]keptName{}, At: found.At}
	for path, file := range found.Files {
		kept.Files[path] = keptFile{Content: file.Content.Reveal(), Fault: file.Fault}
	}
	for name, peer := range found.Names {
		kept.Names[name] = keptName(peer)
	}
	for files, certificate := range found.Certificates {
		kept.Certificates = append(kept.Certificates, keptCertificate{files, certificate})
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
	found := config.Found{Files: map[string]config.File{}, Names: map[string]config.Name{},
		Certificates: map[config.CertificateFiles]config.Certificate{}}
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
	for name, peer := range kept.Names {
		found.Names[name] = config.Name(peer)
	}
	for _, certificate := range kept.Certificates {
		found.Certificates[certificate.Files] = certificate.Found
	}
	found.At = kept.At
	return found, nil
}
