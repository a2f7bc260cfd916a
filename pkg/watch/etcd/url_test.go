package etcd

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]Location{
		"etcd://h1,h2:2379/svc": {Endpoints: []string{"h1:2379", "h2:2379"}, Prefix: "/svc/", TTL: DefaultTTL},
		"etcd://10.0.0.1":       {Endpoints: []string{"10.0.0.1:2379"}, Prefix: "/", TTL: DefaultTTL},
		"etcd://[::1]:1/a/b/":   {Endpoints: []string{"[::1]:1"}, Prefix: "/a/b/", TTL: DefaultTTL},
		"etcd://[fe80::1]/a":    {Endpoints: []string{"[fe80::1]:2379"}, Prefix: "/a/", TTL: DefaultTTL},
		"etcds://u@h/svc?passwordFile=/p&ca=/ca&cert=/c&key=/k&ttl=1m": {
			Endpoints: []string{"h:2379"}, TLS: true, Prefix: "/svc/",
			User: "u", PasswordFile: "/p", CA: "/ca", Cert: "/c", Key: "/k", TTL: time.Minute,
		},
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseURL(u); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v", raw, got, err)
		}
	}
}

func TestInvalidURLsAreRefused(t *testing.T) {
	for raw, want := range map[string]string{
		"etcd:///svc":                           `URL "etcd:///svc": allowed: etcd://`,
		"etcd:h:1":                              "URL ",
		"etcd://h/svc#x":                        "URL ",
		"etcd://u:secret@h/svc?passwordFile=/p": "no password in the URL",
		"etcd://@h/svc":                         "user ",
		"etcd://u@h/svc":                        `passwordFile ""`,
		"etcd://h/svc?passwordFile=/p":          `passwordFile "/p": allowed: together with a user`,
		"etcd://u@h/svc?passwordFile=p":         "passwordFile \"p\": allowed: an absolute path",
		"etcd://h1,,h2/svc":                     `endpoint "": allowed: host`,
		"etcd://h1,h2:0/svc":                    `endpoint "h2:0"`,
		"etcd://h1:70000/svc":                   `endpoint "h1:70000"`,
		"etcd://h1:/svc":                        `endpoint "h1:"`,
		"etcd://h1/a//b":                        `prefix "/a//b"`,
		"etcd://h1/a/../b":                      "prefix ",
		"etcd://h1/a%0Ab":                       "prefix ",
		"etcd://h1/svc&ttl=3": `prefix "/svc&ttl=3": allowed: /svc?…: ? begins the options, & ` +
			`separates them`,
		"etcd://h1/svc&ttl=3s?ca=/ca":         `prefix "/svc&ttl=3s"`,
		"etcd://h1/a&b":                       `prefix "/a&b"`,
		"etcd://h1&ttl=3s":                    `endpoint "h1&ttl=3s"`,
		"etcd://h1/svc?ca=/ca&cert=/c&key=/k": `ca "/ca": allowed: with etcds:// only`,
		"etcd://h1/svc?cert=/c&key=/k":        `cert "/c": allowed: with etcds:// only`,
		"etcd://h1/svc?key=/k":                `key "/k": allowed: with etcds:// only`,
		"etcds://h1/svc?cert=/c":              `cert "/c": allowed: together with key`,
		"etcds://h1/svc?key=/k":               `key "/k": allowed: together with cert`,
		"etcd://h1/svc?ttl=1s":                `ttl "1s": allowed: a duration of whole seconds from 2s`,
		"etcd://h1/svc?ttl=2500ms":            "ttl ",
		"etcd://h1/svc?ttl=5s&ttl=6s":         `ttl "5s 6s": allowed: one value`,
		"etcd://h1/svc?rescan=1s":             `option "rescan": allowed: ca, cert, key, passwordFile, ttl`,
		"etcd://h1/svc?%zz":                   "options ",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseURL(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, wanted %s", raw, err, want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
