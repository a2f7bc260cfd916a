package configtest

import "strings"

// Marker is the file that the commands in the hostile strings would create.
const Marker = "/run/svc-hostile"

// Hostile lists JSON values with which an attacker who can write to the NSDB could replace a string.
func Hostile() []string {
	var list []string
	for _, s := range hostile {
		list = append(list, Quoted(s))
	}
	return append(list, `"\ud800"`, `"x\udc00y"`, "true", "-1", "1e400", "18446744073709551616", "{}", `["x"]`,
		`{"a\nb":"x"}`, strings.Repeat("[", 1000)+strings.Repeat("]", 1000))
}

var hostile = []string{
	// A further line of ipsec.conf, ipsec.secrets or the nftables rules.
	"x\n\tleftupdown=/bin/touch " + Marker, "x\r\n\tleftupdown=/bin/touch " + Marker,
	"x\rleftupdown=/bin/touch " + Marker,
	"x\n\nconn evil\n\tleft=%any\n\tright=%any\n\tauto=add", "x\n\ninclude /etc/passwd", "\n", "x\n", "x\vy", "x\fy",
	"x\n: PSK \"evil\"", "x\n%any %any : PSK 0x65", "x; }\ndelete table inet svc-ipsec\n",
	// The end of a word, of a quoted value, of a list.
	`"`, `x"`, `x" y="z`, `"; touch ` + Marker, `'; touch ` + Marker + `; '`, `\`, `x\`, `\"`,
	"x y", "x\ty", " ", " x", "x ", "x # y", "#x",
	"{a,b}", "a,b", "[x]", "(x)", "<x>", "x=y", ":", "x : PSK 0x65", "x;y", "&", "|",
	// Shell syntax.
	"$(touch " + Marker + ")", "`touch " + Marker + "`", "x; touch " + Marker, "x && touch " + Marker,
	"| touch " + Marker, "${IFS}touch", "~root", "*", "?",
	// Keywords of Libreswan, and options of its programs.
	"leftupdown=", "leftupdown=/bin/touch " + Marker, "%any", "%any6", "%default", "%defaultroute", "%fromfile",
	"%fromcert", "%none", "%group", "%disabled",
	"-x", "--help", "--ctlsocket=/x", "--config", "0x65", "0sZQ==", "@", "@#", "@#zz", "@#0", "@[", "@[]", "@[a]b]",
	"@[a\nb]", "@~61", "a=b", "@a=b",
	"CN=", "CN=a\nb", `CN=a"b`, `CN=a" leftupdown="/bin/sh`, `CN="a"`, "CN=a, leftupdown=/bin/sh", "C=FR/CN=x",
	"CN=a,b", "CN=#61", "user@", "@@", "a@b@c",
	// Paths.
	"/etc/passwd", "../x", "../../../.." + Marker, "x/../../y", ".", "..", "x\x00.conf", "/dev/zero",
	"file:///etc/passwd",
	// Invalid UTF-8, look-alikes, and characters that are invisible or control a terminal.
	"\x00", "x\x00y", "\xff\xfe", "x\xc0\x8ay", "x\xed\xa0\x80", "p\u0430ris", "\uff02", "\u037e", "x\u2028y",
	"x\u0085y", "x\u202ey", "x\u200by", "\ufeffx", "e\u0301", "\ufffd",
	"\x7f", "\x1b[2J", "\x1b]0;x\a",
	// Invalid or unusable addresses, networks and numbers.
	"0.0.0.0", "::", "255.255.255.255", "127.0.0.1", "::1", "224.0.0.1", "::ffff:192.0.2.1", "fe80::1%eth0", "fe80::1",
	"1.2.3", "0x7f.1", "010.0.0.1", "192.0.2.1 192.0.2.2",
	"10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/24,10.1.0.0/24", "10.0.0.0/24 ", "-1", "1e9",
	"99999999999999999999", "NaN", "null", "true",
	// Names of other objects, and names that look like generated ones.
	"v2", "GOOD", "good-0-0", "h0123456789abcdef0123456789abcdef", "connections[0]", "connections[2]",
	"# key 0123456789abcdef",
	// Long strings.
	strings.Repeat("a", 64<<10), strings.Repeat("a", 1024), strings.Repeat("a.", 127) + "a", strings.Repeat("é", 512),
	strings.Repeat("a", 256) + "\nleftupdown=/x",
	// Format strings and templates.
	"%n%n%s%x", "{{.}}",
}
