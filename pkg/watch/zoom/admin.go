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

// Setting reads a setting of the agent's template default, or of a host's own node.
func (n *NSDB) Setting(ctx context.Context, scope spec.SettingScope, key string) (string, error) {
	path, err := n.location.Tree.Settings(scope)
	if err != nil {
		return "", err
	}
	data, err := ask(ctx, n, func(c *client) ([]byte, error) {
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
		return "", n.fault(path, &saying{key + ": not set", fs.ErrNotExist})
	}
	return value, nil
}

// SetSetting writes a setting there.
func (n *NSDB) SetSetting(ctx context.Context, scope spec.SettingScope, key, value string) error {
	path, err := n.location.Tree.Settings(scope)
	if err != nil {
		return err
	}
	if _, err := model.EditSetting(nil, key, value); err != nil {
		return err
	}
	_, err = ask(ctx, n, func(c *client) (struct{}, error) {
		return struct{}{}, n.change(c, path, func(data []byte, _ bool) ([]byte, error) {
			return model.EditSetting(data, key, value)
		})
	})
	return n.fault(path, err)
}

// SetHost writes a field of a Host object, under MidoNet's mutex.
func (n *NSDB) SetHost(ctx context.Context, host spec.HostID, field string, value int) error {
	id, err := model.ParseUUID("host id", host)
	if err != nil {
		return err
	}
	path := n.location.Tree.Object(model.Host, id)
	err = n.locked(ctx, func(c *client) error {
		return n.change(c, path, func(data []byte, there bool) ([]byte, error) {
			if !there {
				return nil, zk.ErrNoNode
			}
			return model.EditHost(data, field, value)
		})
	})
	return n.fault(path, err)
}

// exportTries is how often the tree is read for an export that has faults: an object that is removed while the tree is read looks
// like a reference that leads nowhere.
const exportTries = 3

// Export reads all objects of the classes that native objects are made of, and all settings.
func (n *NSDB) Export(ctx context.Context) ([]spec.Object, error) {
	type export struct {
		objects []spec.Object
		faults  []native.Fault
	}
	e, err := ask(ctx, n, func(c *client) (e export, err error) {
		for range exportTries {
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

// readAll reads what an export carries, each node at a time of its own: what is gone between the list and the read is gone. What
// cannot be read is a fault; only a tree without hosts, or a lost connection, is an error.
func (n *NSDB) readAll(c *client) (nodes map[string][]byte, faults []native.Fault, err error) {
	tree := n.location.Tree
	var paths []string
	list := func(folder string, needed bool) error {
		names, _, err := c.Children(folder)
		switch {
		case errors.Is(err, zk.ErrNoNode) && !needed:
		case err != nil && (needed || lost(err)):
			return n.fault(folder, err)
		case err != nil:
			faults = append(faults, native.Fault{Key: native.Key(folder), Text: plain(err).Error()})
		}
		for _, name := range names {
			paths = append(paths, folder+"/"+name)
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
		data  []byte
		there bool
		err   error
	}
	read, err := gather(paths, func(path string) (content, error) {
		data, _, err := c.Get(path)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return content{}, nil
		case err != nil && lost(err):
			return content{}, n.fault(path, err)
		}
		return content{data, err == nil, err}, nil
	})
	nodes = map[string][]byte{}
	for i, path := range paths {
		if read[i].there {
			nodes[path] = read[i].data
		}
		if read[i].err != nil {
			faults = append(faults, native.Fault{Key: native.Key(path), Text: plain(read[i].err).Error()})
		}
	}
	return nodes, faults, err
}

// Import writes native objects as MidoNet's API would have, in the order in which they can be referred to, under MidoNet's
// mutex. Many nodes go in one multi; each is written with the version that was read.
func (n *NSDB) Import(ctx context.Context, objects []spec.Object) error {
	tree := n.location.Tree
	nodes, err := model.Nodes(tree, objects)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	_, err = ask(ctx, n, func(c *client) (struct{}, error) { return struct{}{}, n.makeTree(c) })
	if err == nil {
		err = n.locked(ctx, func(c *client) error {
			for batch := range slices.Chunk(nodes, batchMost) {
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

// Of one multi: nodes, and bytes of data. A server refuses a request of 1 MiB by closing the connection.
const (
	batchMost     = 128
	batchDataMost = 512 << 10
)

// makeTree makes the nodes that MidoNet's readers take for granted: a folder for each class, and the lock.
func (n *NSDB) makeTree(c *client) error {
	tree := n.location.Tree
	for _, class := range model.Classes {
		for _, folder := range []string{tree.Objects(class), tree.Zoom() + "/objects/" + string(class)} {
			if err := makeParents(c, folder+"/"); err != nil {
				return n.fault(folder, err)
			}
		}
	}
	for _, folder := range []string{tree.Zoom() + "/state", tree.Zoom() + "/zoomlocks", tree.Mutex()} {
		if err := makeParents(c, folder+"/"); err != nil {
			return n.fault(folder, err)
		}
	}
	return nil
}

// importBatch writes some nodes. Where another writer was faster, all that is not written yet is read again.
func (n *NSDB) importBatch(c *client, batch []model.Node) error {
	var err error
	for range tries {
		var operations [][]any
		if operations, err = n.importOperations(c, batch); err != nil {
			return err
		}
		for _, some := range operations {
			if _, err = c.Multi(some...); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		if !raced(err) {
			break
		}
	}
	return n.fault(batch[0].Path, err)
}

// importOperations says how each node of a batch is to be written, cut into pieces that a server takes.
func (n *NSDB) importOperations(c *client, batch []model.Node) ([][]any, error) {
	ready, err := gather(batch, func(node model.Node) (any, error) {
		stands, stat, err := c.Get(node.Path)
		switch {
		case errors.Is(err, zk.ErrNoNode) && node.Data == nil: // only referred to, and not there
			return nil, nil
		case errors.Is(err, zk.ErrNoNode):
			if err := makeParents(c, node.Path); err != nil {
				return nil, n.fault(node.Path, err)
			}
			return &zk.CreateRequest{Path: node.Path, Data: node.Data, Acl: everybody}, nil
		case err != nil:
			return nil, n.fault(node.Path, err)
		}
		data, err := node.Onto(stands)
		if err != nil {
			return nil, n.fault(node.Path, err)
		}
		if bytes.Equal(data, stands) {
			return nil, nil
		}
		return &zk.SetDataRequest{Path: node.Path, Data: data, Version: stat.Version}, nil
	})
	if err != nil {
		return nil, err
	}
	var pieces [][]any
	size := 0
	for i, operation := range ready {
		var data []byte
		switch o := operation.(type) {
		case nil:
			continue
		case *zk.CreateRequest:
			data = o.Data
		case *zk.SetDataRequest:
			data = o.Data
		}
		if len(data) > dataMost {
			return nil, n.fault(batch[i].Path, tooBig(data))
		}
		if size += len(data); len(pieces) == 0 || size > batchDataMost {
			pieces, size = append(pieces, nil), len(data)
		}
		pieces[len(pieces)-1] = append(pieces[len(pieces)-1], operation)
	}
	return pieces, nil
}
