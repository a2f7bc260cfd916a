package verb

import (
	"encoding/json"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/push"
)

// tellOf writes what room push needs to tell of these connections.
func (c *change) tellOf(wanted []*config.Connection) error {
	told := push.Container{InterfaceName: c.request.owner.Name}
	for _, connection := range wanted {
		one := push.Connection{ID: connection.ID, Name: connection.Name, Peer: connection.PeerAddress.String()}
		for _, pair := range connection.Pairs() {
			one.Pairs = append(one.Pairs, push.Pair{Conn: pair.Conn, Local: pair.Local.String(), Peer: pair.Peer.String()})
		}
		told.Connections = append(told.Connections, one)
	}
	text, err := json.Marshal(told)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{push.File: text, push.Script: push.ScriptFor(c.folder.Path), push.Drop: push.ScriptFor(c.folder.Path)} {
		if _, err := c.folder.Write(name, content); err != nil {
			return err
		}
	}
	return nil
}
