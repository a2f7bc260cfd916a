package config

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Identity is the IKE identity of one end. Its text is checked, because Libreswan silently replaces an identity that it
// cannot parse by the IP address.
type Identity struct {
	kind string // the type, as in Libreswan's status
	text string // the text for ipsec.conf and ipsec.secrets, without quotes
}

// The types of identities, as in Libreswan's status.
const (
	kindIPv4     = "ID_IPV4_ADDR"
	kindIPv6     = "ID_IPV6_ADDR"
	kindFQDN     = "ID_FQDN"
	kindUserFQDN = "ID_USER_FQDN"
	kindKeyID    = "ID_KEY_ID"
	kindDN       = "ID_DER_ASN1_DN"
)

// fromCertificate is Libreswan's keyword for the subject of the certificate of the end.
const fromCertificate = "%fromcert"

const identityAllowed = "an IP address, a host name (with or without '@'), user@host, " +
	"@#<hex digits> or @[text] (key id), or a distinguished name like C=FR, O=Example, CN=paris; ASCII only"

var (
	hostName = lazyregexp.New(
		`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	userName = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9])?$`)
	keyHex   = lazyregexp.New(`^([0-9a-fA-F]{2})+$`)
	keyText  = lazyregexp.New(`^[A-Za-z0-9._:/+-]+$`)
	// dnKey matches exactly the attributes in dnKeys.
	dnKey   = lazyregexp.New(`^(` + strings.ReplaceAll(dnKeys, ", ", "|") + `)$`)
	dnValue = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9 ._@()':&-]*[A-Za-z0-9.)])?$`)
)

// dnKeys lists the attributes of distinguished names that Libreswan supports, with OpenSSL's names and its own.
const dnKeys = "C, ST, L, O, OU, CN, N, G, S, I, T, E, D, ID, ND, SN, serialNumber, UID, DC, TCGID, Email, " +
	"emailAddress, UN, unstructuredName"

// attributeAliases maps the other names of an attribute to the name that canonical uses.
var attributeAliases = []struct {
	key  lazyregexp.Regexp
	name string
}{
	{lazyregexp.New(`(^|, )(email|emailaddress)=`), "e"},
	{lazyregexp.New(`(^|, )serialnumber=`), "sn"},
	{lazyregexp.New(`(^|, )unstructuredname=`), "un"},
}

// IsZero reports whether the identity is not set.
func (i Identity) IsZero() bool { return i.text == "" }

// Kind returns the type of the identity as Libreswan's status prints it.
func (i Identity) Kind() string { return i.kind }

// String returns the identity in the syntax of ipsec.conf and ipsec.secrets: a single token, or a quoted string.
func (i Identity) String() string {
	if i.kind == kindDN && i.text != fromCertificate {
		return `"` + i.text + `"`
	}
	return i.text
}

// Shown reports whether kind and text, from Libreswan's status, are this identity. Of distinguished names and key ids
// it compares only the kind, because the status prints them in a different form.
func (i Identity) Shown(kind, text string) bool {
	if kind != i.kind {
		return false
	}
	return i.kind == kindDN || i.kind == kindKeyID || strings.EqualFold(text, i.text)
}

// Same reports whether Libreswan treats the two identities as equal, even if they are written differently.
func (i Identity) Same(as Identity) bool { return i.canonical() == as.canonical() }

// canonical returns a text that is equal for equal identities: a key id in hexadecimal, a name in lower case, and a
// distinguished name with one name for each attribute that has several (see same_id and x501rdns in Libreswan).
func (i Identity) canonical() string {
	if text, ok := strings.CutPrefix(i.text, "@["); ok {
		return "@#" + hex.EncodeToString([]byte(strings.TrimSuffix(text, "]")))
	}
	canonical := strings.ToLower(i.text)
	if i.kind == kindDN {
		for _, alias := range attributeAliases {
			canonical = alias.key.ReplaceAllString(canonical, "${1}"+alias.name+"=")
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

// identity decodes an identity of any type. It adds the '@' to a host name without it, because Libreswan resolves such
// a name and uses the address.
func identity(key string, raw json.RawMessage) (Identity, error) {
	s, err := text(key, raw)
	if err != nil || s == "" {
		return Identity{}, err
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err == nil && a.IsUnspecified():
		// Libreswan treats the unspecified address as a wildcard, also in ipsec.secrets.
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

// namedIdentity parses an identity that is not an address. If s is invalid, it returns a fault without a key where it
// can name the invalid part, and the zero identity otherwise.
func namedIdentity(s string) (Identity, *spec.Fault) {
	if digits, ok := strings.CutPrefix(s, "@#"); ok {
		return identityIf(keyHex.MatchString(digits), Identity{kindKeyID, "@#" + strings.ToLower(digits)})
	}
	if inner, ok := strings.CutPrefix(s, "@["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		return identityIf(closed && keyText.MatchString(inner), Identity{kindKeyID, s})
	}
	if strings.Contains(s, "=") {
		return distinguishedName(s)
	}
	user, host, at := strings.Cut(s, "@")
	switch {
	case !at:
		return identityIf(hostName.MatchString(s), Identity{kindFQDN, "@" + s})
	case user == "":
		return identityIf(hostName.MatchString(host), Identity{kindFQDN, s})
	default:
		return identityIf(userName.MatchString(user) && hostName.MatchString(host), Identity{kindUserFQDN, s})
	}
}

// identityIf returns id if valid is set, and the zero identity otherwise.
func identityIf(valid bool, id Identity) (Identity, *spec.Fault) {
	if !valid {
		return Identity{}, nil
	}
	return id, nil
}
