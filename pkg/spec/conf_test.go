package spec

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sample() *Conf {
	return &Conf{
		CNIVersion: CNIVersion, Name: Network, Type: "svc-ipsec",
		Container: &Container{
			PortID: "port", HostID: "host", InterfaceName: "vpn", ContainerID: "container", ServiceType: "IPSEC",
			GroupID: "group", ConfigurationID: "configuration",
		},
		Port:          &Port{Addresses: []string{"169.254.0.1/30"}, MAC: "ca:08:1a:94:29:0e", Bridge: "br"},
		Configuration: json.RawMessage(`{"a":1,"b":[true,null,"x"],"c":{"d":18446744073709551617}}`),
	}
}

func digest(t interface{ Fatal(...any) }, c *Conf) string {
	sum, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestContainerCheckCoversEveryField(t *testing.T) {
	for _, r := range []struct {
		name  string
		key   string
		spoil func(*Container)
	}{
		{"a complete container passes", "", func(*Container) {}},
		{"its name is checked", "interfaceName", func(c *Container) { c.InterfaceName = "../x" }},
		{"its type is checked", "serviceType", func(c *Container) { c.ServiceType = "ipsec" }},
		{"its port id is checked", "portId", func(c *Container) { c.PortID = "" }},
		{"its container id is checked", "containerId", func(c *Container) { c.ContainerID = "a\n" }},
		{"its configuration id is checked", "configurationId", func(c *Container) { c.ConfigurationID = "a/b" }},
		{"its host id is checked", "hostId", func(c *Container) { c.HostID = "$(id)" }},
		{"its group id is checked", "groupId", func(c *Container) { c.GroupID = "a;b" }},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := *sample().Container
			r.spoil(&c)
			checkKey(t, c.Check(), r.key)
		})
	}
}

func TestPortCheckCoversEveryField(t *testing.T) {
	for _, r := range []struct {
		name string
		key  string
		port Port
	}{
		{"an empty port passes", "", Port{}},
		{"one address of each family passes", "", Port{Addresses: []string{"169.254.0.1/30", "fd00::1/126"}}},
		{"two addresses of IPv4 are refused", "addresses", Port{Addresses: []string{"10.0.0.1/30", "10.0.1.1/30"}}},
		{"two addresses of IPv6 are refused", "addresses", Port{Addresses: []string{"fd00::1/126", "fd01::1/126"}}},
		{"an address without prefix length is refused", "addresses", Port{Addresses: []string{"10.0.0.1"}}},
		{"a /32 is refused, it has no second address", "addresses", Port{Addresses: []string{"10.0.0.1/32"}}},
		{"the last address of a subnet is refused", "addresses", Port{Addresses: []string{"10.0.0.3/30"}}},
		{"an address before the broadcast address is refused", "addresses", Port{Addresses: []string{"10.0.0.2/30"}}},
		{"the first address of a /31 passes, it has no broadcast address", "",
			Port{Addresses: []string{"10.0.0.0/31"}}},
		{"the last but one of IPv6 passes, it has no broadcast address", "", Port{Addresses: []string{"fd00::2/126"}}},
		{"255.255.255.255 is refused", "addresses", Port{Addresses: []string{"255.255.255.255/8"}}},
		{"a multicast address is refused", "addresses", Port{Addresses: []string{"224.0.0.1/24"}}},
		{"the unspecified address is refused", "addresses", Port{Addresses: []string{"0.0.0.0/8"}}},
		{"a multicast MAC is refused", "mac", Port{MAC: "01:00:5e:00:00:01"}},
		{"a bridge is checked", "bridge", Port{Bridge: "a/b"}},
	} {
		t.Run(r.name, func(t *testing.T) { checkKey(t, r.port.Check(), r.key) })
	}
}

func checkKey(t *testing.T, err error, key string) {
	t.Helper()
	var fault *Fault
	switch {
	case key == "" && err != nil:
		t.Error(err)
	case key != "" && (!errors.As(err, &fault) || fault.Key != key):
		t.Errorf("want a fault with key %s, got %v", key, err)
	}
}

