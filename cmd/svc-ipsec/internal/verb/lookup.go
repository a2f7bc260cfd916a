package verb

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// lookUpReferences reads the key files and certificates, and resolves the peer names, that the configuration refers to.
// If one is missing, only the connections that need it are affected. The value that the last successful ADD found is
// then used, so that an edit of another connection does not interrupt a tunnel.
func (c *change) lookUpReferences(ctx context.Context) {
	last, wanted, now := c.recorded.Found.Config(), c.request.configuration, time.Now()
	if c.keys == nil {
		c.keys = lookup.OpenKeyFiles(c.KeyDirectory)
	}
	wanted.Found = config.Found{
		Files:        readKeys(c.keys, wanted.PSKFiles(), last.Files),
		Certificates: c.readCertificates(wanted.Certificates(), last.Certificates, now),
		Names:        c.lookUpPeers(ctx, last.Names),
		At:           now,
	}
}

func (c *change) warnOfKeyFiles() {
	for _, path := range c.keys.Unexpected() {
		c.Log.Warn("a key file is outside of /etc/svc-supervisor: name the directory of key files in "+c.KeyDirectory,
			slog.String("container", string(c.request.owner.Name)), slog.String("file", path))
	}
}

// readKeys reads files with pre-shared keys. It removes one newline at the end, because editors add one; everything
// else is the key.
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
