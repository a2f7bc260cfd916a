package reconcile

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestLineOfAnExecutableKeepsItsLevel(t *testing.T) {
	for line, want := range map[string]string{
		`level=WARN msg="a \"guard\" is gone" container=vpn1 reason="no nft"`: `level=WARN msg="a \"guard\" is gone` +
			` container=vpn1 reason=\"no nft\"" verb=ADD`,
		`level=ERROR msg=gone container=vpn1`: `level=ERROR msg="gone container=vpn1" verb=ADD`,
		`level=DEBUG msg=looks`:               `level=DEBUG msg=looks verb=ADD`,
		`level=WARN`:                          `level=WARN msg="" verb=ADD`,
		`level=WARN msg="not closed`:          `level=WARN msg="\"not closed" verb=ADD`,
		`level=LOUD msg=x`:                    `level=INFO msg="level=LOUD msg=x" verb=ADD`,
		`warning: a line of a shell`:          `level=INFO msg="warning: a line of a shell" verb=ADD`,
	} {
		var got bytes.Buffer
		withoutTime := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}
		relay(slog.New(slog.NewTextHandler(&got, options)), spec.Add, line)
		if got.String() != want+"\n" {
			t.Errorf("%s:\ngot  %swant %s", line, got.String(), want)
		}
	}
}