func TestDigestIgnoresChangesWithoutEffectOnTheContainer(t *testing.T) {
	want := digest(t, sample())
	for _, r := range []struct {
		name   string
		change func(*Conf)
	}{
		{"the group", func(c *Conf) { c.Container.GroupID = "another" }},
		{"no group", func(c *Conf) { c.Container.GroupID = "" }},
		{"the host", func(c *Conf) { c.Container.HostID = "another" }},
		{"the order of the keys", func(c *Conf) {
			c.Configuration = json.RawMessage(`{"c":{"d":18446744073709551617},"b":[true,null,"x"],"a":1}`)
		}},
		{"white space", func(c *Conf) {
			c.Configuration = json.RawMessage(
				"{ \"a\" : 1,\n\t\"b\":[ true ,null,\"x\"],\"c\":{\"d\":18446744073709551617}}\n")
		}},
		{"how a letter is escaped", func(c *Conf) {
			c.Configuration = json.RawMessage(`{"a":1,"b":[true,null,"\u0078"],"c":{"d":18446744073709551617}}`)
		}},
		{"the executable's CNI type", func(c *Conf) { c.Type = "svc-ipsec-1.2.0" }},
		{"the network's name", func(c *Conf) { c.Name = NetworkByHand }},
		{"the previous result", func(c *Conf) { c.PrevResult = json.RawMessage(`{}`) }},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := sample()
			r.change(c)
			if got := digest(t, c); got != want {
				t.Error("the digest changed")
			}
		})
	}
}

func TestDigestDependsOnEverythingElse(t *testing.T) {
	configuration := func(s string) func(*Conf) {
		return func(c *Conf) { c.Configuration = json.RawMessage(s) }
	}
	changes := map[string]func(*Conf){
		"nothing":                 func(*Conf) {},
		"the port id":             func(c *Conf) { c.Container.PortID = "another" },
		"the name":                func(c *Conf) { c.Container.InterfaceName = "another" },
		"the container id":        func(c *Conf) { c.Container.ContainerID = "another" },
		"the service type":        func(c *Conf) { c.Container.ServiceType = "OTHER" },
		"the configuration id":    func(c *Conf) { c.Container.ConfigurationID = "another" },
		"an address":              func(c *Conf) { c.Port.Addresses[0] = "169.254.0.5/30" },
		"one more address":        func(c *Conf) { c.Port.Addresses = append(c.Port.Addresses, "fd00::1/126") },
		"the MAC":                 func(c *Conf) { c.Port.MAC = "ca:08:1a:94:29:0f" },
		"the bridge":              func(c *Conf) { c.Port.Bridge = "" },
		"no port":                 func(c *Conf) { c.Port = nil },
		"no configuration":        configuration(`null`),
		"an empty configuration":  configuration(`{}`),
		"a number":                configuration(`{"a":2,"b":[true,null,"x"],"c":{"d":18446744073709551617}}`),
		"a number's last bit":     configuration(`{"a":1,"b":[true,null,"x"],"c":{"d":18446744073709551616}}`),
		"how a number is written": configuration(`{"a":1.0,"b":[true,null,"x"],"c":{"d":18446744073709551617}}`),
		"a number as a string":    configuration(`{"a":"1","b":[true,null,"x"],"c":{"d":18446744073709551617}}`),
		"the order of a list":     configuration(`{"a":1,"b":[null,true,"x"],"c":{"d":18446744073709551617}}`),
		"a key whose value is null": configuration(
			`{"a":1,"b":[true,null,"x"],"c":{"d":18446744073709551617},"e":null}`),
		"white space in a string":    configuration(`{"a":1,"b":[true,null,"x "],"c":{"d":18446744073709551617}}`),
		"a key on another level":     configuration(`{"a":1,"b":[true,null,"x"],"d":18446744073709551617,"c":{}}`),
		"a letter of another script": configuration(`{"a":1,"b":[true,null,"х"],"c":{"d":18446744073709551617}}`),
	}
	seen := map[string]string{}
	for name, change := range changes {
		c := sample()
		change(c)
		sum := digest(t, c)
		if other, ok := seen[sum]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[sum] = name
	}
}

