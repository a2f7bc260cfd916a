package zoom

import (
	"context"
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

// objectsMutex is the mutex of MidoNet's objects, Curator's InterProcessMutex.
type objectsMutex struct{ conn *connection }

// hold runs write while it holds the mutex, as all writers of MidoNet do. Every write also checks the version that was
// read. So nothing is overwritten if the session, and with it the mutex, is lost.
func (m *objectsMutex) hold(ctx context.Context, write func(*client) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	client, err := m.conn.session.await(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	m.conn.goroutines.Go(func() { done <- m.queueAndWrite(ctx, client, write) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return m.conn.session.waitError(ctx)
	}
}

// queueAndWrite waits until it is the first in the queue of the mutex, and then runs write.
func (m *objectsMutex) queueAndWrite(ctx context.Context, client *client, write func(*client) error) error {
	dir := m.conn.location.Tree.Mutex()
	if err := m.prepare(client); err != nil {
		return err
	}
	own, err := client.CreateProtectedEphemeralSequential(dir+"/"+lockName, nil, worldACL)
	if err != nil {
		return m.conn.fault(dir, err)
	}
	defer func() { _ = client.Delete(own, -1) }()
	for {
		before, err := predecessor(client, dir, path.Base(own))
		if err != nil {
			return m.conn.fault(dir, err)
		}
		if before == "" {
			if ctx.Err() != nil { // the caller has returned
				return m.conn.session.waitError(ctx)
			}
			return write(client)
		}
		exists, _, gone, err := client.ExistsW(dir + "/" + before)
		if err != nil {
			return m.conn.fault(dir, err)
		}
		if !exists {
			continue
		}
		select {
		case <-gone:
		case <-ctx.Done():
			held := &messageError{"another client has held the lock on all objects for too long", ctx.Err()}
			return m.conn.fault(dir+"/"+before, held)
		case <-m.conn.ctx.Done():
			return errClosed
		}
	}
}

// prepare creates the directory of the mutex if the tree is one of MidoNet.
func (m *objectsMutex) prepare(client *client) error {
	zoom := m.conn.location.Tree.Zoom()
	exists, _, err := client.Exists(zoom)
	if err != nil {
		return m.conn.fault(zoom, err)
	}
	if !exists {
		return m.conn.fault(zoom, zk.ErrNoNode)
	}
	dir := m.conn.location.Tree.Mutex()
	if err := makeParents(client, dir+"/"+lockName); err != nil {
		return m.conn.fault(dir, err)
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
