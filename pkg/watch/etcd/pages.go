package etcd

import (
	"context"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// readPages calls each for every key below a directory, page by page and all at one revision. If *revision is 0, it
// uses the revision of the first response and stores it there. The directory "" is everything below the prefix.
func (n *NSDB) readPages(ctx context.Context, dir native.Key, revision *int64, each func(*mvccpb.KeyValue)) error {
	if dir != "" {
		dir += "/"
	}
	from := n.path(dir)
	end := clientv3.GetPrefixRangeEnd(from)
	for {
		var answer *clientv3.GetResponse
		err := n.do(ctx, "read", dir, func(ctx context.Context, client *clientv3.Client) (err error) {
			answer, err = client.Get(ctx, from,
				clientv3.WithRange(end), clientv3.WithLimit(pageLimit), clientv3.WithRev(*revision))
			return err
		})
		if err != nil {
			return err
		}
		if *revision == 0 {
			*revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			each(kv)
		}
		if !answer.More || len(answer.Kvs) == 0 {
			return nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}
