package native

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// FuzzObject checks the guarantees of the package documentation for arbitrary values.
func FuzzObject(f *testing.F) {
	f.Add([]byte("portId: p\nhostId: h\ninterfaceName: vpn-1\ncontainerId: c\naddresses: [169.254.0.1/30]\n"), true)
	f.Add([]byte(`{"id":"h","containerWeight":1,"containerLimit":-1}`), false)
	f.Add([]byte("a: &a [*a]"), true)
	f.Add([]byte("{a: 010, b: yes, <<: {c: 1}}"), true)
	f.Fuzz(func(t *testing.T, value []byte, isYAML bool) {
		format := JSON
		if isYAML {
			format = YAML
		}
		document, err := Parse(value, format)
		if err != nil {
			if err.Error() == "" || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("an error that is not one line: %q", err)
			}
			return
		}
		if len(document.JSON) > MaxSize || !json.Valid(document.JSON) {
			t.Fatalf("not JSON of 1 MiB at most: %.200q", document.JSON)
		}
		again, err := Parse(document.JSON, JSON)
		if err != nil || string(again.JSON) != string(document.JSON) {
			t.Fatalf("parsing the JSON of the document returns another document: %v", err)
		}
		host, faults := document.Host("h")
		checkFaults(t, faults)
		if len(faults.All()) == 0 && (host.Weight < 0 || host.Limit < -1) {
			t.Errorf("got %+v", host)
		}
		binding, faults := document.Binding("h", "p")
		checkFaults(t, faults)
		if binding.Bound && len(faults.All()) == 0 {
			for _, err := range []error{
				errorOf(spec.ParseName("", string(binding.InterfaceName))),
				errorOf(spec.ParseID[string]("", string(binding.ContainerID))),
				binding.Port.Check(),
			} {
				if err != nil {
					t.Error(err)
				}
			}
		}
		_, faults = document.Container("c")
		checkFaults(t, faults)
		_, faults = document.Group("g")
		checkFaults(t, faults)
		_, faults = document.Configuration("k")
		checkFaults(t, faults)
		_, faults = document.Settings()
		checkFaults(t, faults)
	})
}

func errorOf[T any](_ T, err error) error { return err }

func checkFaults(t *testing.T, faults Faults) {
	for _, fault := range faults.All() {
		if text := fault.Error(); strings.ContainsAny(text, "\n\x00") || len(text) > 1000 {
			t.Errorf("a fault that is not one line: %q", text)
		}
	}
}
