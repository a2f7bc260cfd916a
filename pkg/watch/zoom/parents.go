package zoom

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
)

// worldACL is the ACL of all nodes of MidoNet.
var worldACL = zk.WorldACL(zk.PermAll)

// makeParents creates the missing persistent nodes above a path.
func makeParents(client *client, path string) error {
	var missing []string
	for parent := path; ; {
		parent = parent[:strings.LastIndexByte(parent, '/')]
		if parent == "" {
			break
		}
		exists, _, err := client.Exists(parent)
		if err != nil {
			return err
		}
		if exists {
			break
		}
		missing = append(missing, parent)
	}
	for _, parent := range slices.Backward(missing) {
		if _, err := client.Create(parent, nil, 0, worldACL); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}
