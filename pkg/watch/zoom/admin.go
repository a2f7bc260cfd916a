package zoom

import (
	"bytes"
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
			e.objects, e.faults = model.ExportReadable(n.location.Tree, nodes)
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

// Import writes native objects as MidoNet's API would write them, each after the objects that it refers to. It holds
// MidoNet's mutex meanwhile. Many nodes are written in one multi request, each only if it has the version that was
// read.
func (n *NSDB) Import(ctx context.Context, objects []spec.Object) error {
	tree := n.location.Tree
	nodes, err := model.Nodes(tree, objects)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	_, err = runInSession(ctx, n, func(c *client) (struct{}, error) { return struct{}{}, n.makeTree(c) })
	if err == nil {
		err = n.locked(ctx, func(c *client) error {
			for batch := range slices.Chunk(nodes, maxBatchNodes) {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := n.importBatch(c, batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("import: %w", n.fault(tree.Root(), err))
	}
	return nil
}

// Limits of one multi request: nodes, and bytes of data. A server closes the connection if a request reaches 1 MiB.
const (
	maxBatchNodes = 128
	maxBatchBytes = 512 << 10
)

// makeTree creates the nodes that MidoNet's readers require: a directory for each class, and the mutex.
func (n *NSDB) makeTree(c *client) error {
	tree := n.location.Tree
	for _, class := range model.Classes {
		for _, dir := range []string{tree.Objects(class), tree.Zoom() + "/objects/" + string(class)} {
			if err := makeParents(c, dir+"/"); err != nil {
				return n.fault(dir, err)
			}
		}
	}
	for _, dir := range []string{tree.Zoom() + "/state", tree.Zoom() + "/zoomlocks", tree.Mutex()} {
		if err := makeParents(c, dir+"/"); err != nil {
			return n.fault(dir, err)
		}
	}
	return nil
}

// importBatch writes some nodes. If another client changes one of them meanwhile, it reads and writes the remaining
// ones again.
func (n *NSDB) importBatch(c *client, batch []model.Node) error {
	var err error
	for range writeAttempts {
		var operations [][]any
		if operations, err = n.importOperations(c, batch); err != nil {
			return err
		}
		for _, group := range operations {
			if _, err = c.Multi(group...); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			break
		}
	}
	return n.fault(batch[0].Path, err)
}

// importOperations returns the operations that write a batch, split into groups that fit into one request each.
func (n *NSDB) importOperations(c *client, batch []model.Node) ([][]any, error) {
	operations, err := parallel(batch, func(node model.Node) (any, error) {
		current, stat, err := c.Get(node.Path)
		switch {
		case errors.Is(err, zk.ErrNoNode) && node.Data == nil: // an object that others refer to, and that does not exist
			return nil, nil
		case errors.Is(err, zk.ErrNoNode):
			if err := makeParents(c, node.Path); err != nil {
				return nil, n.fault(node.Path, err)
			}
			return &zk.CreateRequest{Path: node.Path, Data: node.Data, Acl: worldACL}, nil
		case err != nil:
			return nil, n.fault(node.Path, err)
		}
		data, err := node.Onto(current)
		if err != nil {
			return nil, n.fault(node.Path, err)
		}
		if bytes.Equal(data, current) {
			return nil, nil
		}
		return &zk.SetDataRequest{Path: node.Path, Data: data, Version: stat.Version}, nil
	})
	if err != nil {
		return nil, err
	}
	var pieces [][]any
	size := 0
	for i, operation := range operations {
		var data []byte
		switch o := operation.(type) {
		case nil:
			continue
		case *zk.CreateRequest:
			data = o.Data
		case *zk.SetDataRequest:
			data = o.Data
		}
		if len(data) > maxNodeSize {
			return nil, n.fault(batch[i].Path, tooBig(data))
		}
		if size += len(data); len(pieces) == 0 || size > maxBatchBytes {
			pieces, size = append(pieces, nil), len(data)
		}
		pieces[len(pieces)-1] = append(pieces[len(pieces)-1], operation)
	}
	return pieces, nil
}