// The supervisor compares the digest with one that an earlier release wrote to a record, so the algorithm must not
// change.
func TestDigestAlgorithmIsStable(t *testing.T) {
	const want = "83a0fc903eb46b7bfa6b1ccda528b6a305372df9300c5f3f032aad18bf886243"
	if got := digest(t, sample()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDigestRefusesInvalidJSON(t *testing.T) {
	for _, configuration := range []string{"{", `{"a":1}{"b":2}`, "nonsense", " "} {
		c := sample()
		c.Configuration = json.RawMessage(configuration)
		if _, err := c.Digest(); err == nil {
			t.Errorf("%q has a digest", configuration)
		}
	}
}

func TestDigestDoesNotChangeTheConf(t *testing.T) {
	c := sample()
	digest(t, c)
	if c.Container.GroupID != "group" || c.Container.HostID != "host" {
		t.Error("Digest changed the group or host id of its receiver")
	}
}

// shuffled writes a value as JSON with its keys in a random order and random white space.
func shuffled(value any, random *rand.Rand) string {
	space := strings.Repeat([]string{" ", "\n", "\t"}[random.IntN(3)], random.IntN(3))
	switch value := value.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(value))
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var members []string
		for _, key := range keys {
			name, _ := json.Marshal(key)
			members = append(members, space+string(name)+":"+shuffled(value[key], random))
		}
		return "{" + strings.Join(members, ",") + space + "}"
	case []any:
		var elements []string
		for _, element := range value {
			elements = append(elements, shuffled(element, random))
		}
		return space + "[" + strings.Join(elements, space+",") + "]"
	default:
		plain, _ := json.Marshal(value)
		return string(plain) + space
	}
}

func TestDigestDependsOnTheValueNotOnTheText(t *testing.T) {
	scalars := rapid.OneOf(
		rapid.Just(any(nil)), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Int(), func(i int) any { return i }),
	)
	values := rapid.MapOf(rapid.String(), rapid.OneOf(
		scalars,
		rapid.Map(rapid.SliceOfN(scalars, 0, 4), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.String(), scalars, 0, 4), func(m map[string]any) any { return m }),
	))
	rapid.Check(t, func(t *rapid.T) {
		value, seed := any(values.Draw(t, "value")), rapid.Uint64().Draw(t, "seed")
		a, b := sample(), sample()
		a.Configuration = json.RawMessage(shuffled(value, rand.New(rand.NewPCG(seed, 1))))
		b.Configuration = json.RawMessage(shuffled(value, rand.New(rand.NewPCG(seed, 2))))
		if digest(t, a) != digest(t, b) {
			t.Fatalf("%s and %s have different digests", a.Configuration, b.Configuration)
		}
	})
}

func FuzzDigest(f *testing.F) {
	seeds := []string{`{}`, `null`, `{"a":1e400}`, `{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`, `{"a":-0.0}`, "{", "1 2"}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, configuration []byte) {
		c := sample()
		c.Configuration = configuration
		sum, err := c.Digest()
		if err != nil {
			if configuration != nil && json.Valid(configuration) {
				t.Skip("valid JSON, but nested too deeply for the decoder")
			}
			return
		}
		// If a record that was written and read back had another digest, the supervisor would reconfigure the
		// container.
		content, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		back := new(Conf)
		if err := json.Unmarshal(content, back); err != nil {
			t.Fatal(err)
		}
		if again := digest(t, back); again != sum {
			t.Errorf("%q: the digest changed after writing and reading a record", configuration)
		}
	})
}

func TestConfSharesNothingWithItsBinding(t *testing.T) {
	b := &Binding{Container: *sample().Container, Port: *sample().Port, Configuration: json.RawMessage(`{"a":1}`)}
	conf := b.Conf(Network, "svc-ipsec")
	conf.Container.GroupID, conf.Port.Bridge = "changed", "changed"
	if b.Container.GroupID != "group" || b.Port.Bridge != "br" {
		t.Error("the conf and its binding share a container or a port")
	}
	content, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(content, &keys); err != nil {
		t.Fatal(err)
	}
	want := []string{"cniVersion", "configuration", "container", "name", "port", "type"}
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// CNI 1.1, GC: an absent list of valid attachments and an empty one mean different things.
func TestAnEmptyListOfAttachmentsIsWritten(t *testing.T) {
	absent, _ := json.Marshal(&Conf{})
	empty, _ := json.Marshal(&Conf{ValidAttachments: &[]Attachment{}})
	if strings.Contains(string(absent), "valid-attachments") ||
		!strings.Contains(string(empty), `"cni.dev/valid-attachments":[]`) {
		t.Errorf("%s\n%s", absent, empty)
	}
}
