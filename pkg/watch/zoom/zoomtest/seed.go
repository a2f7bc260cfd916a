package zoomtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// Seed writes the nodes of native objects into a ZooKeeper, and creates what a MidoNet cluster creates when it starts.
// Like MidoNet it writes all objects in one transaction. It replaces the objects that exist, and removes none.
func Seed(conn *zk.Conn, tree model.Tree, objects []spec.Object) error {
	nodes, err := Nodes(tree, objects)
	if err != nil {
		return err
	}
	directories := []string{tree.Mutex(), tree.Zoom() + "/state", tree.Zoom() + "/zoomlocks"}
	for _, class := range model.Classes {
		directories = append(directories, tree.Objects(class))
	}
	for _, dir := range directories {
		if err := create(conn, dir); err != nil {
			return err
		}
	}
	var operations []any
	for _, node := range nodes {
		exists, _, err := conn.Exists(node.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", node.Path, err)
		}
		if exists {
			operations = append(operations, &zk.SetDataRequest{Path: node.Path, Data: node.Data, Version: -1})
			continue
		}
		if err := create(conn, node.Path[:strings.LastIndexByte(node.Path, '/')]); err != nil {
			return err
		}
		operations = append(operations, &zk.CreateRequest{
			Path: node.Path, Data: node.Data, Acl: zk.WorldACL(zk.PermAll),
		})
	}
	_, err = conn.Multi(operations...)
	return err
}

// create creates a node and its parents, unless they exist.
func create(conn *zk.Conn, path string) error {
	if exists, _, err := conn.Exists(path); exists || err != nil {
		return err
	}
	for i, c := range path + "/" {
		if i == 0 || c != '/' {
			continue
		}
		_, err := conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll))
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("%s: %w", path[:i], err)
		}
	}
	return nil
}
