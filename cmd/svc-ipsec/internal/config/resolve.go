package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Standing is how far a connection of the document is one that the daemon has already.
type Standing int

// Where two cannot run beside each other, the higher one stays: who was not edited does not lose its tunnel by the edit of
// another.
const (
	New       Standing = iota // the daemon has nothing of it
	Edited                    // it runs, in another form
	Unchanged                 // it runs just as it is wanted
)

// Resolve gives every connection its local address and identity, and refuses those that cannot run beside another one. Of
// those the one of the higher standing stays, else the first in the document; nil: none has any standing.
func (c *Configuration) Resolve(standing func(*Connection) Standing) {
	for i := range c.Connections {
		connection := &c.Connections[i]
		connection.of = c
		connection.number(c.Loaded)
		if connection.Refused == nil {
			connection.Refused = connection.resolve(c)
		}
		if connection.Refused == nil {
			connection.Refused = connection.tolerate()
		}
	}
	wanted := c.Wanted()
	stands := map[*Connection]Standing{}
	for _, candidate := range wanted {
		if standing != nil {
			stands[candidate] = standing(candidate)
		}
	}
	var kept []*Connection
	carried := map[[2]netip.Prefix]string{} // pairs of networks, by the id of the connection that has them
	for now := Unchanged; now >= New; now-- {
		for _, candidate := range wanted {
			if stands[candidate] != now {
				continue
			}
			pairs := candidate.Pairs()
			if candidate.Refused = candidate.conflict(kept, pairs, carried); candidate.Refused != nil {
				continue
			}
			kept = append(kept, candidate)
			for _, pair := range pairs {
				carried[[2]netip.Prefix{pair.Local, pair.Peer}] = candidate.ID
			}
		}
	}
	c.tellApart(kept)
}

// tellApart gives each connection a place of its own in the status: one without an id, or with another's, by where it stands
// in the document.
func (c *Configuration) tellApart(kept []*Connection) {
	owner := map[string]*Connection{}
	for _, connection := range kept {
		owner[connection.ID] = connection
	}
	for i := range c.Connections {
		connection := &c.Connections[i]
		if other := owner[connection.ID]; other != nil && other != connection && connection.Refused == nil {
			connection.Refused = connection.sameID(other)
		} else if other == nil && connection.ID != "" {
			owner[connection.ID] = connection
		}
	}
	for i := range c.Connections {
		connection := &c.Connections[i]
		if owner[connection.ID] == connection {
			continue
		}
		connection.ID = strings.TrimPrefix(connection.place, "configuration.")
		for owner[connection.ID] != nil {
			connection.ID += "'"
		}
		owner[connection.ID] = connection
	}
}

// tolerate refuses a connection with faults that earlier releases accepted, unless it was accepted with them.
func (c *Connection) tolerate() error {
	faults := c.newFaults(c.of)
	if len(faults) == 0 {
		return nil
	}
	if c.of.Accepted == nil || !c.of.Accepted(c) {
		return faults[0]
	}
	c.Tolerated = faults
	return nil
}

func (c *Connection) sameID(as *Connection) error {
	return &spec.Fault{Key: c.place + ".id", Value: c.ID, Allowed: "an id that no other connection has; " + as.place + " has it"}
}

func (c *Connection) resolve(of *Configuration) error {
	if !c.Up && c.PeerName != "" {
		return nil // nobody looked for it
	}
	if len(of.ExternalIPs) == 0 {
		return &spec.Fault{Key: "configuration.externalIps", Allowed: "an address of the peer's family, or one of each family"}
	}
	if err := c.takePSK(of.Found); err != nil {
		return err
	}
	if err := c.takeAddress(of.Found); err != nil {
		return err
	}
	if err := c.takeCertificate(of.Found); err != nil {
		return err
	}
	c.LocalAddress = of.External(c.PeerAddress)
	if !c.LocalAddress.IsValid() {
		return &spec.Fault{Key: c.place + ".peerAddress", Value: c.PeerAddress.String(), Allowed: "an address of a family that the container has an external address of"}
	}
	if c.PeerAddress == c.LocalAddress {
		return &spec.Fault{Key: c.place + ".peerAddress", Value: c.PeerAddress.String(), Allowed: "another address than the external one"}
	}
	if c.LocalID.IsZero() {
		c.LocalID = addressIdentity(c.LocalAddress)
	}
	if !c.IPsec.Transport {
		return nil
	}
	for _, side := range []struct {
		key   string
		cidrs []netip.Prefix
		end   netip.Addr
	}{{".localCidrs", c.LocalCIDRs, c.LocalAddress}, {".peerCidrs", c.PeerCIDRs, c.PeerAddress}} {
		for _, cidr := range side.cidrs {
			if cidr != host(side.end) {
				return &spec.Fault{Key: c.place + side.key, Value: cidr.String(), Allowed: "none, or " + host(side.end).String() + ", with encapsulationMode transport"}
			}
		}
	}
	return nil
}

// conflict says why the daemon cannot tell this connection from one that is kept. It finds a secret by the two
// identities, and a connection by the two addresses before it has read a proposal (reference: Libreswan, ipsec.secrets). In
// main mode it needs the secret before it has read the peer's identity (RFC 2409, section 5.4).
func (c *Connection) conflict(kept []*Connection, pairs []Pair, carried map[[2]netip.Prefix]string) error {
	for _, other := range kept {
		sameIDs := c.LocalID.Same(other.LocalID) && c.PeerID.Same(other.PeerID)
		samePeer := c.PeerAddress == other.PeerAddress
		otherKey := !c.ByCertificate() && !other.ByCertificate() && !bytes.Equal(c.PSK.Reveal(), other.PSK.Reveal())
		switch {
		case c.ID == other.ID:
			return c.sameID(other)
		case sameIDs && otherKey:
			return fmt.Errorf("%s.psk: connection %s has the same local and peer id with another key: allowed: one key for a pair of ids", c.place, spec.Quote(other.ID))
		case samePeer && c.authentication() != other.authentication():
			return fmt.Errorf("%s.authMode: connection %s to the same peerAddress %s authenticates otherwise: allowed: one authMode and certificate for a peer address", c.place, spec.Quote(other.ID), c.PeerAddress)
		case samePeer && (c.IKE.Version != other.IKE.Version || c.IKE.Proposals != other.IKE.Proposals || c.IKE.Aggressive != other.IKE.Aggressive):
			return fmt.Errorf("%s.ikePolicy: connection %s to the same peerAddress %s has another one: allowed: one IKE policy for a peer address", c.place, spec.Quote(other.ID), c.PeerAddress)
		case samePeer && otherKey && c.IKE.Version == "v1" && !c.IKE.Aggressive:
			return fmt.Errorf("%s.psk: connection %s to the same peerAddress %s has another key: allowed: one key for a peer address with ikeVersion v1 in main mode", c.place, spec.Quote(other.ID), c.PeerAddress)
		}
	}
	for _, pair := range pairs {
		if other, taken := carried[[2]netip.Prefix{pair.Local, pair.Peer}]; taken {
			return fmt.Errorf("%s.peerCidrs: connection %s carries %s to %s already: allowed: a pair of subnets in one connection", c.place, spec.Quote(other), pair.Local, pair.Peer)
		}
	}
	if n := len(carried) + len(pairs); n > maxAllPairs {
		return fmt.Errorf("%s.peerCidrs: %d pairs of subnets with those of the other connections: allowed: at most %d", c.place, n, maxAllPairs)
	}
	return nil
}
