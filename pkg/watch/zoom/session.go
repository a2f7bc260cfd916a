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

// maxResponse limits the size of one response in bytes. A server returns no more than its own jute.maxbuffer, which is
// 4 MiB in MidoNet.
const maxResponse = 64 << 20

var errNoSession = errors.New("no session")

// client is the connection while it has a session.
type client struct {
	*zk.Conn
	id int64 // of the session
}

// session holds the one ZooKeeper session. It is opened at the first use and opened again after it has expired, until
// close.
type session struct {
	location    Location
	log         *slog.Logger
	dialer      *dialer
	onConnected func() // called after each (re)connect; must not block

	mu                sync.Mutex
	conn              *zk.Conn
	closed            bool
	current           *client       // nil: not connected, or no session
	id                int64         // of the last session
	downSince         time.Time     // start of the time without a session
	noSessionReported bool          // the lack of a session was logged
	stateChanged      chan struct{} // closed and replaced when current changes
	published         bool          // the session may own status nodes
	listener          *events
}

func newSession(location Location, log *slog.Logger) *session {
	openTimeout := max(time.Second, location.SessionTimeout/10)
	return &session{
		location: location, log: log, stateChanged: make(chan struct{}),
		dialer: &dialer{openTimeout: openTimeout, faults: map[string]string{}},
	}
}

// debugLogger writes the messages of the client library to the debug log.
type debugLogger struct{ log *slog.Logger }

func (s debugLogger) Printf(format string, args ...any) {
	s.log.Debug("zookeeper client: " + fmt.Sprintf(format, args...))
}

// startLocked connects if that was not done yet.
func (s *session) startLocked() error {
	if s.closed {
		return errClosed
	}
	if s.conn != nil {
		return nil
	}
	s.downSince = time.Now()
	conn, _, err := zk.Connect(s.location.Servers, s.location.SessionTimeout,
		zk.WithLogger(debugLogger{s.log}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxResponse),
		zk.WithDialer(s.dialer.dial), zk.WithHostProvider(&serverOrder{allFailed: s.reportNoSession}),
		zk.WithEventCallback(s.handleEvent))
	s.conn = conn
	return err
}

// setListener sets the receiver of node events and session changes. nil removes it.
func (s *session) setListener(listener *events) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = listener
	if listener == nil {
		return nil
	}
	return s.startLocked()
}

// await waits for a session and returns its client.
func (s *session) await(ctx context.Context) (*client, error) {
	for {
		s.mu.Lock()
		err := s.startLocked()
		current, stateChanged := s.current, s.stateChanged
		s.mu.Unlock()
		if err != nil || current != nil {
			return current, err
		}
		select {
		case <-ctx.Done():
			return nil, s.waitError(ctx)
		case <-stateChanged:
		}
	}
}

// awaitShortly is like await, but waits no longer than outageGrace after the session was lost. So it fails immediately
// during an outage.
func (s *session) awaitShortly(ctx context.Context) (*client, error) {
	s.mu.Lock()
	err := s.startLocked()
	current, downSince := s.current, s.downSince
	s.mu.Unlock()
	if err != nil || current != nil {
		return current, err
	}
	shortCtx, cancel := context.WithDeadline(ctx, downSince.Add(outageGrace))
	defer cancel()
	return s.await(shortCtx)
}

// outageGrace is how long a session may be missing before that counts as an outage.
const outageGrace = 2 * time.Second

// waitError returns an error that explains why the servers did not respond before ctx ended.
func (s *session) waitError(ctx context.Context) error {
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	if current != nil {
		return fmt.Errorf("no answer in time: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %s", errNoSession, s.faults())
}

// faults returns, for every server, why it gave no session.
func (s *session) faults() string {
	var all []string
	for _, server := range s.location.Servers {
		all = append(all, server+": "+s.dialer.fault(server))
	}
	return strings.Join(all, "; ")
}

// reportNoSession logs that all servers were tried and none gave a session. The client holds one of its own locks
// during this call.
func (s *session) reportNoSession() {
	faults := s.faults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noSessionReported || s.closed || s.current != nil {
		return
	}
	s.noSessionReported = true
	s.log.Warn("no session with the NSDB: retrying every second, nothing is changed meanwhile", "fault", faults)
}

// handleEvent handles the events of the client. The client calls it from its own goroutine, so it must neither block
// nor call a function that takes the client's locks.
func (s *session) handleEvent(event zk.Event) {
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
		s.connectedLocked()
	case zk.StateExpired:
		s.disconnectedLocked()
		s.log.Warn("session with the NSDB has expired: opening a new one, then all statuses are written again")
	case zk.StateDisconnected:
		s.disconnectedLocked()
	}
}

func (s *session) connectedLocked() {
	id := s.conn.SessionID()
	isNew := id != s.id
	s.dialer.setFault("", "")
	if s.noSessionReported || isNew {
		s.log.Info("session with the NSDB", "session", fmt.Sprintf("%#x", uint64(id)), "new", isNew,
			"without", time.Since(s.downSince).Round(time.Millisecond))
	}
	s.id, s.noSessionReported = id, false
	s.current = &client{s.conn, id}
	s.notifyLocked()
	if s.listener != nil {
		s.listener.sessionConnected(isNew)
	}
	if s.onConnected != nil && !s.closed {
		s.onConnected()
	}
}

func (s *session) disconnectedLocked() {
	if s.current == nil {
		return
	}
	s.current, s.downSince = nil, time.Now()
	s.notifyLocked()
}

func (s *session) notifyLocked() {
	close(s.stateChanged)
	s.stateChanged = make(chan struct{})
}

// setPublished records that the session owns statuses.
func (s *session) setPublished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = true
}

// close closes the connection. A session that owns statuses is not closed, because its nodes would be deleted at once
// and MidoNet's scheduler would move the containers to other hosts. It ends by its timeout, and a successor can take
// over the statuses until then.
func (s *session) close() {
	s.mu.Lock()
	conn, keepSession := s.conn, s.published
	s.closed = true
	s.listener = nil
	s.notifyLocked() // goroutines that wait for a session return an error
	s.mu.Unlock()
	if conn == nil {
		return
	}
	if keepSession {
		s.dialer.shutdown()
	}
	conn.Close()
	s.dialer.shutdown()
}
