package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// stream is one gRPC stream that all watches share. clientv3's Watch is not used: it reports a change only 13 s after a
// member began to hang (TestClientV3ReportsAChangeLateIfAMemberHangs). RequestProgress would detect that earlier, but
// makes it skip changes when it reconnects (TestClientV3SkipsChangesAfterARequestForProgress).
//
// Changes are collected by key. So the memory that a burst of changes needs depends on the number of changed keys, and
// reading from the stream never blocks on the consumer.
type stream struct {
	conn      *connection
	host      spec.HostID
	grpc      pb.Watch_WatchClient
	cancel    context.CancelCauseFunc
	ctx       context.Context
	idleTimer *time.Timer // closes the stream if nothing is received for streamIdle
	done      chan struct{}
	err       error // why the stream ended; set before done is closed

	next int64                // id of the next watch
	ids  map[native.Key]int64 // of a watch, by its key or directory

	mu      sync.Mutex
	keys    map[int64]native.Key // keys of the current watches, by id
	dirty   map[native.Key]int64 // changed keys, with the revision of the last change
	changed signal.Signal
}

var errIdle = errors.New("no message on the watch stream")

// openStream opens a stream without watches. It requires a member with a leader: the stream ends when the member loses
// it.
func openStream(ctx context.Context, conn *connection, host spec.HostID) (*stream, error) {
	client, err := conn.connect()
	if err != nil {
		return nil, conn.fault("watch", native.BindingsKey(host), err)
	}
	s := &stream{
		conn: conn, host: host, done: make(chan struct{}), next: 1,
		ids: map[native.Key]int64{}, keys: map[int64]native.Key{},
		dirty: map[native.Key]int64{}, changed: signal.New(),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.idleTimer = time.AfterFunc(conn.timeouts.streamIdle, func() { s.cancel(errIdle) })
	s.grpc, err = pb.NewWatchClient(client.ActiveConnection()).Watch(
		clientv3.WithRequireLeader(s.ctx), grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		s.idleTimer.Stop()
		s.cancel(nil)
		return nil, s.streamError("", err)
	}
	go s.receive()
	return s, nil
}

// close ends the stream and waits for its goroutine.
func (s *stream) close() {
	s.idleTimer.Stop()
	s.cancel(nil)
	<-s.done
}

// streamError returns a *fault for the error that ended the stream. If the stream was closed for being idle, that is
// the cause.
func (s *stream) streamError(key native.Key, err error) error {
	if cause := context.Cause(s.ctx); errors.Is(cause, errIdle) {
		err = fmt.Errorf("%w for %v, trying another member", cause, s.conn.timeouts.streamIdle)
	}
	if key == "" {
		key = native.BindingsKey(s.host)
	}
	return s.conn.fault("watch", key, err)
}

// watch starts a watch of a key, or of a range of keys if end is set, at a revision.
func (s *stream) watch(key native.Key, end string, revision int64) error {
	id := s.next
	s.next++
	s.ids[key] = id
	s.mu.Lock()
	s.keys[id] = key
	s.mu.Unlock()
	create := &pb.WatchCreateRequest{Key: []byte(s.conn.path(key)), StartRevision: revision, WatchId: id}
	if end != "" {
		create.RangeEnd = []byte(end)
	}
	return s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// unwatch cancels a watch.
func (s *stream) unwatch(key native.Key) error {
	id := s.ids[key]
	delete(s.ids, key)
	s.mu.Lock()
	delete(s.keys, id)
	s.mu.Unlock()
	return s.send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}},
	})
}

// send sends a request. It may block if the member does not read; the idle timer then ends the stream.
func (s *stream) send(request *pb.WatchRequest) error {
	if err := s.grpc.Send(request); err != nil {
		s.cancel(nil)
		<-s.done // Send returns only io.EOF; the receiver has the cause
		return s.err
	}
	return nil
}

// wait waits for changes and returns the changed keys, each with the revision of its last change. It regularly requests
// progress notifications to keep the stream from being idle. (The revision of a notification is not used: etcd 3.4 may
// send it before the changes up to that revision.)
func (s *stream) wait(ctx context.Context) (map[native.Key]int64, error) {
	ticker := time.NewTicker(s.conn.timeouts.streamIdle / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.done:
			return nil, s.err
		case <-s.changed:
			s.mu.Lock()
			dirty := s.dirty
			s.dirty = map[native.Key]int64{}
			s.mu.Unlock()
			return dirty, nil
		case <-ticker.C:
			err := s.send(&pb.WatchRequest{
				RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
			})
			if err != nil {
				return nil, err
			}
		}
	}
}

// receive handles the responses until the stream ends.
func (s *stream) receive() {
	defer close(s.done)
	for {
		response, err := s.grpc.Recv()
		if err == nil {
			s.idleTimer.Reset(s.conn.timeouts.streamIdle)
			err = s.handle(response)
		}
		if err != nil {
			s.err = s.streamError("", err)
			s.idleTimer.Stop()
			s.cancel(nil)
			return
		}
	}
}

// handle handles one response. It returns an error if a current watch was cancelled.
func (s *stream) handle(response *pb.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, wanted := s.keys[response.WatchId]
	if response.Canceled && (wanted || response.Created) {
		if response.CompactRevision != 0 {
			return s.conn.fault("watch", key, rpctypes.ErrCompacted)
		}
		return s.conn.fault("watch", key, cancelError(response.CancelReason))
	}
	for _, event := range response.Events {
		key := s.conn.key(event.Kv.Key)
		s.dirty[key] = max(s.dirty[key], event.Kv.ModRevision)
	}
	if len(response.Events) > 0 {
		s.changed.Send()
	}
	return nil
}

// cancelError converts the reason that etcd gives for a cancelled watch to an error.
func cancelError(reason string) error {
	for _, known := range []error{
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCNoLeader,
		rpctypes.ErrGRPCUserEmpty,
	} {
		if reason == known.Error() || reason == rpctypes.Error(known).Error() {
			return known
		}
	}
	if reason == "" {
		reason = "etcd ended the watch"
	}
	return errors.New(reason)
}
