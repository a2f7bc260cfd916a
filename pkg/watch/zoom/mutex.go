package zoom

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// lockTimeout is the default of MidoNet's zookeeper.lock_timeout.
const lockTimeout = 30 * time.Second

// lockName is part of the names of the nodes of Curator's mutex. Each client puts its own prefix in front of it.
const lockName = "lock-"

// locked runs write while it holds the mutex that all writers of MidoNet use, Curator's InterProcessMutex. Every write
// also checks the version that was read. So nothing is overwritten if the session, and with it the mutex, is lost.
func (n *NSDB) locked(ctx context.Context, write func(*client) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	client, err := n.session.await(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	n.goroutines.Go(func() { done <- n.withMutex(ctx, client, write) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return n.session.waitError(ctx)
	}
}

func (n *NSDB) withMutex(ctx context.Context, client *client, write func(*client) error) error {
	dir := n.location.Tree.Mutex()
	if err := n.prepareMutex(client); err != nil {
		return err
	}
	own, err := client.CreateProtectedEphemeralSequential(dir+"/"+lockName, nil, worldACL)
	if err != nil {
		return n.fault(dir, err)
	}
	defer func() { _ = client.Delete(own, -1) }()
	for {
		before, err := predecessor(client, dir, path.Base(own))
		if err != nil {
			return n.fault(dir, err)
		}
		if before == "" {
			if ctx.Err() != nil { // the caller has returned
				return n.session.waitError(ctx)
			}
			return write(client)
		}
		exists, _, gone, err := client.ExistsW(dir + "/" + before)
		if err != nil {
			return n.fault(dir, err)
		}
		if !exists {
			continue
		}
		select {
		case <-gone:
		case <-ctx.Done():
			held := &messageError{"another client has held the lock on all objects for too long", ctx.Err()}
			return n.fault(dir+"/"+before, held)
		case <-n.ctx.Done():
			return errClosed
		}
	}
}

// prepareMutex creates the directory of the mutex if the tree is one of MidoNet.
func (n *NSDB) prepareMutex(client *client) error {
	zoom := n.location.Tree.Zoom()
	exists, _, err := client.Exists(zoom)
	if err != nil {
		return n.fault(zoom, err)
	}
	if !exists {
		return n.fault(zoom, zk.ErrNoNode)
	}
	dir := n.location.Tree.Mutex()
	if err := makeParents(client, dir+"/"+lockName); err != nil {
		return n.fault(dir, err)
	}
	return nil
}

// predecessor returns the node in front of own in the queue of the mutex, and "" if own is the first.
func predecessor(client *client, dir, own string) (string, error) {
	names, _, err := client.Children(dir)
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, lockName) })
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(sequence(a), sequence(b)) })
	i := slices.Index(names, own)
	if i < 0 {
		return "", fmt.Errorf("the lock on all objects was lost: %w", zk.ErrSessionExpired)
	}
	if i == 0 {
		return "", nil
	}
	return names[i-1], nil
}

// sequence returns the number that the server has added to the name of a node, in ten digits.
func sequence(name string) string { return name[strings.LastIndex(name, lockName)+len(lockName):] }

// editNode replaces the data of a node by the result of edit, if the node has not changed since it was read. Otherwise
// it repeats that. If the node does not exist, edit is called with nil and false, and the node is created with its
// parents.
func (n *NSDB) editNode(client *client, path string, edit func(data []byte, exists bool) ([]byte, error)) error {
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
			return n.fault(path, editErr)
		}
		if len(edited) > maxNodeSize {
			return n.fault(path, tooBig(edited))
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
	return n.fault(path, err)
}

// maxNodeSize is the largest size of a written node in bytes. A server closes the connection if a request reaches 1
// MiB.
const maxNodeSize = 1<<20 - 4096

func tooBig(data []byte) error {
	return fmt.Errorf("it would have %d bytes: allowed: at most %d", len(data), maxNodeSize)
}
