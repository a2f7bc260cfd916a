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

// Setting reads a setting from the agent's template default or from a host's own node.
func (n *NSDB) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	path, err := n.location.Tree.Settings(scope)
	if err != nil {
		return "", err
	}
	data, err := runInSession(ctx, n, func(c *client) ([]byte, error) {
		data, _, err := c.Get(path)
		return data, err
	})
	if err != nil {
		return "", n.fault(path, err)
	}
	value, found, err := model.Setting(data, key)
	if err != nil {
		return "", n.fault(path, err)
	}
	if !found {
		return "", n.fault(path, &messageError{key + ": not set", fs.ErrNotExist})
	}
	return value, nil
}

// SetSetting writes a setting to the agent's template default or to a host's own node.
func (n *NSDB) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	path, err := n.location.Tree.Settings(scope)
	if err != nil {
		return err
	}
	if _, err := model.EditSetting(nil, key, value); err != nil {
		return err
	}
	_, err = runInSession(ctx, n, func(c *client) (struct{}, error) {
		return struct{}{}, n.editNode(c, path, func(data []byte, _ bool) ([]byte, error) {
			return model.EditSetting(data, key, value)
		})
	})
	return n.fault(path, err)
}

// SetHost writes a field of a Host object. It holds MidoNet's mutex meanwhile.
func (n *NSDB) SetHost(ctx context.Context, host spec.HostID, field string, value int) error {
	id, err := model.ParseUUID("host id", host)
	if err != nil {
		return err
	}
	path := n.location.Tree.Object(model.Host, id)
	err = n.locked(ctx, func(c *client) error {
		return n.editNode(c, path, func(data []byte, exists bool) ([]byte, error) {
			if !exists {
				return nil, zk.ErrNoNode
			}
			return model.EditHost(data, field, value)
		})
	})
	return n.fault(path, err)
}

// exportAttempts limits how often the tree is read for an export with faults. If an object is removed while the tree is
// read, references to it look broken.
const exportAttempts = 3

// Export reads all settings, and all objects of the classes that native objects are built from.
func (n *NSDB) Export(ctx context.Context) ([]spec.Object, error) {
	type export struct {
		objects []spec.Object
		faults  []native.Fault
	}
	e, err := runInSession(ctx, n, func(c *client) (e export, err error) {
		for range exportAttempts {
			nodes, faults, err := n.readAll(c)
			if err != nil {
				return e, err
			}
			before := e.faults
			e.objects, e.faults = model.Export(n.location.Tree, nodes)
			e.faults = append(faults, e.faults...)
			if slices.Equal(e.faults, before) {
				break
			}
		}
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("export: %w", n.fault(n.location.Tree.Root(), err))
	}
	return e.objects, native.IncompleteUnless(e.faults)
}

// readAll reads the nodes for an export. They are not read at one point in time: a node that is removed between listing
// and reading is skipped. An unreadable node is a fault. Only a tree without hosts and a lost connection are errors.
func (n *NSDB) readAll(c *client) (nodes map[string][]byte, faults []native.Fault, err error) {
	tree := n.location.Tree
	var paths []string
	list := func(dir string, needed bool) error {
		names, _, err := c.Children(dir)
		switch {
		case errors.Is(err, zk.ErrNoNode) && !needed:
		case err != nil && (needed || connectionLost(err)):
			return n.fault(dir, err)
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
			return content{}, n.fault(path, err)
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
func (n *NSDB) Import(context.Context, []spec.Object) error {
	const refusal = "MidoNet's own tools write its objects: allowed: an NSDB of files or in etcd"
	return fmt.Errorf("%s: %s", n.location.Endpoint(), refusal)
}
