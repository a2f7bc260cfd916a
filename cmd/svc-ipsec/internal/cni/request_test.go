package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const fullConf = `{"cniVersion":"1.1.0","name":"svc-supervisor","type":"svc-ipsec","container":{"portId":"p",` +
	`"hostId":"h","interfaceName":"vpn-a","containerId":"c","serviceType":"IPSEC","groupId":"g","configurationId":"r"},
	"port":{"addresses":["169.254.0.1/30","fd00::1/126"],"mac":"02:00:00:00:00:01","bridge":"br"},"configuration":{},` +
	`"runtimeConfig":{},"args":{},"capabilities":{},"dns":{},"ipam":{},"cni.dev/attachments":[]}`

func cniArgs(conf string) *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: "c", IfName: "svc0", StdinData: []byte(conf)}
}

func TestKeysOfRuntimesAreAccepted(t *testing.T) {
	r, err := Decode(cniArgs(fullConf))
	if err != nil || r.Owner.String() != "svc-supervisor:vpn-a:c" || r.Chained {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRefusedConfNamesKeyAndHasCode(t *testing.T) {
	for _, test := range []struct {
		old, new string
		code     uint
		contains string
	}{
		{`"port":`, `"prot":`, 7, `unknown key "prot"`},
		{`"addresses"`, `"adresses"`, 7, `port: unknown field "adresses"`},
		{`"vpn-a"`, `"../x"`, 7, `container.interfaceName "../x"`},
		{`"vpn-a"`, `"supervisor"`, 7, "container.interfaceName"},
		{`"IPSEC"`, `"HAPROXY"`, 7, "container.serviceType"},
		{`"containerId":"c"`, `"containerId":"d"`, 7, "CNI_CONTAINERID"},
		{`"portId":"p"`, `"portId":"p;x"`, 7, "container.portId"},
		{`"name":"svc-supervisor"`, `"name":"` + strings.Repeat("n", 151) + `"`, 7, "at most 150 bytes"},
		{`"dns":{}`, "\"dns\":\"\xff\"", 6, "not UTF-8"},
		{`"configuration":{}`, `"configuration":{"psk":"hidden-secret"}`, 7, `unknown key "psk"`},
		{`"configuration":{}`, `"configuration":{},"prevResult":{"cniVersion":"1.1.0"}`, 7, "port"},
	} {
		_, err := Decode(cniArgs(strings.Replace(fullConf, test.old, test.new, 1)))
		if err == nil || code(err) != test.code || !strings.Contains(err.Error(), test.contains) ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hidden-secret") {
			t.Errorf("%s: got %v", test.new, err)
		}
	}
	long := cniArgs(fullConf)
	long.ContainerID = strings.Repeat("c", 65)
	if _, err := Decode(long); err == nil || code(err) != uint(spec.CodeEnvironment) {
		t.Errorf("a long id: %v", err)
	}
}

func TestGeneratedNameDependsOnNetworkIDAndInterface(t *testing.T) {
	seen := map[spec.Name]bool{}
	for _, a := range [][3]string{{"n", "c", "i"}, {"m", "c", "i"}, {"n", "d", "i"}, {"n", "c", "j"}, {"nc", "", "i"}} {
		name := generatedName(a[0], a[1], a[2])
		if _, err := spec.ParseName("name", string(name)); err != nil || seen[name] {
			t.Errorf("%v is named %s: %v", a, name, err)
		}
		seen[name] = true
	}
	if name := generatedName("n", "c", "i"); name != "x5cbf063537" {
		t.Errorf("the name is %s: containers of an older version are not found any more", name)
	}
}

func TestPanicIsErrorObjectAndOneLogLine(t *testing.T) {
	var log bytes.Buffer
	panics := func(*skel.CmdArgs) error { panic("secret input") }
	err := WithErrorCodes(slog.New(slog.NewTextHandler(&log, nil)), spec.Add, panics)(nil)
	answer, ok := err.(*types.Error)
	if !ok || answer.Code != types.ErrInternal {
		t.Errorf("got %v", err)
	}
	if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String()+err.Error(), "secret input") {
		t.Errorf("log %q", log.String())
	}
}

