package zoom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// administration implements the operations of administration commands.
type administration struct {
	conn  *connection
	mutex objectsMutex
}

func newAdministration(conn *connection) *administration {
	return &administration{conn, objectsMutex{conn}}
}

// Setting reads a setting from the agent's template default or from a host's own node.
func (a *administration) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	path, err := a.conn.location.Tree.Settings(scope)
	if err != nil {
		return "", err
	}
	data, err := runInSession(ctx, a.conn, func(c *client) ([]byte, error) {
		data, _, err := c.Get(path)
		return data, err
	})
	if err != nil {
		return "", a.conn.fault(path, err)
	}
	value, found, err := model.Setting(data, key)
	if err != nil {
		return "", a.conn.fault(path, err)
	}
	if !found {
		return "", a.conn.fault(path, &messageError{key + ": not set", fs.ErrNotExist})
	}
	return value, nil
}

// SetSetting writes a setting to the agent's template default or to a host's own node.
func (a *administration) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	path, err := a.conn.location.Tree.Settings(scope)
	if err != nil {
		return err
	}
	if _, err := model.EditSetting(nil, key, value); err != nil {
		return err
	}
	_, err = runInSession(ctx, a.conn, func(c *client) (struct{}, error) {
		return struct{}{}, a.editNode(c, path, func(data []byte, _ bool) ([]byte, error) {
			return model.EditSetting(data, key, value)
		})
	})
	return a.conn.fault(path, err)
}

// SetHost writes a field of a Host object. It holds MidoNet's mutex meanwhile.
func (a *administration) SetHost(ctx context.Context, host spec.HostID, field string, value int) error {
	id, err := model.ParseUUID("host id", host)
	if err != nil {
		return err
	}
	path := a.conn.location.Tree.Object(model.Host, id)
	err = a.mutex.hold(ctx, func(c *client) error {
		return a.editNode(c, path, func(data []byte, exists bool) ([]byte, error) {
			if !exists {
				return nil, zk.ErrNoNode
			}
			return model.EditHost(data, field, value)
		})
	})
	return a.conn.fault(path, err)
}

// editNode replaces the data of a node by the result of edit, if the node has not changed since it was read. Otherwise
// it repeats that. If the node does not exist, edit is called with nil and false, and the node is created with its
// parents.
func (a *administration) editNode(
	client *client, path string, edit func(data []byte, exists bool) ([]byte, error),
) error {
	var err error
	for range writeAttempts {
		var data []byte
		var stat *zk.Stat
		data, stat, err = client.Get(path)
		exists := err == nil
		if !exists && !errors.Is(err, zk.ErrNoNode) {
			break
		}
		if !exists {
			data = nil
		}
		edited, editErr := edit(data, exists)
		if editErr != nil {
			return a.conn.fault(path, editErr)
		}
		if len(edited) > maxNodeSize {
			return a.conn.fault(path, tooBig(edited))
		}
		if exists {
			_, err = client.Set(path, edited, stat.Version)
		} else if err = makeParents(client, path); err == nil {
			_, err = client.Create(path, edited, 0, worldACL)
		}
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			break
		}
	}
	return a.conn.fault(path, err)
}

// maxNodeSize is the largest size of a written node in bytes. A server closes the connection if a request reaches 1
// MiB.
const maxNodeSize = 1<<20 - 4096

func tooBig(data []byte) error {
	return fmt.Errorf("it would have %d bytes: allowed: at most %d", len(data), maxNodeSize)
}

// exportAttempts limits how often the tree is read for an export with faults. If an object is removed while the tree is
// read, references to it look broken.
const exportAttempts = 3

// Export reads all settings, and all objects of the classes that native objects are built from.
func (a *administration) Export(ctx context.Context) ([]spec.Object, error) {
	type export struct {
		objects []spec.Object
		faults  []native.Fault
	}
	e, err := runInSession(ctx, a.conn, func(c *client) (e export, err error) {
		for range exportAttempts {
			nodes, faults, err := a.readAll(c)
			if err != nil {
				return e, err
			}
			before := e.faults
			e.objects, e.faults = model.Export(a.conn.location.Tree, nodes)
			e.faults = append(faults, e.faults...)
			if slices.Equal(e.faults, before) {
				break
			}
		}
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("export: %w", a.conn.fault(a.conn.location.Tree.Root(), err))
	}
	return e.objects, native.IncompleteUnless(e.faults)
}

// readAll reads the nodes for an export. They are not read at one point in time: a node that is removed between listing
// and reading is skipped. An unreadable node is a fault. Only a tree without hosts and a lost connection are errors.
func (a *administration) readAll(c *client) (nodes map[string][]byte, faults []native.Fault, err error) {
	tree := a.conn.location.Tree
	var paths []string
	list := func(dir string, needed bool) error {
		names, _, err := c.Children(dir)
		switch {
		case errors.Is(err, zk.ErrNoNode) && !needed:
		case err != nil && (needed || connectionLost(err)):
			return a.conn.fault(dir, err)
		case err != nil:
			faults = append(faults, native.Fault{Key: native.Key(dir), Text: describe(err).Error()})
		}
		for _, name := range names {
			paths = append(paths, dir+"/"+name)
		}
		return nil
	}
	for _, class := range model.Classes {
		if err := list(tree.Objects(class), class == model.Host); err != nil {
			return nil, nil, err
		}
	}
	settings := tree.HostSettings("x")
	if err := list(settings[:strings.LastIndexByte(settings, '/')], false); err != nil {
		return nil, nil, err
	}
	if path, err := tree.Settings(spec.SettingDefault); err == nil {
		paths = append(paths, path)
	}
	type content struct {
		data   []byte
		exists bool
		err    error
	}
	read, err := parallel(paths, func(path string) (content, error) {
		data, _, err := c.Get(path)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return content{}, nil
		case err != nil && connectionLost(err):
			return content{}, a.conn.fault(path, err)
		}
		return content{data, err == nil, err}, nil
	})
	nodes = map[string][]byte{}
	for i, path := range paths {
		if read[i].exists {
			nodes[path] = read[i].data
		}
		if read[i].err != nil {
			faults = append(faults, native.Fault{Key: native.Key(path), Text: describe(read[i].err).Error()})
		}
	}
	return nodes, faults, err
}

// Import refuses all objects: MidoNet's own tools write them.
func (a *administration) Import(context.Context, []spec.Object) error {
	const refusal = "MidoNet's own tools write its objects: allowed: an NSDB of files or in etcd"
	return fmt.Errorf("%s: %s", a.conn.location.Endpoint(), refusal)
}
