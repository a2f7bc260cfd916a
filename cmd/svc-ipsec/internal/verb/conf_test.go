package verb

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const whole = `{"cniVersion":"1.1.0","name":"svc-supervisor","type":"svc-ipsec","container":{"portId":"p","hostId":"h","interfaceName":"vpn-a","containerId":"c","serviceType":"IPSEC","groupId":"g","configurationId":"r"},
	"port":{"addresses":["169.254.0.1/30"]},"configuration":{},"runtimeConfig":{},"args":{},"capabilities":{},"dns":{},"ipam":{},"cni.dev/attachments":[]}`

func ask(conf string) *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: "c", IfName: "svc0", StdinData: []byte(conf)}
}

func TestWhatARuntimeAddsIsAccepted(t *testing.T) {
	r, err := decode(ask(whole))
	if err != nil || r.owner.String() != "svc-supervisor:vpn-a:c" || r.chained {
		t.Errorf("%+v %v", r, err)
	}
}

func TestARefusedConfNamesTheKeyAndHasItsCode(t *testing.T) {
	for _, test := range []struct {
		old, new string
		code     uint
		says     string
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
		_, err := decode(ask(strings.Replace(whole, test.old, test.new, 1)))
		if err == nil || code(err) != test.code || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hidden-secret") {
			t.Errorf("%s: got %v", test.new, err)
		}
	}
	long := ask(whole)
	long.ContainerID = strings.Repeat("c", 65)
	if _, err := decode(long); err == nil || code(err) != uint(spec.CodeEnvironment) {
		t.Errorf("a long id: %v", err)
	}
}

func TestAForeignRuntimesContainerIsNamedByAllThatMakesItOne(t *testing.T) {
	seen := map[spec.Name]bool{}
	for _, a := range [][3]string{{"n", "c", "i"}, {"m", "c", "i"}, {"n", "d", "i"}, {"n", "c", "j"}, {"nc", "", "i"}} {
		name := foreignName(a[0], a[1], a[2])
		if _, err := spec.ParseName("name", string(name)); err != nil || seen[name] {
			t.Errorf("%v is named %s: %v", a, name, err)
		}
		seen[name] = true
	}
	if name := foreignName("n", "c", "i"); name != "x5cbf063537" {
		t.Errorf("it is named %s now: what an older version made is not found again", name)
	}
}

func TestAPanicIsAnErrorObjectAndOneLine(t *testing.T) {
	var log bytes.Buffer
	e := &Executable{Log: slog.New(slog.NewTextHandler(&log, nil))}
	err := e.Answering(spec.Add, func(*skel.CmdArgs) error { panic("secret input") })(nil)
	answer, ok := err.(*types.Error)
	if !ok || answer.Code != types.ErrInternal {
		t.Errorf("got %v", err)
	}
	if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String()+err.Error(), "secret input") {
		t.Errorf("log %q", log.String())
	}
}

func TestVersionAnswersForTheContract(t *testing.T) {
	var out bytes.Buffer
	if err := Version("1.4.0-rc1").Encode(&out); err != nil {
		t.Fatal(err)
	}
	answer, version, err := spec.ParseVersionAnswer(out.Bytes())
	if err != nil || answer.ServiceType != "IPSEC" || version.String() != "1.4.0-rc1" || !answer.Reconfigure {
		t.Errorf("%+v %v", answer, err)
	}
}

// FuzzConf looks for a panic, and for a name that could leave a path.
func FuzzConf(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"name":"n","prevResult":{"cniVersion":"1.1.0","ips":[{"address":"1.2.3.4/24","interface":7}]}}`))
	f.Add([]byte(`{"name":"n","container":null,"port":null,"configuration":null}`))
	f.Fuzz(func(t *testing.T, conf []byte) {
		r, err := decode(&skel.CmdArgs{ContainerID: "c", IfName: "svc0", StdinData: conf})
		if err != nil {
			code(err)
			return
		}
		if _, err := spec.ParseName("name", string(r.owner.Name)); err != nil || !json.Valid(conf) {
			t.Fatal(r.owner, err)
		}
		r.configuration.Resolve(func(string) bool { return false })
		_, _ = r.plan()
	})
}
