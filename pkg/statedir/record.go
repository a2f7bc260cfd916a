package statedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// FormatVersion is the version of the records that this program writes. Older ones stay readable.
const FormatVersion = 1

// The conditions of a record file that are neither a record nor its absence.
var (
	ErrDamaged = errors.New("damaged record")
	ErrNewer   = errors.New("record of a newer version")
)

// Phase is how far the last step for a container came.
type Phase string

// A phase is written before its step begins (adding, changing, deleting) or after it ended (added, deleted).
const (
	Adding   Phase = "adding"
	Added    Phase = "added"
	Changing Phase = "changing" // ADD again runs, or failed
	Deleting Phase = "deleting"
	Deleted  Phase = "deleted" // nothing is left; the name is still wanted and keeps its slot
)

// Record is what the state directory knows of one container.
type Record struct {
	Version    int            `json:"version"`
	Phase      Phase          `json:"phase"`
	BootID     string         `json:"bootId"`
	Container  spec.Container `json:"container"`
	Executable Executable     `json:"executable"`
	Digest     string         `json:"digest"`
	Conf       *spec.Conf     `json:"conf,omitempty"`
	// Previous is the last valid configuration, where it is not Conf: that before a change, or Conf without the edits that are
	// refused. In the phases adding, deleting and deleted it is absent if there is none.
	Previous *spec.Conf      `json:"previous,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"` // of the last ADD that succeeded, as printed
	AddedAt  *time.Time      `json:"addedAt,omitempty"`
}

// Executable is the service executable that made a container: the resolved path, not a link to it.
type Executable struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// LastValid returns the last valid configuration of the container, nil if there is none.
func (r *Record) LastValid() *spec.Conf {
	if r.Previous == nil && r.Phase == Added {
		return r.Conf
	}
	return r.Previous
}

// File is the name of the record's file.
func (r *Record) File() string {
	return file{r.Container.InterfaceName, r.Container.ServiceType}.base()
}

// Units returns the units that the last ADD named.
func (r *Record) Units() []string {
	if r.Result == nil {
		return nil
	}
	result, err := spec.ParseResult(r.Result, r.Container.InterfaceName)
	if err != nil {
		return nil // a result was checked before it was recorded
	}
	return result.Units
}

// decode reads a record that must be the one of f. A record of which anything is wrong is damaged as a whole.
func decode(f file, content []byte) (*Record, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(content, &version); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if version.Version > FormatVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads up to %d", ErrNewer, version.Version, FormatVersion)
	}
	record := new(Record)
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(record); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := record.check(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return record, nil
}

func (r *Record) check(f file) error {
	if r.Version < 1 {
		return &spec.Fault{Key: "version", Value: fmt.Sprint(r.Version), Allowed: fmt.Sprintf("1 to %d", FormatVersion)}
	}
	switch r.Phase {
	case Adding, Added, Changing, Deleting, Deleted:
	default:
		return &spec.Fault{Key: "phase", Value: string(r.Phase), Allowed: "adding, added, changing, deleting or deleted"}
	}
	if err := r.Container.Check(); err != nil {
		return err
	}
	if r.File() != f.base() {
		return &spec.Fault{Key: "container", Value: r.File(), Allowed: f.base() + ", as the file is called"}
	}
	if (r.Phase == Added || r.Phase == Changing) && (r.Conf == nil || r.Result == nil || r.BootID == "") {
		return fmt.Errorf("phase %s without conf, result or boot id", r.Phase)
	}
	if r.Result != nil {
		if _, err := spec.ParseResult(r.Result, r.Container.InterfaceName); err != nil {
			return err
		}
	}
	return nil
}
