package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	stateFile = "state.json"
	// version is the format version of state.json. Version 1 is the format of the files of release 0.1.0 (see old.go).
	version = 2
)

// State is all data that svc-ipsec stores of a container. It is a single file, so that several fields change
// atomically. The file contains secrets, and the daemon must not be able to read it.
type State struct {
	Version    int        `json:"version"` // set by Save
	Attachment Attachment `json:"attachment"`

	// UserID is the user and group id of the container, or 0 if release 0.1.0 created it.
	UserID uint32 `json:"userId,omitempty"`
	// View is the path of the mount view of the daemon that was started last, or "" if release 0.1.0 started it.
	View string `json:"view,omitempty"`
	// UserNamespace is true if a user namespace of UserID owns the network namespace of that daemon.
	UserNamespace bool `json:"userNamespace,omitempty"`
	// Configuration is the network configuration of the last successful ADD, without white space between its tokens. If
	// the first ADD of the container was interrupted, it is the network configuration of that ADD.
	Configuration json.RawMessage `json:"configuration,omitempty"`
	// Found holds the file contents and addresses that the last successful ADD read for its configuration.
	Found Found `json:"found"`
	// Refused holds the reasons why the daemon refused conns, by the name of the conn.
	Refused map[string]string `json:"refused,omitempty"`
	// Chosen holds the aliases of the connections that the last successful ADD selected to run, by their places in the
	// configuration. Of two connections that cannot run at the same time, the selected one is kept, even if the daemon
	// refused it, or if a later ADD removed it from the daemon and then failed.
	Chosen map[string]string `json:"chosen,omitempty"`
	Retry  Retry             `json:"retry"`
	// RefusedEdits holds the reasons why edits were refused, by the place of the connection in Configuration, or by
	// "configuration" if the configuration of ADD was refused as a whole. Configuration contains the last valid forms
	// instead of these edits.
	RefusedEdits map[string]string `json:"edits,omitempty"`
	// LastValid is the document in Configuration without the refused connections. It is empty if no connection is
	// refused.
	LastValid json.RawMessage `json:"lastValid,omitempty"`
	// Tolerated holds the faults of connections that run because earlier releases accepted these faults, by the place
	// of the connection.
	Tolerated map[string]string `json:"tolerated,omitempty"`
	// GuardRules is the text of the nft rules of the active guard. It is empty while the guard is being changed. If a
	// verb is killed during the change, it is unknown which guard is active.
	GuardRules string `json:"guardRules,omitempty"`
	// GuardDigest is the digest of the guard's rules as the kernel returns them. It is "" if the guard has no rules, or
	// if an earlier version created it.
	GuardDigest string `json:"guardDigest,omitempty"`
	// Traffic holds the traffic counters of active tunnels that CHECK read last, by the name of the conn.
	Traffic map[string]Traffic `json:"traffic,omitempty"`
	// Incomplete is set while a reconfigure is neither complete nor undone.
	Incomplete *Incomplete `json:"incomplete,omitempty"`
	// PrivateKeys is true if the daemon's key database may contain private keys.
	PrivateKeys bool `json:"privateKeys,omitempty"`
}

// Attachment identifies the owner of the container and its place in the network.
type Attachment struct {
	Network     string           `json:"network"`
	ContainerID spec.ContainerID `json:"containerId"`
	Interface   string           `json:"interface"`
	Namespace   string           `json:"namespace"` // the path from Pin.Persist
	Inode       uint64           `json:"inode"`     // identifies the namespace
	Chained     bool             `json:"chained,omitempty"`
	Bridge      string           `json:"bridge,omitempty"` // the bridge that has the host end of the veth as a port
	Guard       string           `json:"guard,omitempty"`  // the kind of guard, see package network
	GuardReason string           `json:"guardReason,omitempty"`
}

// Incomplete describes a container for which one or more reconfigures were started since the last successful ADD, but
// not completed. It is unknown which changes they made. The next ADD completes the reconfigure.
type Incomplete struct {
	// Network is the part of the network that none of the reconfigures changes.
	Network network.Plan `json:"network"`
	// Bridges are the bridges that may have the host end of the veth as a port.
	Bridges []string `json:"bridges,omitempty"`
	// Peers are the peer networks that the guard must cover until the reconfigure is complete.
	Peers []netip.Prefix `json:"peers,omitempty"`
	// Daemon is true if the daemon runs before, during and after the reconfigures. It has then loaded the conns that
	// have a file.
	Daemon bool `json:"daemon"`
}

// Owner returns the owner tag of the resources of the container.
func (a *Attachment) Owner(name spec.Name) spec.Owner {
	return spec.Owner{Network: a.Network, Name: name, ContainerID: a.ContainerID}
}

// Traffic holds the counters of a tunnel at the last CHECK that found In increased.
type Traffic struct {
	In       uint64    `json:"in"`       // received bytes
	Out      uint64    `json:"out"`      // sent bytes
	Received time.Time `json:"received"` // the time of that CHECK, or the time when the tunnel came up
}

// Retry is the schedule for initiating connections again that do not come up.
type Retry struct {
	Changed time.Time     `json:"changed"` // when conns were loaded last
	Delay   time.Duration `json:"delay"`   // between the last two attempts
	Next    time.Time     `json:"next"`    // time of the next attempt
}

// Load reads the state of the container from state.json. If that is missing, or older than the files of release 0.1.0,
// Load reads those files instead. It changes no file. The state is nil if the container has none. The state is also nil
// if there is an error, with one exception: if only the attachment could be read, Load returns a state with only the
// attachment, and an error.
//
// The error is one of package broken if the state could be read but is invalid.
func (d *Directory) Load() (*State, error) {
	text, err := regular.ReadFile(filepath.Join(d.Path, stateFile))
	if old := (release010{d}); errors.Is(err, fs.ErrNotExist) || old.isNewer() {
		return old.load()
	}
	var s *State
	if err != nil {
		return nil, fmt.Errorf("read state of %s: %w", d.Name, err)
	}
	if s, err = decode(text); err != nil {
		return nil, broken.Errorf("read state of %s: %w", d.Name, err)
	}
	return s, nil
}

func decode(text []byte) (*State, error) {
	if err := checkVersion(text, version, version); err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	return s, s.Attachment.check()
}

// checkVersion checks the version before the other fields are decoded, because a newer format may have other types.
func checkVersion(text []byte, oldest, newest int) error {
	var header struct {
		Version int `json:"version"`
	}
	switch err := json.Unmarshal(text, &header); {
	case err != nil:
		return err
	case header.Version > newest:
		return fmt.Errorf("version %d is newer than this program's %d", header.Version, newest)
	case header.Version < oldest:
		return fmt.Errorf("version must be %d, not %d", newest, header.Version)
	}
	return nil
}

// check returns an error if the attachment has no owner. DEL would treat it as a container of another network.
func (a *Attachment) check() error {
	if a.Network == "" || a.ContainerID == "" {
		return errors.New("attachment must have a network and a container id")
	}
	return nil
}

// Save writes state.json if its content is different.
func (d *Directory) Save(s *State) error {
	s.Version = version
	text, err := jsonform.Marshal(s) // does not change Configuration
	if err != nil {
		return fmt.Errorf("write state of %s: %w", d.Name, err)
	}
	_, err = d.Files().Write(stateFile, append(text, '\n'))
	return err
}

// RemoveOld removes the files of release 0.1.0. The caller must have written state.json.
func (d *Directory) RemoveOld() error { return release010{d}.remove() }

// Compact returns a configuration in the form in which State stores it.
func Compact(configuration []byte) (json.RawMessage, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, configuration); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}
