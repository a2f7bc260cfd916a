// Package api is the supervisor's view of its containers, read-only, as JSON over HTTP on a UNIX socket that only root can
// open. It shows what the supervisor knows now; it changes nothing.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
)

// Containers answers GET /containers.
type Containers struct {
	Host       *reconcile.HostRow `json:"host,omitempty"` // nil: no supervisor told it
	Containers []reconcile.Row    `json:"containers"`
}

// Plugins answers GET /plugins.
type Plugins struct {
	Executables []Executable `json:"executables"`
	Refused     []Refused    `json:"refused"`
}

// Executable is one usable executable.
type Executable struct {
	Path          string `json:"path"`
	Type          string `json:"type"`
	Version       string `json:"version"`
	Reconfigure   bool   `json:"reconfigure"`
	UserNamespace bool   `json:"userNamespace,omitempty"` // asks for a network namespace that is owned by a user namespace
	Selected      bool   `json:"selected"`
	Unready       string `json:"unready,omitempty"`
}

// Refused is a file that is not used.
type Refused struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// View is what the server shows.
type View interface {
	Rows() []reconcile.Row
	HostRow() reconcile.HostRow
}

// PluginsOf describes an inventory: the first of each type is the selected one.
func PluginsOf(inventory *plugin.Inventory) Plugins {
	executables, refusals := inventory.List()
	answer := Plugins{Executables: []Executable{}, Refused: []Refused{}}
	for i, e := range executables {
		answer.Executables = append(answer.Executables, Executable{
			Path: e.Found, Type: string(e.Type), Version: e.Version.String(), Reconfigure: e.Reconfigure, UserNamespace: e.UserNamespace,
			Selected: i == 0 || executables[i-1].Type != e.Type, Unready: e.Unready,
		})
	}
	for _, r := range refusals {
		answer.Refused = append(answer.Refused, Refused{r.Found, r.Reason})
	}
	return answer
}

// Serve serves on the socket until ctx ends. A socket that a killed supervisor left is replaced: the lock of the state
// directory says that none runs.
func Serve(ctx context.Context, path string, view View, inventory *plugin.Inventory) (wait func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	listener, err := listenPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers", func(w http.ResponseWriter, _ *http.Request) {
		rows := view.Rows()
		if rows == nil {
			rows = []reconcile.Row{}
		}
		host := view.HostRow()
		write(w, Containers{&host, rows})
	})
	mux.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) { write(w, PluginsOf(inventory)) })
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	return func() error {
		defer stop()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("api socket: %w", err)
		}
		return nil
	}, nil
}

// listenPrivately makes the socket under a name that nobody waits for, closes it to all but root, and renames it: at no
// moment can another user connect.
func listenPrivately(path string) (net.Listener, error) {
	temporary := path + ".new"
	_ = os.Remove(temporary)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by its old name
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(temporary))
	}
	return listener, nil
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // the client has gone
}

var (
	// ErrNotRunning means that no supervisor listens on the socket.
	ErrNotRunning = errors.New("no supervisor runs")
	// ErrNoAnswer means that a supervisor has the socket and does not answer.
	ErrNoAnswer = errors.New("the supervisor does not answer")
)

// patience is how long a supervisor may take to answer.
const patience = 5 * time.Second

// Get asks the supervisor on the socket for one of the two lists.
func Get(ctx context.Context, socket, what string, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w within %v", ErrNoAnswer, patience))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc-supervisor/"+what, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "dial" && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotRunning, refused.Err)
	}
	if err != nil {
		return answerFault(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return fmt.Errorf("ask %s: %s: %s", socket, response.Status, bytes.TrimSpace(body))
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return answerFault(ctx, fmt.Errorf("answer of %s: %w", socket, err))
	}
	return nil
}

// answerFault names the time limit instead of the operation that it ended.
func answerFault(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrNoAnswer) {
		return cause
	}
	return err
}
