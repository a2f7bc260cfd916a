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
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	stateFile = "state.json"
	// version is the format of state.json. Format 1 was that of the files of release 0.1.0 (see old.go).
	version = 2
)

// State is everything that svc-ipsec remembers of a container. It is one file, so that each change of several fields happens
// at once. The file contains secrets. The daemon must not be able to read it.
type State struct {
	Version    int        `json:"version"` // set by Save
	Attachment Attachment `json:"attachment"`

	// UserID is the user and group id of the container, 0 if release 0.1.0 made it.
	UserID uint32 `json:"userId,omitempty"`
	// View is the path of the mount view of the daemon that was started last, "" if release 0.1.0 started it.
	View string `json:"view,omitempty"`
	// UserNamespace says that the network namespace of that daemon is owned by a user namespace of UserID.
	UserNamespace bool `json:"userNamespace,omitempty"`
	// Configuration is the network configuration that the last good ADD was given, without white space between its tokens. In
	// the state of a container whose first ADD was cut short, it is the one that this ADD was given.
	Configuration json.RawMessage `json:"configuration,omitempty"`
	// Found is what the last good ADD found outside of its configuration.
	Found Found `json:"found"`
	// Refused holds the conns that the daemon refused, with the reason of each.
	Refused map[string]string `json:"refused,omitempty"`
	// Chosen holds the connections that the last good ADD chose to run: their aliases, by their places in the configuration. If
	// two connections cannot run at the same time, the one that was chosen stays, even if the daemon refused it, or if a later
	// ADD failed after it had removed it from the daemon.
	Chosen map[string]string `json:"chosen,omitempty"`
	Retry  Retry             `json:"retry"`
	// Edits are the refused edits: why, by the place of the connection in Configuration, or by "configuration" if the configuration
	// that ADD was given was refused as a whole. Configuration has the last valid forms in their place.
	Edits map[string]string `json:"edits,omitempty"`
	// LastValid is the document in Configuration without the connections that are refused. It is empty if none is.
	LastValid json.RawMessage `json:"lastValid,omitempty"`
	// Tolerated are the faults of connections that run because earlier releases accepted them, by the place of the connection.
	Tolerated map[string]string `json:"tolerated,omitempty"`
	// GuardRules is the guard that is in place, as text for nft. It is empty while the guard is being changed: if a verb is killed
	// during the change, it is unknown which guard is in place.
	GuardRules string `json:"guardRules,omitempty"`
	// GuardDigest is that of the rules as the kernel has them, "" if the guard has none or an earlier version set it.
	GuardDigest string `json:"guardDigest,omitempty"`
	// Traffic is what CHECK last read of the tunnels that are up, by their conns.
	Traffic map[string]Traffic `json:"traffic,omitempty"`
	// Incomplete is set while a reconfigure is neither complete nor taken back.
	Incomplete *Incomplete `json:"incomplete,omitempty"`
	// PrivateKeys says that the daemon's key database may contain private keys.
	PrivateKeys bool `json:"privateKeys,omitempty"`
}

// Attachment says to whom the container belongs and where it is attached.
type Attachment struct {
	Network     string           `json:"network"`
	ContainerID spec.ContainerID `json:"containerId"`
	Interface   string           `json:"interface"`
	Namespace   string           `json:"namespace"` // a path that stays valid: the one of the runtime, or that of the pin
	Inode       uint64           `json:"inode"`     // identifies the namespace
	Chained     bool             `json:"chained,omitempty"`
	Bridge      string           `json:"bridge,omitempty"` // has the host's end of the veth as a port
	Guard       string           `json:"guard,omitempty"`  // the kind of guard against packets in clear, as in package network
	GuardReason string           `json:"guardReason,omitempty"`
}

// Incomplete is what is known of a container while one or more reconfigures have been begun since the last good ADD, and none is
// complete: what has been changed by then, and what has not, is unknown. The next ADD completes it.
type Incomplete struct {
	// Network is what none of the reconfigures changes.
	Network network.Plan `json:"network"`
	// Bridges are those that the host's end of the veth may be a port of.
	Bridges []string `json:"bridges,omitempty"`
	// Peers are the networks of peers that the guard has to cover meanwhile.
	Peers []netip.Prefix `json:"peers,omitempty"`
	// Daemon says that a daemon runs all the time, and has the conns that have a file.
	Daemon bool `json:"daemon"`
}

// Owner is the owner tag of the container's parts.
func (a *Attachment) Owner(name spec.Name) spec.Owner {
	return spec.Owner{Network: a.Network, Name: name, ContainerID: a.ContainerID}
}

// Traffic says what a tunnel had received, and what it had sent then, in bytes.
type Traffic struct {
	In       uint64    `json:"in"`
	Out      uint64    `json:"out"`
	Received time.Time `json:"received"` // when a CHECK saw In grow, or the tunnel came up
}

// Retry is the schedule by which connections that do not come up are initiated again.
type Retry struct {
	Changed time.Time     `json:"changed"` // when conns were loaded last
	Delay   time.Duration `json:"delay"`   // between the last two attempts
	Next    time.Time     `json:"next"`
}

// Load reads the state of the container: from state.json or, if that is missing or older than the files of release 0.1.0, from
// those. It changes nothing. The state is nil if there is none. On an error the state is nil too, except if the attachment
// could be read and something else could not: then it holds the attachment alone.
//
// A state that cannot be understood is an error of package broken.
func (d *Directory) Load() (*State, error) {
	text, err := regular.ReadFile(filepath.Join(d.Path, stateFile))
	if errors.Is(err, fs.ErrNotExist) || d.downgraded() {
		return d.loadOld()
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

// checkVersion looks at the version before anything else is decoded: a newer format may have other types.
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

// check refuses an attachment without an owner: DEL would treat it as the container of another network.
func (a *Attachment) check() error {
	if a.Network == "" || a.ContainerID == "" {
		return errors.New("attachment must have a network and a container id")
	}
	return nil
}

// Save writes state.json, unless it holds this state already.
func (d *Directory) Save(s *State) error {
	s.Version = version
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // keeps Configuration as it is
	if err := encoder.Encode(s); err != nil {
		return fmt.Errorf("write state of %s: %w", d.Name, err)
	}
	_, err := d.Write(stateFile, text.Bytes())
	return err
}

// Compact returns a configuration in the form in which State keeps it.
func Compact(configuration []byte) (json.RawMessage, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, configuration); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}
