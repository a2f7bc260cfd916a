package config

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Identity is one end's IKE identity, checked so that Libreswan takes it for what it is: what it cannot parse it
// silently replaces by the address.
type Identity struct {
	kind string // as Libreswan's status names it
	text string // as it stands in a file, less the quotes
}

// The kinds of identity, in the words of Libreswan's status.
const (
	kindIPv4     = "ID_IPV4_ADDR"
	kindIPv6     = "ID_IPV6_ADDR"
	kindFQDN     = "ID_FQDN"
	kindUserFQDN = "ID_USER_FQDN"
	kindKeyID    = "ID_KEY_ID"
	kindDN       = "ID_DER_ASN1_DN"
)

// fromCertificate is Libreswan's word for the subject of the end's own certificate.
const fromCertificate = "%fromcert"

const identityAllowed = "an IP address, a host name (with or without '@'), user@host, @#<hex digits> or @[text] (key id), " +
	"or a distinguished name like C=FR, O=Example, CN=paris; ASCII only"

var (
	hostName = lazyregexp.New(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	userName = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9])?$`)
	keyHex   = lazyregexp.New(`^([0-9a-fA-F]{2})+$`)
	keyText  = lazyregexp.New(`^[A-Za-z0-9._:/+-]+$`)
	// Exactly those that Libreswan knows.
	dnKey   = lazyregexp.New(`^(` + strings.ReplaceAll(dnKeys, ", ", "|") + `)$`)
	dnValue = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9 ._@()':&-]*[A-Za-z0-9.)])?$`)
)

// dnKeys are the attributes that Libreswan knows, in OpenSSL's and its own words.
const dnKeys = "C, ST, L, O, OU, CN, N, G, S, I, T, E, D, ID, ND, SN, serialNumber, UID, DC, TCGID, Email, emailAddress, UN, unstructuredName"

// sameAttributes are those that have several names, as canonical has them.
var sameAttributes = []struct {
	key lazyregexp.Regexp
	as  string
}{
	{lazyregexp.New(`(^|, )(email|emailaddress)=`), "e"},
	{lazyregexp.New(`(^|, )serialnumber=`), "sn"},
	{lazyregexp.New(`(^|, )unstructuredname=`), "un"},
}

// IsZero says whether no identity was given.
func (i Identity) IsZero() bool { return i.text == "" }

// Kind is the identity's type in the words of Libreswan's status.
func (i Identity) Kind() string { return i.kind }

// String is the identity as it stands in ipsec.conf and ipsec.secrets: one word, or one quoted value.
func (i Identity) String() string {
	if i.kind == kindDN && i.text != fromCertificate {
		return `"` + i.text + `"`
	}
	return i.text
}

// Shown says whether the identity is the one that the status prints. Distinguished names and key ids are printed in a
// form of the daemon's own: there the kind is what can be compared.
func (i Identity) Shown(kind, text string) bool {
	if kind != i.kind {
		return false
	}
	return i.kind == kindDN || i.kind == kindKeyID || strings.EqualFold(text, i.text)
}

// Same says whether Libreswan takes the two for one, however they are written.
func (i Identity) Same(as Identity) bool { return i.canonical() == as.canonical() }

// canonical is the one way to write an identity: a key id in hex, a name without regard to case, and a distinguished name
// with one word for an attribute that has three (reference: Libreswan, same_id and x501rdns).
func (i Identity) canonical() string {
	if text, ok := strings.CutPrefix(i.text, "@["); ok {
		return "@#" + hex.EncodeToString([]byte(strings.TrimSuffix(text, "]")))
	}
	canonical := strings.ToLower(i.text)
	if i.kind == kindDN {
		for _, same := range sameAttributes {
			canonical = same.key.ReplaceAllString(canonical, "${1}"+same.as+"=")
		}
	}
	return canonical
}

func addressIdentity(a netip.Addr) Identity {
	if a.Is4() {
		return Identity{kindIPv4, a.String()}
	}
	return Identity{kindIPv6, a.String()}
}

// identity reads an identity of any kind. A host name without '@' becomes one with it: Libreswan would look it up.
func identity(key string, raw json.RawMessage) (Identity, error) {
	s, err := text(key, raw)
	if err != nil || s == "" {
		return Identity{}, err
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err == nil && a.IsUnspecified():
		// Libreswan takes it for any identity; in the file of the keys, too.
	case err == nil && a.Zone() == "" && !a.Is4In6():
		return addressIdentity(a), nil
	case len(s) <= 255:
		id, fault := namedIdentity(s)
		if fault != nil {
			fault.Key = key
			return Identity{}, fault
		}
		if !id.IsZero() {
			return id, nil
		}
	}
	return Identity{}, &spec.Fault{Key: key, Value: s, Allowed: identityAllowed}
}

// namedIdentity reads an identity that is no address. It returns a fault without a key where a part can be named, and else a zero
// identity.
func namedIdentity(s string) (Identity, *spec.Fault) {
	if digits, ok := strings.CutPrefix(s, "@#"); ok {
		return when(keyHex.MatchString(digits), Identity{kindKeyID, "@#" + strings.ToLower(digits)})
	}
	if inner, ok := strings.CutPrefix(s, "@["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		return when(closed && keyText.MatchString(inner), Identity{kindKeyID, s})
	}
	if strings.Contains(s, "=") {
		return distinguishedName(s)
	}
	user, host, at := strings.Cut(s, "@")
	switch {
	case !at:
		return when(hostName.MatchString(s), Identity{kindFQDN, "@" + s})
	case user == "":
		return when(hostName.MatchString(host), Identity{kindFQDN, s})
	default:
		return when(userName.MatchString(user) && hostName.MatchString(host), Identity{kindUserFQDN, s})
	}
}

func when(ok bool, id Identity) (Identity, *spec.Fault) {
	if !ok {
		return Identity{}, nil
	}
	return id, nil
}
