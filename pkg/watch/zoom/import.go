package zoom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// Import writes native objects as MidoNet's API would write them, each after the objects that it refers to. It holds
// MidoNet's mutex meanwhile. Many nodes are written in one multi request, each only if it has the version that was
// read.
func (a *administration) Import(ctx context.Context, objects []spec.Object) error {
	tree := a.conn.location.Tree
	nodes, err := model.Nodes(tree, objects)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	_, err = runInSession(ctx, a.conn, func(c *client) (struct{}, error) { return struct{}{}, a.makeTree(c) })
	if err == nil {
		err = a.mutex.hold(ctx, func(c *client) error {
			for batch := range slices.Chunk(nodes, maxBatchNodes) {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := a.importBatch(c, batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("import: %w", a.conn.fault(tree.Root(), err))
	}
	return nil
}

// Limits of one multi request: nodes, and bytes of data. A server closes the connection if a request reaches 1 MiB.
const (
	maxBatchNodes = 128
	maxBatchBytes = 512 << 10
)

// makeTree creates the nodes that MidoNet's readers require: a directory for each class, and the mutex.
func (a *administration) makeTree(c *client) error {
	tree := a.conn.location.Tree
	for _, class := range model.Classes {
		for _, dir := range []string{tree.Objects(class), tree.Zoom() + "/objects/" + string(class)} {
			if err := makeParents(c, dir+"/"); err != nil {
				return a.conn.fault(dir, err)
			}
		}
	}
	for _, dir := range []string{tree.Zoom() + "/state", tree.Zoom() + "/zoomlocks", tree.Mutex()} {
		if err := makeParents(c, dir+"/"); err != nil {
			return a.conn.fault(dir, err)
		}
	}
	return nil
}

// importBatch writes some nodes. If another client changes one of them meanwhile, it reads and writes the remaining
// ones again.
func (a *administration) importBatch(c *client, batch []model.Node) error {
	var err error
	for range writeAttempts {
		var operations [][]any
		if operations, err = a.importOperations(c, batch); err != nil {
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
	return a.conn.fault(batch[0].Path, err)
}

// importOperations returns the operations that write a batch, split into groups that fit into one request each.
func (a *administration) importOperations(c *client, batch []model.Node) ([][]any, error) {
	operations, err := parallel(batch, func(node model.Node) (any, error) {
		current, stat, err := c.Get(node.Path)
		switch {
		case errors.Is(err, zk.ErrNoNode) && node.Data == nil: // an object that others refer to, and that does not exist
			return nil, nil
		case errors.Is(err, zk.ErrNoNode):
			if err := makeParents(c, node.Path); err != nil {
				return nil, a.conn.fault(node.Path, err)
			}
			return &zk.CreateRequest{Path: node.Path, Data: node.Data, Acl: worldACL}, nil
		case err != nil:
			return nil, a.conn.fault(node.Path, err)
		}
		data, err := node.Onto(current)
		if err != nil {
			return nil, a.conn.fault(node.Path, err)
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
			return nil, a.conn.fault(batch[i].Path, tooBig(data))
		}
		if size += len(data); len(pieces) == 0 || size > maxBatchBytes {
			pieces, size = append(pieces, nil), len(data)
		}
		pieces[len(pieces)-1] = append(pieces[len(pieces)-1], operation)
	}
	return pieces, nil
}