func TestVersionAnswer(t *testing.T) {
	var out bytes.Buffer
	if err := Version("1.4.0-rc1").Encode(&out); err != nil {
		t.Fatal(err)
	}
	var answer spec.VersionAnswer
	err := json.Unmarshal(out.Bytes(), &answer)
	if err != nil || answer.ServiceType != "IPSEC" || answer.ServiceVersion != "1.4.0-rc1" || !answer.Reconfigure ||
		answer.ContractVersion != spec.ContractVersion || !slices.Contains(answer.SupportedVersions, spec.CNIVersion) ||
		!slices.Equal(answer.CheckOn, []string{spec.CheckOnXFRM, spec.CheckOnNetwork}) {
		t.Errorf("%+v %v", answer, err)
	}
}

// uncheckedKeys are keys that accept any value: the value is only displayed or passed to CNI's own code, and names no
// object.
var uncheckedKeys = []string{"cniVersion", "name", "type", "attachments", "runtimeConfig", "args", "capabilities",
	"dns",
	"ipam"}

// TestHostileConfIsRefusedOrHarmless puts hostile values into every place outside of the configuration.
func TestHostileConfIsRefusedOrHarmless(t *testing.T) {
	for _, place := range configtest.Places(fullConf) {
		for _, value := range configtest.Hostile() {
			if place.Object && value[0] != '"' {
				continue
			}
			what := fmt.Sprintf("%s: %.90s", place.Path, value)
			r, err := Decode(cniArgs(string(place.With(value))))
			if err != nil {
				if c := code(err); c != uint(spec.CodeConfiguration) && c != uint(spec.CodeDecode) {
					t.Errorf("%s: code %d", what, c)
				}
				answer := errorMessage(t, err)
				if !strings.Contains(answer, place.Key) && !strings.Contains(answer, "not UTF-8") ||
					len(answer) > messageLimit+10 {
					t.Errorf("%s: %s", what, answer)
				}
				continue
			}
			if r.Owner.Name != "vpn-a" && place.Key != "interfaceName" {
				t.Errorf("%s: the name is %s", what, r.Owner.Name)
			}
			if _, err := r.Plan(); err != nil {
				var fault *spec.Fault
				if !errors.As(err, &fault) || !strings.Contains(errorMessage(t, err), place.Key) {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			if bridge := r.Bridge(); place.Key == "bridge" && spec.CheckLinkName("", bridge) == nil {
				continue // a valid link name, even if no such link exists
			}
			if place.Object && place.Key != "container" && place.Key != "port" ||
				slices.Contains(uncheckedKeys, place.Key) {
				continue
			}
			if _, err := spec.ParseID[string]("", strings.Trim(value, `"`)); err != nil {
				t.Errorf("%s: accepted", what)
			}
		}
	}
}

const chained = `{"cniVersion":"1.1.0","name":"n","type":"svc-ipsec","prevResult":{"cniVersion":"1.1.0",
	"interfaces":[{"name":"svc0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/n"}],` +
	`"ips":[{"address":"192.0.2.2/24","gateway":"192.0.2.1","interface":0}]}}`

// TestHostilePrevResultGivesOneLineError tests values that CNI's own code parses and reports in its own error messages.
func TestHostilePrevResultGivesOneLineError(t *testing.T) {
	for _, place := range configtest.Places(chained) {
		for _, value := range configtest.Hostile() {
			r, err := Decode(cniArgs(string(place.With(value))))
			if err == nil {
				_, err = r.Plan()
			}
			if err != nil && len(errorMessage(t, err)) > messageLimit+10 {
				t.Errorf("%s: %.90s: %.200v", place.Path, value, err)
			}
		}
	}
}

// TestHostileEnvironmentIsRefused tests environment values that skel does not refuse.
func TestHostileEnvironmentIsRefused(t *testing.T) {
	for _, value := range configtest.Hostile() {
		var id string
		if value[0] != '"' || json.Unmarshal([]byte(value), &id) != nil {
			continue
		}
		args := cniArgs(strings.Replace(fullConf, `"containerId":"c"`, `"containerId":`+value, 1))
		args.ContainerID = id
		_, err := Decode(args)
		if _, bad := spec.ParseID[string]("", id); bad == nil {
			if err != nil {
				t.Errorf("%.90q: %v", id, err)
			}
		} else if err == nil || code(err) != uint(spec.CodeEnvironment) && code(err) != uint(spec.CodeDecode) {
			t.Errorf("%.90q: %v", id, err)
		}
		args.ContainerID, args.IfName, args.StdinData = "c", id, []byte(`{"name":"n"}`)
		if r, err := Decode(args); err != nil || !strings.HasPrefix(string(r.Owner.Name), "x") ||
			len(r.Owner.Name) != 11 {
			t.Errorf("CNI_IFNAME %.90q: %v", id, err)
		}
	}
}

func TestInterfaceThatIsASysctlDirectoryIsRefused(t *testing.T) {
	for _, name := range []string{"all", "default"} {
		args := cniArgs(fullConf)
		args.IfName = name
		if _, err := Decode(args); err == nil || code(err) != uint(spec.CodeEnvironment) ||
			!strings.Contains(err.Error(), "CNI_IFNAME") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// errorMessage returns the error message that a runtime gets.
func errorMessage(t *testing.T, err error) string {
	t.Helper()
	fails := func(*skel.CmdArgs) error { return err }
	answer, ok := WithErrorCodes(slog.New(slog.DiscardHandler), spec.Add, fails)(nil).(*types.Error)
	if !ok || strings.ContainsFunc(answer.Msg, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("not one line: %q", err)
	}
	return answer.Msg
}

// FuzzConf searches for panics, and for names that are unsafe in a path.
func FuzzConf(f *testing.F) {
	f.Add([]byte(fullConf))
	f.Add([]byte(`{"name":"n","prevResult":{"cniVersion":"1.1.0","ips":[{"address":"1.2.3.4/24","interface":7}]}}`))
	f.Add([]byte(`{"name":"n","container":null,"port":null,"configuration":null}`))
	for _, value := range configtest.Hostile() {
		for _, place := range configtest.Places(fullConf) {
			if !place.Object {
				f.Add(place.With(value))
			}
		}
	}
	// Every hostile value once in a connection, each in another place.
	places := configtest.Places(configtest.Full)
	for i, value := range configtest.Hostile() {
		f.Add([]byte(strings.Replace(fullConf, `"configuration":{}`,
			`"configuration":`+string(places[i%len(places)].With(value)), 1)))
	}
	f.Fuzz(func(t *testing.T, conf []byte) {
		r, err := Decode(&skel.CmdArgs{ContainerID: "c", IfName: "svc0", StdinData: conf})
		if err != nil {
			code(err)
			return
		}
		if _, err := spec.ParseName("name", string(r.Owner.Name)); err != nil || !json.Valid(conf) {
			t.Fatal(r.Owner, err)
		}
		c := r.Configuration
		c.Found = config.Found{Files: map[string]config.File{},
			Certificates: map[config.CertificateFiles]config.Certificate{}, Names: map[string]config.Name{}}
		for i, name := range c.PeerNames() {
			c.Found.Names[name] = config.Name{Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}
		}
		for _, path := range c.PSKFiles() {
			c.Found.Files[path] = config.File{Content: spec.NewSecret([]byte("k"))}
		}
		for _, files := range c.Certificates() {
			c.Found.Certificates[files] = config.Certificate{
				Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "%same", Digest: "d",
			}
		}
		c.Resolve(nil)
		_, _ = r.Plan()
	})
}
