package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Standing compares a connection of the document with the connections that the daemon runs.
type Standing int

// Of two connections that cannot run together, Resolve refuses the one with the lower value. So a connection that was
// not edited keeps its tunnel when the edit of another connection conflicts with it.
const (
	New       Standing = iota // the daemon does not run the connection
	Edited                    // the daemon runs the connection with other parameters
	Unchanged                 // the daemon runs the connection with these parameters
)

// Resolve sets the local address and identity of each connection, and refuses connections that conflict with another
// one. Of two conflicting connections it keeps the one with the higher standing, or the first in the document if they
// are equal. If standing is nil, all connections are New.
func (c *Configuration) Resolve(standing func(*Connection) Standing) {
	r := resolution{of: c, pairOwners: map[[2]netip.Prefix]string{}}
	for i := range c.Connections {
		connection := &c.Connections[i]
		connection.of = c
		connection.assignNumbers(c.Loaded)
		if connection.Refused == nil {
			connection.Refused = r.complete(connection)
		}
		if connection.Refused == nil {
			connection.Refused = r.tolerate(connection)
		}
	}
	wanted := c.Wanted()
	standings := map[*Connection]Standing{}
	for _, candidate := range wanted {
		if standing != nil {
			standings[candidate] = standing(candidate)
		}
	}
	for current := Unchanged; current >= New; current-- {
		for _, candidate := range wanted {
			if standings[candidate] != current {
				continue
			}
			if candidate.Refused = r.conflict(candidate); candidate.Refused == nil {
				r.keep(candidate)
			}
		}
	}
	r.makeIDsUnique()
}

// resolution decides which connections of a document can run, one after the other.
type resolution struct {
	of         *Configuration
	kept       []*Connection
	pairOwners map[[2]netip.Prefix]string // the ids of the kept connections, by their pairs
}

func (r *resolution) keep(c *Connection) {
	r.kept = append(r.kept, c)
	for _, pair := range c.Pairs() {
		r.pairOwners[[2]netip.Prefix{pair.Local, pair.Peer}] = c.ID
	}
}

// makeIDsUnique ensures that each connection has its own entry in the status. A connection without an id, or with the
// id of another connection, gets an id that is made of its index in the document.
func (r *resolution) makeIDsUnique() {
	owner := map[string]*Connection{}
	for _, connection := range r.kept {
		owner[connection.ID] = connection
	}
	for i := range r.of.Connections {
		connection := &r.of.Connections[i]
		if other := owner[connection.ID]; other != nil && other != connection && connection.Refused == nil {
			connection.Refused = sameID(connection, other)
		} else if other == nil && connection.ID != "" {
			owner[connection.ID] = connection
		}
	}
	for i := range r.of.Connections {
		connection := &r.of.Connections[i]
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

// tolerate handles the faults of a connection that release 0.1.0 accepted. It returns the first of them, or sets
// Tolerated if the connection ran with these faults before.
func (r *resolution) tolerate(c *Connection) error {
	faults := c.legacyFaults(r.of)
	if len(faults) == 0 {
		return nil
	}
	if r.of.Accepted == nil || !r.of.Accepted(c) {
		return faults[0]
	}
	c.Tolerated = faults
	return nil
}

// sameID returns the fault of a connection that has the id of another one.
func sameID(c, other *Connection) error {
	return &spec.Fault{
		Key: c.place + ".id", Value: c.ID, Allowed: "an id that no other connection has; " + other.place + " has it",
	}
}

// complete sets what depends on the container and on what was found: addresses, identities, key and certificate.
func (r *resolution) complete(c *Connection) error {
	of := r.of
	if !c.Up && c.PeerName != "" {
		return nil // the names of connections that are down are not resolved
	}
	if len(of.ExternalIPs) == 0 {
		return &spec.Fault{
			Key: "configuration.externalIps", Allowed: "an address of the peer's family, or one of each family",
		}
	}
	if err := of.Found.setPSK(c); err != nil {
		return err
	}
	if err := of.Found.setAddress(c); err != nil {
		return err
	}
	if err := of.Found.setCertificate(c); err != nil {
		return err
	}
	c.LocalAddress = of.External(c.PeerAddress)
	if !c.LocalAddress.IsValid() {
		return &spec.Fault{
			Key: c.place + ".peerAddress", Value: c.PeerAddress.String(),
			Allowed: "an address of a family that the container has an external address of",
		}
	}
	if c.PeerAddress == c.LocalAddress {
		return &spec.Fault{
			Key: c.place + ".peerAddress", Value: c.PeerAddress.String(),
			Allowed: "another address than the external one",
		}
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
				return &spec.Fault{
					Key: c.place + side.key, Value: cidr.String(),
					Allowed: "none, or " + host(side.end).String() + ", with encapsulationMode transport",
				}
			}
		}
	}
	return nil
}

// conflict returns an error if a connection cannot run together with those that are kept. The daemon selects a secret
// by the two identities, and selects a connection by the two addresses before it has read a proposal (see ipsec.secrets
// of Libreswan). In main mode it needs the secret before it has read the peer's identity (RFC 2409, section 5.4).
func (r *resolution) conflict(c *Connection) error {
	for _, other := range r.kept {
		sameIDs := c.LocalID.Same(other.LocalID) && c.PeerID.Same(other.PeerID)
		samePeer := c.PeerAddress == other.PeerAddress
		otherKey := !c.ByCertificate() && !other.ByCertificate() && !bytes.Equal(c.PSK.Reveal(), other.PSK.Reveal())
		otherPolicy := c.IKE.Version != other.IKE.Version || c.IKE.Proposals != other.IKE.Proposals ||
			c.IKE.Aggressive != other.IKE.Aggressive
		switch {
		case c.ID == other.ID:
			return sameID(c, other)
		case sameIDs && otherKey:
			return fmt.Errorf("%s.psk: connection %s has the same local and peer id with another key: "+
				"allowed: one key for a pair of ids", c.place, spec.Quote(other.ID))
		case samePeer && c.authentication() != other.authentication():
			return fmt.Errorf("%s.authMode: connection %s to the same peerAddress %s authenticates otherwise: "+
				"allowed: one authMode and certificate for a peer address", c.place, spec.Quote(other.ID),
				c.PeerAddress)
		case samePeer && otherPolicy:
			return fmt.Errorf("%s.ikePolicy: connection %s to the same peerAddress %s has another one: "+
				"allowed: one IKE policy for a peer address", c.place, spec.Quote(other.ID), c.PeerAddress)
		case samePeer && otherKey && c.IKE.Version == "v1" && !c.IKE.Aggressive:
			return fmt.Errorf("%s.psk: connection %s to the same peerAddress %s has another key: "+
				"allowed: one key for a peer address with ikeVersion v1 in main mode",
				c.place, spec.Quote(other.ID), c.PeerAddress)
		}
	}
	pairs := c.Pairs()
	for _, pair := range pairs {
		if other, taken := r.pairOwners[[2]netip.Prefix{pair.Local, pair.Peer}]; taken {
			return fmt.Errorf("%s.peerCidrs: connection %s carries %s to %s already: "+
				"allowed: a pair of subnets in one connection", c.place, spec.Quote(other), pair.Local, pair.Peer)
		}
	}
	if n := len(r.pairOwners) + len(pairs); n > maxAllPairs {
		return fmt.Errorf("%s.peerCidrs: %d pairs of subnets with those of the other connections: allowed: at most %d",
			c.place, n, maxAllPairs)
	}
	return nil
}
