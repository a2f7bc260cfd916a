package endpoint

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Unit is what is known of the daemon's unit and of its container before anything is changed.
type Unit struct {
	New      bool // the container is new
	Exists   bool // systemd has the unit
	Failed   bool // the unit has failed, and systemd does not restart it
	Database bool // the container's directory has a key database
}

// Loaded is the state of a conn that the daemon has.
type Loaded struct {
	Unoriented  bool // no interface has its local address
	Negotiating bool // an exchange with the peer is in progress
	IKE         bool // an IKE SA of this conn is established
}

// Status is what a daemon reported.
type Status struct {
	Conns map[string]Loaded
	// Up has the conns with an installed Child SA. Orphans is not part of it.
	Up map[string]bool
	// Orphans are conns whose Child SA is still installed, although its IKE SA was deleted.
	Orphans []string
}

// Plan is what has to change in the daemon. A conn has a file exactly as long as the daemon has the conn, so the next
// ADD finds the remaining changes if this one is interrupted.
type Plan struct {
	Stop   bool     // the daemon is not needed, or belongs to a container whose state was lost
	Start  bool     // no daemon runs
	Files  []string // conns whose files have to be removed
	Delete []string // conns that the daemon has to delete
	Load   []Conn   // conns that the daemon has to load after Retire and Prepare
	Keep   []Conn   // conns that the daemon already has in their wanted form
}

// PlanUnit returns the plan for a daemon that need not be queried. If running is true, the daemon has to be queried,
// and Compare returns the plan.
func PlanUnit(unit Unit, wanted []Conn) (plan Plan, running bool) {
	switch {
	case len(wanted) == 0:
		// A key database remains if a daemon ran and was killed. Its policies and states have to be removed.
		return Plan{Stop: !unit.New && (unit.Database || unit.Exists)}, false
	case unit.New && unit.Exists:
		// The container's directory was lost, but not its daemon.
		return Plan{Stop: true, Start: true, Load: wanted}, false
	case !unit.Exists || unit.Failed:
		return Plan{Start: true, Load: wanted}, false
	default:
		return Plan{}, true
	}
}

// Compare returns the plan for a running daemon. files has the texts of the recorded conns, and loaded the conns that
// the daemon has. A changed conn is deleted before its new form is loaded, although the daemon may refuse the new form.
//
// A conn whose file was written by an earlier version is kept if its peer is one of connected: replacing it could
// delete the IKE SA that other tunnels to the same peer share.
func Compare(wanted []Conn, files map[string][]byte, loaded map[string]Loaded, connected map[netip.Addr]bool) Plan {
	var plan Plan
	files, loaded = maps.Clone(files), maps.Clone(loaded)
	for _, c := range wanted {
		unchanged := bytes.Equal(files[c.Name], c.Text) ||
			connected[c.Connection.PeerAddress] && bytes.Equal(files[c.Name], c.Former)
		// An unoriented conn was loaded when its local address did not exist. It has no tunnel and has to be loaded
		// again.
		if has, ok := loaded[c.Name]; ok && !has.Unoriented && unchanged {
			plan.Keep = append(plan.Keep, c)
			delete(files, c.Name)
			delete(loaded, c.Name)
		} else {
			plan.Load = append(plan.Load, c)
		}
	}
	plan.Files, plan.Delete = slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(loaded))
	return plan
}

// Changes reports whether anything has to change in the daemon.
func (p *Plan) Changes() bool {
	return p.Stop || p.Start || len(p.Files)+len(p.Delete)+len(p.Load) > 0
}

// Retire returns the actions before the network changes: pluto sends DELETE to the peers, for which it needs the former
// addresses and routes. A file is removed before its conn is deleted; if the verb is killed in between, the next ADD
// finds the conn in the daemon and deletes it.
func (p *Plan) Retire() []Action {
	if p.Stop {
		return []Action{{Op: OpStop}}
	}
	return slices.Concat(actions(OpRemoveFiles, p.Files), actions(OpDelete, p.Delete))
}

// Prepare returns the actions after the network has changed and before conns are loaded into a running daemon. newKeys
// reports whether the file of keys was changed.
func (p *Plan) Prepare(newKeys bool) []Action {
	switch {
	case len(p.Load) > 0:
		// The interface addresses may have changed, and pluto never orients a conn whose local address it does not
		// know. `whack --listen` also rereads ipsec.secrets (pluto's whack_listen).
		return []Action{{Op: OpListen}}
	case newKeys || p.Changes():
		// The keys are also reread if conns were only removed: an earlier ADD may have written the file of keys and
		// failed before the daemon read it.
		return []Action{{Op: OpRereadSecrets}}
	}
	return nil
}

// Revive returns the actions for the kept conns that lost their tunnel because another conn was changed: the conns to
// one peer share an IKE SA, which is deleted with the conn that established it. The peer has deleted its Child SAs
// already, so the orphaned Child SAs are terminated first. Response-only conns are not initiated. Their peer received
// the DELETE and initiates them; if both ends initiated at the same time, the exchanges would collide.
func (p *Plan) Revive(before, after Status) []Action {
	return slices.Concat(actions(OpTerminate, after.Orphans),
		Initiate(slices.DeleteFunc(slices.Clone(p.Keep), func(c Conn) bool {
			return !before.Up[c.Name] || after.Up[c.Name]
		})))
}

// Op is an operation on the daemon.
type Op string

const (
	OpStop          Op = "stop the daemon"
	OpRemoveFiles   Op = "remove files"
	OpDelete        Op = "delete"
	OpRereadSecrets Op = "reread secrets"
	OpListen        Op = "listen" // read the interface addresses and the keys again
	OpInitiate      Op = "initiate"
	OpTerminate     Op = "terminate" // delete the SAs; the conn stays loaded
)

// Action is one operation, and the conns that it concerns.
type Action struct {
	Op    Op
	Conns []string
}

func (a Action) String() string { return strings.Join(append([]string{string(a.Op)}, a.Conns...), " ") }

// actions returns one action for the conns, or none if there are no conns.
func actions(op Op, conns []string) []Action {
	if len(conns) == 0 {
		return nil
	}
	return []Action{{op, conns}}
}
