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

// administration implements the operations of administration commands.
type administration struct{ conn *connection }

// Setting returns the value of a setting in one scope.
func (a *administration) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	if err := spec.CheckSettingKey(key); err != nil {
		return "", err
	}
	if _, err := spec.ParseSettingScope(string(scope)); err != nil {
		return "", err
	}
	object := native.SettingsKey(scope)
	stored, err := a.load(ctx, object)
	if err != nil {
		return "", err
	}
	value, ok := "", false
	if stored.document != nil {
		if value, ok, err = stored.document.Setting(key); err != nil {
			return "", a.conn.fault("read", object, err)
		}
	}
	if !ok {
		return "", a.conn.fault("read", object, notFound(key+": not set"))
	}
	return value, nil
}

// notFound is an error for which errors.Is(err, fs.ErrNotExist) holds.
type notFound string

func (e notFound) Error() string      { return string(e) }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// SetSetting writes one setting to the object of its scope, and creates the object if it does not exist.
func (a *administration) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	value, err := spec.ParseSetting(key, value)
	if err != nil {
		return err
	}
	if _, err := spec.ParseSettingScope(string(scope)); err != nil {
		return err
	}
	return a.edit(ctx, native.SettingsKey(scope), true, key, json.RawMessage(strconv.Quote(value)))
}

// SetHost writes the weight or the limit of an existing host.
func (a *administration) SetHost(ctx context.Context, host spec.HostID, field string, number int) error {
	member, err := native.HostMember(field, number)
	if err != nil {
		return err
	}
	if _, err := spec.ParseID[spec.HostID]("host id", string(host)); err != nil {
		return err
	}
	return a.edit(ctx, native.HostKey(host), false, member, json.RawMessage(strconv.Itoa(number)))
}

// storedObject is an object as it was read from etcd.
type storedObject struct {
	document *native.Document // nil: the object does not exist
	modified int64            // revision of the last change; 0: the object does not exist
}

func (a *administration) load(ctx context.Context, key native.Key) (stored storedObject, err error) {
	var answer *clientv3.GetResponse
	err = a.conn.do(ctx, "read", key, func(ctx context.Context, client *clientv3.Client) (err error) {
		answer, err = client.Get(ctx, a.conn.path(key))
		return err
	})
	if err != nil || len(answer.Kvs) == 0 {
		return stored, err
	}
	stored.modified = answer.Kvs[0].ModRevision
	stored.document, err = native.Parse(answer.Kvs[0].Value, native.JSON)
	return stored, a.conn.fault("read", key, err)
}

// editAttempts limits how often an edit is repeated because another client has changed the object.
const editAttempts = 10

// edit sets one member of an object, if the object has not changed since it was read. Otherwise it reads the object
// again and repeats the edit.
func (a *administration) edit(
	ctx context.Context, key native.Key, mayCreate bool, member string, value json.RawMessage,
) error {
	for range editAttempts {
		stored, err := a.load(ctx, key)
		if err != nil {
			return err
		}
		if stored.document == nil && !mayCreate {
			return a.conn.fault("write", key, notFound("no such object: allowed: one that is there"))
		}
		now, err := native.Parse(stored.document.With(member, value), native.JSON)
		if err != nil {
			return a.conn.fault("write", key, err)
		}
		if stored.document != nil && stored.document.Same(now) {
			return nil
		}
		var answer *clientv3.TxnResponse
		err = a.conn.do(ctx, "write", key, func(ctx context.Context, client *clientv3.Client) (err error) {
			unchanged := clientv3.Compare(clientv3.ModRevision(a.conn.path(key)), "=", stored.modified)
			answer, err = client.Txn(ctx).If(unchanged).Then(
				clientv3.OpPut(a.conn.path(key), string(now.JSON))).Commit()
			return err
		})
		if err != nil || answer.Succeeded {
			return err
		}
	}
	return a.conn.fault("write", key, errors.New("another client changed it during every attempt: try again"))
}

// Export reads every object below the prefix at one revision. Keys that do not belong to the NSDB are skipped.
func (a *administration) Export(ctx context.Context) (objects []spec.Object, err error) {
	var revision int64
	var faults []native.Fault
	leftOut := map[native.Key]bool{}
	omit := func(key native.Key, err error) {
		leftOut[key] = true
		faults = append(faults, native.Fault{Key: native.Key(a.conn.path(key)), Text: err.Error()})
	}
	// The pages are sorted by etcd key. All keys have the same prefix, so the objects are sorted by native key.
	err = a.conn.readPages(ctx, "", &revision, func(kv *mvccpb.KeyValue) {
		key := a.conn.key(kv.Key)
		if !inNSDB(key) {
			return
		}
		if _, err := native.ParseKey(string(key)); err != nil {
			omit(key, err)
			return
		}
		document, err := native.Parse(kv.Value, native.JSON)
		if err != nil {
			omit(key, err)
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

// inNSDB reports whether a key lies in a directory of NSDB objects.
func inNSDB(key native.Key) bool {
	dir, _, below := strings.Cut(string(key), "/")
	switch dir {
	case native.Hosts, native.Bindings, native.Containers, native.Groups, native.Configurations, native.Config:
		return below
	}
	return false
}

// Import writes the objects, many in one transaction, each after the objects that it refers to. Hosts come last: when
// the object of a host appears, all its bindings exist, so a running container never seems to be unbound in between.
func (a *administration) Import(ctx context.Context, objects []spec.Object) error {
	documents, err := native.ParseObjects(objects)
	if err != nil {
		return fmt.Errorf("etcd %s: %w", a.conn.endpoints(), err)
	}
	var operations []clientv3.Op
	var first native.Key
	size := 0
	write := func() error {
		if len(operations) == 0 {
			return nil
		}
		err := a.conn.do(ctx, "write", first, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Txn(ctx).Then(operations...).Commit()
			return err
		})
		operations, size = nil, 0
		return err
	}
	for _, i := range native.ImportOrder(objects) {
		path, value := a.conn.path(native.Key(objects[i].Key)), string(documents[i].JSON)
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
