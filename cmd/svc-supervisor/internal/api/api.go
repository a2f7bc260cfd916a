// Package api shows the containers, plugins and metrics of the supervisor over HTTP, on a UNIX socket that only root
// can open. The API is read-only.
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

// Containers is the response to GET /containers.
type Containers struct {
	Host       *reconcile.HostRow `json:"host,omitempty"` // nil if no supervisor answered
	Containers []reconcile.Row    `json:"containers"`
}

// Plugins is the response to GET /plugins.
type Plugins struct {
	Executables []Executable `json:"executables"`
	Refused     []Refused    `json:"refused"`
}

// Executable is an executable that can be used.
type Executable struct {
	Path          string `json:"path"`
	Type          string `json:"type"`
	Version       string `json:"version"`
	Reconfigure   bool   `json:"reconfigure"`
	UserNamespace bool   `json:"userNamespace,omitempty"` // requires a network namespace that a user namespace owns
	Selected      bool   `json:"selected"`
	Unready       string `json:"unready,omitempty"` // why STATUS failed; "" if it succeeded
}

// Refused is a file on the plugin path that is not used.
type Refused struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// View provides the content of GET /containers. Its methods are called concurrently.
type View interface {
	Rows() []reconcile.Row
	HostRow() reconcile.HostRow
}

// PluginsOf returns the response to GET /plugins for an inventory. The inventory lists the executables by type, the
// selected one of each type first.
func PluginsOf(inventory *plugin.Inventory) Plugins {
	executables, refusals := inventory.List()
	answer := Plugins{Executables: []Executable{}, Refused: []Refused{}}
	for i, e := range executables {
		answer.Executables = append(answer.Executables, Executable{
			Path: e.Found, Type: string(e.Type), Version: e.Version.String(),
			Reconfigure: e.Reconfigure, UserNamespace: e.UserNamespace,
			Selected: i == 0 || executables[i-1].Type != e.Type, Unready: e.Unready,
		})
	}
	for _, r := range refusals {
		answer.Refused = append(answer.Refused, Refused{r.Found, r.Reason})
	}
	return answer
}

// Serve serves the API on a socket at path until ctx is cancelled. It replaces an existing socket, which a killed
// supervisor left: the caller holds the lock of the state directory, so no other supervisor runs. metrics answers
// GET /metrics. wait blocks until the server has ended, and returns its error.
func Serve(
	ctx context.Context, path string, view View, inventory *plugin.Inventory, metrics http.Handler,
) (wait func() error, err error) {
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
	mux.Handle("GET /metrics", metrics)
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

// listenPrivately creates the socket under a temporary name, sets its mode to 0600, and renames it to path. So no other
// user can connect to path at any time.
func listenPrivately(path string) (net.Listener, error) {
	temporary := path + ".new"
	_ = os.Remove(temporary)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // Close would remove the temporary name
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(temporary))
	}
	return listener, nil
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // fails only if the client has closed the connection
}

var (
	// ErrNotRunning means that no supervisor listens on the socket.
	ErrNotRunning = errors.New("no supervisor runs")
	// ErrNoAnswer means that a supervisor listens on the socket but does not answer in time.
	ErrNoAnswer = errors.New("the supervisor does not answer")
)

// responseTimeout is how long Get waits for the supervisor.
const responseTimeout = 5 * time.Second

// Get sends GET /<list> to the supervisor on the socket and decodes the response into answer. list is `containers` or
// `plugins`. It returns ErrNotRunning if nothing listens on the socket, and ErrNoAnswer after responseTimeout.
func Get(ctx context.Context, socket, list string, answer any) error {
	timeout := fmt.Errorf("%w within %v", ErrNoAnswer, responseTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, responseTimeout, timeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://svc-supervisor/"+list, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "dial" && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNotRunning, refused.Err)
	}
	if err != nil {
		return timeoutOr(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return fmt.Errorf("request to %s: %s: %s", socket, response.Status, bytes.TrimSpace(body))
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return timeoutOr(ctx, fmt.Errorf("response from %s: %w", socket, err))
	}
	return nil
}

// timeoutOr returns ErrNoAnswer with the time limit if the limit of Get has passed, and err otherwise. The error of the
// interrupted operation would not name the cause.
func timeoutOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrNoAnswer) {
		return cause
	}
	return err
}
