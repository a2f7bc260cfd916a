package zoom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// answerMost bounds one answer of a server. No server gives its clients more than its own jute.maxbuffer; MidoNet's has 4 MiB.
const answerMost = 64 << 20

var errNoSession = errors.New("no session")

// client is the connection while a session stands.
type client struct {
	*zk.Conn
	id int64 // of the session
}

// session is the one session: made at the first use, made again when it expired, until close.
type session struct {
	location Location
	log      *slog.Logger
	dialer   *dialer
	returned func() // called when a session stands (again); it does not wait

	mu        sync.Mutex
	conn      *zk.Conn
	ended     bool
	up        *client       // nil while there is no connection with a session
	id        int64         // of the last session that stood
	down      time.Time     // since when there is none
	told      bool          // that there is none
	turned    chan struct{} // closed and made anew whenever up changes
	published bool          // the session may own statuses
	listener  *events
}

func newSession(location Location, log *slog.Logger) *session {
	greeting := max(time.Second, location.SessionTimeout/10)
	return &session{
		location: location, log: log, turned: make(chan struct{}),
		dialer: &dialer{greeting: greeting, faults: map[string]string{}},
	}
}

// silenced carries what the client says of itself to the debug log.
type silenced struct{ log *slog.Logger }

func (s silenced) Printf(format string, args ...any) {
	s.log.Debug("zookeeper client: " + fmt.Sprintf(format, args...))
}

// startLocked connects, if that was not done yet.
func (s *session) startLocked() error {
	if s.ended {
		return errEnded
	}
	if s.conn != nil {
		return nil
	}
	s.down = time.Now()
	conn, _, err := zk.Connect(s.location.Servers, s.location.SessionTimeout,
		zk.WithLogger(silenced{s.log}), zk.WithLogInfo(false), zk.WithMaxBufferSize(answerMost),
		zk.WithDialer(s.dialer.dial), zk.WithHostProvider(&order{around: s.around}), zk.WithEventCallback(s.hear))
	s.conn = conn
	return err
}

// listen hands the events of nodes, and the news of sessions, to a listener; nil ends that.
func (s *session) listen(listener *events) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = listener
	if listener == nil {
		return nil
	}
	return s.startLocked()
}

// await returns the client as soon as there is a session.
func (s *session) await(ctx context.Context) (*client, error) {
	for {
		s.mu.Lock()
		err := s.startLocked()
		up, turned := s.up, s.turned
		s.mu.Unlock()
		if err != nil || up != nil {
			return up, err
		}
		select {
		case <-ctx.Done():
			return nil, s.why(ctx)
		case <-turned:
		}
	}
}

// awaitShortly is await for at most as long as there has been no session for a moment: in an outage it fails at once.
func (s *session) awaitShortly(ctx context.Context) (*client, error) {
	s.mu.Lock()
	err := s.startLocked()
	up, down := s.up, s.down
	s.mu.Unlock()
	if err != nil || up != nil {
		return up, err
	}
	short, cancel := context.WithDeadline(ctx, down.Add(moment))
	defer cancel()
	return s.await(short)
}

// moment is how long a lack of a session is waited for before it counts as an outage.
const moment = 2 * time.Second

// why says why there is no answer from the servers.
func (s *session) why(ctx context.Context) error {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	if up != nil {
		return fmt.Errorf("no answer in time: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %s", errNoSession, s.faults())
}

// faults says of every server why it gives no session.
func (s *session) faults() string {
	var all []string
	for _, server := range s.location.Servers {
		all = append(all, server+": "+s.dialer.fault(server))
	}
	return strings.Join(all, "; ")
}

// around is told when no server gave a session. The client holds a lock of its own meanwhile.
func (s *session) around() {
	faults := s.faults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told || s.ended || s.up != nil {
		return
	}
	s.told = true
	s.log.Warn("no session with the NSDB: tried again every second, and all stays as it is", "fault", faults)
}

// hear takes the client's events, from its own goroutine: it must not wait, nor call what takes the client's locks.
func (s *session) hear(event zk.Event) {
	if event.Type != zk.EventSession {
		s.mu.Lock()
		listener := s.listener
		s.mu.Unlock()
		if listener != nil && event.Type != zk.EventNotWatching {
			listener.fire(event.Path)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch event.State {
	case zk.StateHasSession:
		s.begunLocked()
	case zk.StateExpired:
		s.lostLocked()
		s.log.Warn("session with the NSDB has expired: a new one is made, and every status is written again")
	case zk.StateDisconnected:
		s.lostLocked()
	}
}

func (s *session) begunLocked() {
	id := s.conn.SessionID()
	fresh := id != s.id
	s.dialer.note("", "")
	if s.told || fresh {
		s.log.Info("session with the NSDB", "session", fmt.Sprintf("%#x", uint64(id)), "new", fresh,
			"without", time.Since(s.down).Round(time.Millisecond))
	}
	s.id, s.told = id, false
	s.up = &client{s.conn, id}
	s.turnLocked()
	if s.listener != nil {
		s.listener.again(fresh)
	}
	if s.returned != nil && !s.ended {
		s.returned()
	}
}

func (s *session) lostLocked() {
	if s.up == nil {
		return
	}
	s.up, s.down = nil, time.Now()
	s.turnLocked()
}

func (s *session) turnLocked() {
	close(s.turned)
	s.turned = make(chan struct{})
}

// publishes notes that the session owns statuses from now on.
func (s *session) publishes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = true
}

// close ends the connection. A session that owns statuses is not closed: they would vanish at once, and the scheduler take
// the containers elsewhere. It ends by its time-out, unless a successor has taken them over by then.
func (s *session) close() {
	s.mu.Lock()
	conn, leave := s.conn, s.published
	s.ended = true
	s.listener = nil
	s.turnLocked() // whoever waits for a session hears that there will be none
	s.mu.Unlock()
	if conn == nil {
		return
	}
	if leave {
		s.dialer.end()
	}
	conn.Close()
	s.dialer.end()
}
