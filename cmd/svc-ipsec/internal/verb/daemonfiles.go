package verb

import (
	"fmt"
	"path/filepath"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// secretsFile is the path of the file of keys, relative to the container's directory.
const secretsFile = "etc/ipsec.secrets"

// connFile returns the path of a conn's file, relative to the container's directory.
func connFile(conn string) string { return filepath.Join("conns", conn+".conf") }

// daemonFiles writes and removes the files that the daemon reads. They are in the container's directory.
type daemonFiles struct{ dir *state.Directory }

// writeSettings writes the files of the daemon, except those of the conns. newKeys reports whether the file of keys
// changed.
func (f daemonFiles) writeSettings(files libreswan.Files, wanted []*config.Connection) (newKeys bool, err error) {
	if err := f.makeDirectories(); err != nil {
		return false, err
	}
	settings, all := render.Setup(render.Paths{
		NSS: files.NSS(), Secrets: files.Secrets(), Conns: files.Conns(), Run: files.Run(), Empty: files.Empty(),
	})
	for path, content := range map[string][]byte{files.Settings(): settings, files.Setup(): all} {
		if _, err := f.dir.Files().WriteShared(filepath.Join("etc", filepath.Base(path)), content); err != nil {
			return false, err
		}
	}
	return f.writeKeys(wanted)
}

func (f daemonFiles) makeDirectories() error {
	for _, name := range []string{"etc", "etc/ipsec.d", "conns"} {
		if err := f.dir.Files().SharedDir(name); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := f.dir.Files().OwnedDir("run"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// writeKeys writes the file with the pre-shared keys of connections.
func (f daemonFiles) writeKeys(connections []*config.Connection) (changed bool, err error) {
	return f.dir.Files().WriteShared(secretsFile, render.Secrets(connections))
}

// writeConns writes the files of the conns that are not refused, and deletes those of the refused ones.
func (f daemonFiles) writeConns(conns []endpoint.Conn, refused map[string]string) error {
	for _, conn := range conns {
		name := connFile(conn.Name)
		if _, isRefused := refused[conn.Name]; isRefused {
			if err := f.dir.Files().Delete(name); err != nil {
				return err
			}
		} else if _, err := f.dir.Files().WriteShared(name, conn.Text); err != nil {
			return err
		}
	}
	return nil
}

func (f daemonFiles) removeConns(conns []string) error {
	for _, conn := range conns {
		if err := f.dir.Files().Delete(connFile(conn)); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes all files of a daemon that was stopped.
func (f daemonFiles) removeAll() error {
	for _, name := range []string{"etc", "conns", "run", "nss"} {
		if err := f.dir.Files().Delete(name); err != nil {
			return err
		}
	}
	return nil
}
