package verb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// If the edit of a connection is refused, the connection keeps its last valid configuration. If the configuration is
// refused as a whole, the container keeps its last valid configuration. Both require a runtime that records the last
// valid configuration (docs/executables.md, lastValid), so that the same connections run after a reboot or a DEL. With
// any other runtime the edit takes effect at once: a refused connection does not run, and ADD fails if the
// configuration is refused as a whole.

// edits decides which edits of the configuration take effect.
type edits struct {
	request *cni.Request
	record  *record
	fault   error // why the given configuration is refused as a whole, nil if it is not

	// conf is the network configuration without the refused edits, as state.Compact returns it.
	conf    json.RawMessage
	refused map[string]string // the refused edits, in the form of state.State
	valid   json.RawMessage   // the configuration without the connections that are refused
}

// check returns the fault of a configuration that is refused as a whole, or nil if the last valid configuration can be
// used instead. files has the texts of the conns that the daemon has.
func (e *edits) check(files func() (map[string][]byte, error)) error {
	if e.fault == nil || !e.request.KeepsLastValid {
		return e.fault
	}
	loaded, err := files()
	if err != nil {
		return err
	}
	if last := e.lastValid(loaded); last == nil || e.request.SetConfiguration(last) != nil {
		return e.fault
	}
	return nil
}

// lastValid returns the last valid configuration, or nil if there was none. state.json takes precedence over the
// runtime's record, because that may be older if the supervisor was killed.
func (e *edits) lastValid(loaded map[string][]byte) json.RawMessage {
	if s := e.record.state; !e.record.isNew() && len(s.Chosen)+len(loaded) > 0 {
		if s.LastValid != nil {
			return s.LastValid
		}
		var conf struct {
			Configuration json.RawMessage `json:"configuration"`
		}
		if json.Unmarshal(s.Configuration, &conf) == nil && conf.Configuration != nil {
			return conf.Configuration
		}
	}
	if last := e.request.LastValid; len(last) > 0 && string(last) != "null" && string(last) != "{}" {
		return last
	}
	return nil
}

// resolve decides which connections run, and sets the configuration of the request. A refused connection is replaced by
// its last valid form. That may cause another one to be refused, so this is repeated until nothing changes.
func (e *edits) resolve(ctx context.Context, in *inputs, loaded map[string][]byte) error {
	last := e.lastValid(loaded)
	document, previous := e.request.Document, last
	if !e.request.KeepsLastValid {
		previous = nil
	}
	if e.fault != nil {
		document = previous
	}
	revision, err := config.NewRevision(document, previous)
	if err != nil {
		return err
	}
	chosen := e.record.state.Chosen
	now := endpoint.CompareLoaded(loaded, chosen)
	if len(loaded)+len(chosen) == 0 {
		now = revision.Standing
	}
	for {
		if err := e.request.SetConfiguration(revision.Document()); err != nil {
			return err
		}
		configuration := e.request.Configuration
		if revision.Revert(configuration) { // before any lookup for a document with refused edits
			continue
		}
		configuration.Found = in.read(ctx, configuration)
		configuration.Loaded, configuration.InternalAddresses = endpoint.Networks(loaded), e.request.InternalAddresses()
		configuration.Accepted = config.Accepted(last, configuration.InternalAddresses)
		configuration.Resolve(now)
		if !revision.Revert(configuration) {
			break
		}
	}
	e.refused, e.valid = revision.RefusedEdits, revision.Valid(e.request.Configuration)
	if e.fault != nil {
		e.refused[cni.DocumentKey] = e.fault.Error()
	}
	e.conf, err = withConfiguration(e.conf, revision.Document())
	return err
}

// withConfiguration returns a network configuration with another configuration document and without the key lastValid.
// It keeps the order of the keys, so the text changes only if the document does.
func withConfiguration(conf, document json.RawMessage) (json.RawMessage, error) {
	members, err := jsonform.Members(conf)
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m jsonform.Member) bool { return m.Key == "lastValid" })
	for i := range members {
		if members[i].Key == "configuration" {
			members[i].Value = document
		}
	}
	return state.Compact(jsonform.Object(members))
}

// lastValidForRuntime returns the last valid configuration for a runtime that records it, or nil if it equals the given
// configuration.
func (e *edits) lastValidForRuntime() json.RawMessage {
	if !e.request.KeepsLastValid || bytes.Equal(e.valid, e.request.Document) {
		return nil
	}
	return e.valid
}

// save sets which edits are refused and which faults are tolerated in a state, and logs the new ones.
func (e *edits) save(s *state.State, log *slog.Logger) {
	before := *s
	s.RefusedEdits, s.Tolerated, s.LastValid = e.refused, map[string]string{}, nil
	configuration := e.request.Configuration
	names := map[string]string{}
	for i := range configuration.Connections {
		connection := &configuration.Connections[i]
		names[connection.Place()] = connection.ID
		if len(connection.Tolerated) > 0 {
			s.Tolerated[connection.Place()] = tolerated(connection)
		}
	}
	var conf struct {
		Configuration json.RawMessage `json:"configuration"`
	}
	if _ = json.Unmarshal(e.conf, &conf); !bytes.Equal(conf.Configuration, e.valid) {
		s.LastValid = e.valid
	}
	for _, list := range []struct {
		text    string
		was, is map[string]string
	}{
		{"edit refused, the last valid configuration goes on", before.RefusedEdits, s.RefusedEdits},
		{"configuration accepted for this release only", before.Tolerated, s.Tolerated},
	} {
		for _, place := range slices.Sorted(maps.Keys(list.is)) {
			if list.was[place] == list.is[place] {
				continue
			}
			fields := []any{
				slog.String("container", string(e.request.Owner.Name)), slog.String("reason", list.is[place]),
			}
			if id := names[place]; id != "" {
				fields = append(fields, slog.String("connection", id))
			}
			log.Warn(list.text, fields...)
		}
	}
}

func tolerated(c *config.Connection) string {
	var faults []string
	for _, fault := range c.Tolerated {
		faults = append(faults, fault.Error())
	}
	return strings.Join(faults, "; ")
}

// maxEditsShown is how many refused edits, and how many tolerated faults, a health message lists.
const maxEditsShown = 3

// editMessages returns the parts of the health message about refused edits and tolerated faults.
func editMessages(s *state.State) (messages []string) {
	for _, list := range []struct {
		texts      map[string]string
		one, other string
	}{
		{s.RefusedEdits, "edit refused: %s", "%d more edits refused"},
		{s.Tolerated, "the next release refuses %s", "%d more that the next release refuses"},
	} {
		for i, place := range slices.Sorted(maps.Keys(list.texts)) {
			if i == maxEditsShown {
				messages = append(messages, fmt.Sprintf(list.other, len(list.texts)-i))
				break
			}
			messages = append(messages, fmt.Sprintf(list.one, list.texts[place]))
		}
	}
	return messages
}

// withEdit adds the refused edit of a connection to the reason in its health.
func withEdit(health spec.Connection, edit string) spec.Connection {
	switch {
	case edit == "":
	case health.Reason == "":
		health.Reason = "edit refused: " + edit
	default:
		health.Reason = "edit refused: " + edit + "; the last valid configuration: " + health.Reason
	}
	return health
}
