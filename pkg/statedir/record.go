package statedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/strictjson"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// FormatVersion is the format version of the records that this program writes. It also reads all older versions.
const FormatVersion = 1

// The errors for a record file that exists but has no usable record.
var (
	ErrDamaged = errors.New("damaged record")
	ErrNewer   = errors.New("record of a newer version")
)

// Phase states how far the last step for a container came.
type Phase string

// The phases Adding, Changing and Deleting are written before their step begins, Added and Deleted after it ended.
const (
	Adding   Phase = "adding"
	Added    Phase = "added"
	Changing Phase = "changing" // a reconfigure is running, or it failed
	Deleting Phase = "deleting"
	Deleted  Phase = "deleted" // the container is removed; its name is still desired and keeps its slot
)

// Record is the recorded state of one container.
type Record struct {
	Version    int            `json:"version"`
	Phase      Phase          `json:"phase"`
	BootID     string         `json:"bootId"`
	Container  spec.Container `json:"container"`
	Executable Executable     `json:"executable"`
	Digest     string         `json:"digest"`
	Conf       *spec.Conf     `json:"conf,omitempty"`
	// Previous is the last valid configuration if it differs from Conf: the configuration before a change, or Conf
	// without the refused edits. In the phases Adding, Deleting and Deleted, nil means that there is no last valid
	// configuration.
	Previous *spec.Conf      `json:"previous,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"` // of the last successful ADD, as printed
	AddedAt  *time.Time      `json:"addedAt,omitempty"`
}

// Executable is the service executable that made a container.
type Executable struct {
	Path    string `json:"path"` // with symbolic links resolved
	Version string `json:"version"`
}

// LastValid returns the last valid configuration of the container, or nil if there is none.
func (r *Record) LastValid() *spec.Conf {
	if r.Previous == nil && r.Phase == Added {
		return r.Conf
	}
	return r.Previous
}

// File returns the name of the record's file.
func (r *Record) File() string {
	return file{r.Container.InterfaceName, r.Container.ServiceType}.base()
}

// Units returns the units in the result of the last ADD.
func (r *Record) Units() []string {
	if r.Result == nil {
		return nil
	}
	result, err := spec.ParseResult(r.Result, r.Container.InterfaceName)
	if err != nil {
		return nil // cannot happen: the result was checked before it was recorded
	}
	return result.Units
}

// decode decodes the content of the record file f. Any fault in it makes the whole record damaged, and the error wraps
// ErrDamaged or ErrNewer.
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
	if err := strictjson.Unmarshal(content, record); err != nil {
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
		return &spec.Fault{
			Key: "phase", Value: string(r.Phase), Allowed: "adding, added, changing, deleting or deleted",
		}
	}
	if err := r.Container.Check(); err != nil {
		return err
	}
	if r.File() != f.base() {
		return &spec.Fault{Key: "container", Value: r.File(), Allowed: f.base() + ", the name of the file"}
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
