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

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// stream is one stream that all watches share. It is the protocol itself and not the client's Watcher: that begins again by
// its own, one watch after the other, with a goroutine for each, and waits for a member that hangs.
//
// What the watches tell is gathered, key by key, so that a burst of changes takes no more room than the keys it changes, and
// the reading of the stream never waits for anybody.
type stream struct {
	n      *NSDB
	grpc   pb.Watch_WatchClient
	cancel context.CancelCauseFunc
	ctx    context.Context
	alarm  *time.Timer // ends the stream when it is silent
	ended  chan struct{}
	fault  error // why it ended, once it has

	next int64                // the number of the next watch
	ids  map[native.Key]int64 // by the key, or the folder

	mu    sync.Mutex
	keys  map[int64]native.Key // of the watches that are wanted, by their numbers
	dirty map[native.Key]int64 // what changed, and its last revision
	news  chan struct{}
}

var errSilent = errors.New("the watches' stream is silent")

// openStream begins a stream without watches. The member must have a leader, and loses the stream when it loses that.
func (n *NSDB) openStream(ctx context.Context) (*stream, error) {
	client, err := n.connect()
	if err != nil {
		return nil, n.fault("watch", native.BindingsKey(n.host), err)
	}
	s := &stream{
		n: n, ended: make(chan struct{}), next: 1,
		ids: map[native.Key]int64{}, keys: map[int64]native.Key{},
		dirty: map[native.Key]int64{}, news: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.alarm = time.AfterFunc(n.patience.silence, func() { s.cancel(errSilent) })
	s.grpc, err = pb.NewWatchClient(client.ActiveConnection()).Watch(
		clientv3.WithRequireLeader(s.ctx), grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		s.alarm.Stop()
		s.cancel(nil)
		return nil, s.explain("", err)
	}
	go s.receive()
	return s, nil
}

// close ends the stream and waits for that.
func (s *stream) close() {
	s.alarm.Stop()
	s.cancel(nil)
	<-s.ended
}

// explain makes a fault of what ended the stream; what made us end it comes first.
func (s *stream) explain(key native.Key, err error) error {
	if cause := context.Cause(s.ctx); errors.Is(cause, errSilent) {
		err = fmt.Errorf("%w for %v: another member is asked", cause, s.n.patience.silence)
	}
	if key == "" {
		key = native.BindingsKey(s.n.host)
	}
	return s.n.fault("watch", key, err)
}

// watch begins a watch of a key, or of a range of keys, at a revision.
func (s *stream) watch(key native.Key, end string, revision int64) error {
	id := s.next
	s.next++
	s.ids[key] = id
	s.mu.Lock()
	s.keys[id] = key
	s.mu.Unlock()
	create := &pb.WatchCreateRequest{Key: []byte(s.n.path(key)), StartRevision: revision, WatchId: id}
	if end != "" {
		create.RangeEnd = []byte(end)
	}
	return s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// unwatch ends a watch.
func (s *stream) unwatch(key native.Key) error {
	id := s.ids[key]
	delete(s.ids, key)
	s.mu.Lock()
	delete(s.keys, id)
	s.mu.Unlock()
	return s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

// send may wait for a member that takes nothing in; the alarm ends that.
func (s *stream) send(request *pb.WatchRequest) error {
	if err := s.grpc.Send(request); err != nil {
		s.cancel(nil)
		<-s.ended // io.EOF says nothing: what ended the stream is what was received
		return s.fault
	}
	return nil
}

// wait waits until something has changed, and returns the keys with the revision of their last change. It asks for a sign
// of life now and then. (The revision that comes with one is not used: etcd 3.4 may give it before changes up to it.)
func (s *stream) wait(ctx context.Context) (map[native.Key]int64, error) {
	beat := time.NewTicker(s.n.patience.silence / 3)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ended:
			return nil, s.fault
		case <-s.news:
			s.mu.Lock()
			dirty := s.dirty
			s.dirty = map[native.Key]int64{}
			s.mu.Unlock()
			return dirty, nil
		case <-beat.C:
			err := s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
			if err != nil {
				return nil, err
			}
		}
	}
}

// receive takes in what comes until the stream ends.
func (s *stream) receive() {
	defer close(s.ended)
	for {
		answer, err := s.grpc.Recv()
		if err == nil {
			s.alarm.Reset(s.n.patience.silence)
			err = s.take(answer)
		}
		if err != nil {
			s.fault = s.explain("", err)
			s.alarm.Stop()
			s.cancel(nil)
			return
		}
	}
}

// take takes in one answer. An error says that a watch which is wanted is no more.
func (s *stream) take(answer *pb.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, wanted := s.keys[answer.WatchId]
	if answer.Canceled && (wanted || answer.Created) {
		if answer.CompactRevision != 0 {
			return s.n.fault("watch", key, rpctypes.ErrCompacted)
		}
		return s.n.fault("watch", key, refusal(answer.CancelReason))
	}
	for _, event := range answer.Events {
		key := s.n.key(event.Kv.Key)
		s.dirty[key] = max(s.dirty[key], event.Kv.ModRevision)
	}
	if len(answer.Events) > 0 {
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
	return nil
}

// refusal makes an error of the text that etcd ends a watch with.
func refusal(reason string) error {
	for _, known := range []error{rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCUserEmpty} {
		if reason == known.Error() || reason == rpctypes.Error(known).Error() {
			return known
		}
	}
	if reason == "" {
		reason = "etcd ended the watch"
	}
	return errors.New(reason)
}
