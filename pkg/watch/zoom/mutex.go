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

// lockTimeout is MidoNet's own zookeeper.lock_timeout.
const lockTimeout = 30 * time.Second

// lockName is what Curator's mutex calls its nodes, behind a prefix that is each client's own.
const lockName = "lock-"

// locked runs what writes objects while it holds the mutex that MidoNet's writers hold, Curator's InterProcessMutex. Every
// write inside checks the version that was read as well: should the session be lost on the way, nothing is overwritten.
func (n *NSDB) locked(ctx context.Context, write func(*client) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	client, err := n.session.await(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	n.running.Go(func() { done <- n.holding(ctx, client, write) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return n.session.why(ctx)
	}
}

func (n *NSDB) holding(ctx context.Context, client *client, write func(*client) error) error {
	folder := n.location.Tree.Mutex()
	if err := n.prepareMutex(client); err != nil {
		return err
	}
	mine, err := client.CreateProtectedEphemeralSequential(folder+"/"+lockName, nil, everybody)
	if err != nil {
		return n.fault(folder, err)
	}
	defer func() { _ = client.Delete(mine, -1) }()
	for {
		before, err := predecessor(client, folder, path.Base(mine))
		if err != nil {
			return n.fault(folder, err)
		}
		if before == "" {
			if ctx.Err() != nil { // nobody waits for it any more
				return n.session.why(ctx)
			}
			return write(client)
		}
		there, _, gone, err := client.ExistsW(folder + "/" + before)
		if err != nil {
			return n.fault(folder, err)
		}
		if !there {
			continue
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return n.fault(folder+"/"+before, &saying{"somebody else holds the lock on all objects, for too long", ctx.Err()})
		case <-n.life.Done():
			return errEnded
		}
	}
}

// prepareMutex makes the mutex's folder in a tree that is MidoNet's.
func (n *NSDB) prepareMutex(client *client) error {
	zoom := n.location.Tree.Zoom()
	there, _, err := client.Exists(zoom)
	if err != nil {
		return n.fault(zoom, err)
	}
	if !there {
		return n.fault(zoom, zk.ErrNoNode)
	}
	folder := n.location.Tree.Mutex()
	if err := makeParents(client, folder+"/"+lockName); err != nil {
		return n.fault(folder, err)
	}
	return nil
}

// predecessor is the lock that must go before one's own is the first; "" if there is none.
func predecessor(client *client, folder, mine string) (string, error) {
	names, _, err := client.Children(folder)
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, lockName) })
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(sequence(a), sequence(b)) })
	i := slices.Index(names, mine)
	if i < 0 {
		return "", fmt.Errorf("the lock on all objects was lost: %w", zk.ErrSessionExpired)
	}
	if i == 0 {
		return "", nil
	}
	return names[i-1], nil
}

// sequence is the number that the server has given a lock, in ten digits.
func sequence(name string) string { return name[strings.LastIndex(name, lockName)+len(lockName):] }

// change replaces a node's data by what edit makes of it, with the version that was read, and again if another was faster.
// edit gets nil and false where there is no node; a node that is made gets its parents.
func (n *NSDB) change(client *client, path string, edit func(data []byte, there bool) ([]byte, error)) error {
	var err error
	for range tries {
		var data []byte
		var stat *zk.Stat
		data, stat, err = client.Get(path)
		there := err == nil
		if !there && !errors.Is(err, zk.ErrNoNode) {
			break
		}
		if !there {
			data = nil
		}
		edited, editErr := edit(data, there)
		if editErr != nil {
			return n.fault(path, editErr)
		}
		if len(edited) > dataMost {
			return n.fault(path, tooBig(edited))
		}
		if there {
			_, err = client.Set(path, edited, stat.Version)
		} else if err = makeParents(client, path); err == nil {
			_, err = client.Create(path, edited, 0, everybody)
		}
		if err == nil {
			return nil
		}
		if !raced(err) {
			break
		}
	}
	return n.fault(path, err)
}

// dataMost is the most that a node is given: a server closes the connection over a request of 1 MiB.
const dataMost = 1<<20 - 4096

func tooBig(data []byte) error {
	return fmt.Errorf("it would have %d bytes: allowed: at most %d", len(data), dataMost)
}
