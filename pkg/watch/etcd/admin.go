package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// Setting returns what stands under a key in one scope.
func (n *NSDB) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	if err := spec.CheckSettingKey(key); err != nil {
		return "", err
	}
	if _, err := spec.ParseSettingScope(string(scope)); err != nil {
		return "", err
	}
	object := native.SettingsKey(scope)
	held, err := n.hold(ctx, object)
	if err != nil {
		return "", err
	}
	value, ok := "", false
	if held.document != nil {
		if value, ok, err = held.document.Setting(key); err != nil {
			return "", n.fault("read", object, err)
		}
	}
	if !ok {
		return "", n.fault("read", object, absent(key+": not set"))
	}
	return value, nil
}

// absent is an error of what is not there.
type absent string

func (a absent) Error() string      { return string(a) }
func (absent) Is(target error) bool { return target == fs.ErrNotExist }

// SetSetting writes one setting into its scope's object, and makes that where there is none.
func (n *NSDB) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	value, err := spec.ParseSetting(key, value)
	if err != nil {
		return err
	}
	if _, err := spec.ParseSettingScope(string(scope)); err != nil {
		return err
	}
	return n.edit(ctx, native.SettingsKey(scope), true, key, json.RawMessage(strconv.Quote(value)))
}

// SetHost writes the weight or the limit of a host that is there.
func (n *NSDB) SetHost(ctx context.Context, host spec.HostID, field string, number int) error {
	member, err := native.HostMember(field, number)
	if err != nil {
		return err
	}
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return err
	}
	return n.edit(ctx, native.HostKey(host), false, member, json.RawMessage(strconv.Itoa(number)))
}

// holding is one object as a command finds it.
type holding struct {
	document *native.Document // nil: no such object
	modified int64            // the revision of its last change; 0: none
}

func (n *NSDB) hold(ctx context.Context, key native.Key) (held holding, err error) {
	var answer *clientv3.GetResponse
	err = n.do(ctx, "read", key, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Get(ctx, n.path(key))
		return err
	})
	if err != nil || len(answer.Kvs) == 0 {
		return held, err
	}
	held.modified = answer.Kvs[0].ModRevision
	held.document, err = native.Parse(answer.Kvs[0].Value, native.JSON)
	return held, n.fault("read", key, err)
}

// edits is how often a change that others came before is tried.
const edits = 10

// edit sets one member of an object as it stood when it was read: where somebody else has written it meanwhile, it is read
// again.
func (n *NSDB) edit(ctx context.Context, key native.Key, mayMake bool, member string, value json.RawMessage) error {
	for range edits {
		held, err := n.hold(ctx, key)
		if err != nil {
			return err
		}
		if held.document == nil && !mayMake {
			return n.fault("write", key, absent("no such object: allowed: one that is there"))
		}
		now, err := native.Parse(held.document.With(member, value), native.JSON)
		if err != nil {
			return n.fault("write", key, err)
		}
		if held.document != nil && held.document.Same(now) {
			return nil
		}
		var answer *clientv3.TxnResponse
		err = n.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) (err error) {
			unchanged := clientv3.Compare(clientv3.ModRevision(n.path(key)), "=", held.modified)
			answer, err = client.Txn(ctx).If(unchanged).Then(clientv3.OpPut(n.path(key), string(now.JSON))).Commit()
			return err
		})
		if err != nil || answer.Succeeded {
			return err
		}
	}
	return n.fault("write", key, errors.New("somebody else writes it again and again: try again"))
}

// Export reads every object below the prefix, at one revision. What is no object of the NSDB's is passed over.
func (n *NSDB) Export(ctx context.Context) (objects []spec.Object, err error) {
	var revision int64
	var faults []native.Fault
	leftOut := map[native.Key]bool{}
	leave := func(key native.Key, err error) {
		leftOut[key] = true
		faults = append(faults, native.Fault{Key: native.Key(n.path(key)), Text: err.Error()})
	}
	err = n.pages(ctx, "", &revision, func(kv *mvccpb.KeyValue) { // sorted by key, and the prefix is the same
		key := n.key(kv.Key)
		if !inNSDB(key) {
			return
		}
		if _, err := native.ParseKey(string(key)); err != nil {
			leave(key, err)
			return
		}
		document, err := native.Parse(kv.Value, native.JSON)
		if err != nil {
			leave(key, err)
			return
		}
		objects = append(objects, spec.Object{Key: string(key), Value: document.JSON})
	})
	if err != nil {
		return nil, err
	}
	objects, more := native.Exportable(objects, leftOut)
	return objects, native.IncompleteUnless(append(faults, more...))
}

// inNSDB says whether a key lies in a folder of objects.
func inNSDB(key native.Key) bool {
	folder, _, below := strings.Cut(string(key), "/")
	switch folder {
	case native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config:
		return below
	}
	return false
}

// Import writes the objects, many in one transaction, what is referred to first. Hosts come last: a host whose object is
// there has all its bindings, and so nothing of what it runs seems to be unwanted meanwhile.
func (n *NSDB) Import(ctx context.Context, objects []spec.Object) error {
	documents, err := native.ParseObjects(objects)
	if err != nil {
		return fmt.Errorf("etcd %s: %w", n.endpoints(), err)
	}
	var operations []clientv3.Op
	var first native.Key
	size := 0
	write := func() error {
		if len(operations) == 0 {
			return nil
		}
		err := n.do(ctx, "write", first, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		operations, size = nil, 0
		return err
	}
	for _, i := range native.ImportOrder(objects) {
		path, value := n.path(native.Key(objects[i].Key)), string(documents[i].JSON)
		if len(operations) == transactionLimit || size+len(path)+len(value) > batchLimit {
			if err := write(); err != nil {
				return err
			}
		}
		if len(operations) == 0 {
			first = native.Key(objects[i].Key)
		}
		operations = append(operations, clientv3.OpPut(path, value))
		size += len(path) + len(value)
	}
	return write()
}
