package unit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/godbus/dbus/v5"
)

// encoded returns a signal as the D-Bus library encodes it.
func encoded(t testing.TB, path dbus.ObjectPath, iface, member string, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldSender: dbus.MakeVariant(":1.1"),
	}, Body: body}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const unitInterface = "org.freedesktop.systemd1.Unit"

func changedProperties(t testing.TB, unit, iface string) []byte {
	changed := map[string]dbus.Variant{
		"ActiveState": dbus.MakeVariant("active"), "ExecMainStatus": dbus.MakeVariant(int32(3)),
	}
	return encoded(t, dbus.ObjectPath(unitPath+unit), properties, "PropertiesChanged", iface, changed, []string{"x"})
}

func TestParseSignal(t *testing.T) {
	got, ok := parseSignal(changedProperties(t, "svc_2da_2eservice", service))
	want := signalHeader{unitPath + "svc_2da_2eservice", properties, "PropertiesChanged", service}
	if !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := parseSignal(encoded(t, managerPath, manager, "Reloading", true)); !ok || got.member != "Reloading" {
		t.Errorf("got %+v, %v", got, ok)
	}
}

func TestFilterKeepsOtherMessages(t *testing.T) {
	kept := changedProperties(t, "kept", service)
	other := encoded(t, managerPath, manager, "JobRemoved", uint32(1), dbus.ObjectPath("/"), "x", "done")
	stream := bytes.Join([][]byte{
		changedProperties(t, "dropped", unitInterface), kept, changedProperties(t, "dropped", service), other,
	}, nil)
	f := &messageFilter{
		in:      bufio.NewReader(bytes.NewReader(stream)),
		dropped: func(s signalHeader) bool { return s.path == unitPath+"dropped" },
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, append(bytes.Clone(kept), other...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestDamagedMessagesCauseNoPanic(t *testing.T) {
	whole := changedProperties(t, "svc_2da_2eservice", service)
	for range 20000 {
		damaged := bytes.Clone(whole)
		for range 1 + rand.IntN(4) {
			damaged[rand.IntN(min(len(damaged), 200))] = byte(rand.IntN(256))
		}
		f := &messageFilter{
			in: bufio.NewReader(bytes.NewReader(damaged)), dropped: func(signalHeader) bool { return false },
		}
		_, _ = io.Copy(io.Discard, f)
	}
}

func TestDroppedSignalsReportChanges(t *testing.T) {
	c := &connection{}
	e := c.subscribe()
	j := c.listenJobs("svc-job.service")
	defer j.stop()
	for _, row := range []struct {
		message []byte
		dropped bool
	}{
		{changedProperties(t, "svc_2da_2eservice", unitInterface), true},
		{changedProperties(t, "svc_2db_2eservice", service), true},
		{changedProperties(t, "svc_2djob_2eservice", service), false},
		{changedProperties(t, "ssh_2eservice", unitInterface), true},
		{encoded(t, managerPath, manager, "UnitRemoved", "svc-c.service", dbus.ObjectPath("/")), true},
		{encoded(t, managerPath, manager, "JobNew", uint32(1), dbus.ObjectPath("/"), "svc-d.service"), true},
		{
			encoded(t, managerPath, manager, "JobRemoved", uint32(1), dbus.ObjectPath("/"), "svc-e.service", "done"),
			false,
		},
		{encoded(t, managerPath, manager, "Reloading", false), false},
	} {
		s, ok := parseSignal(row.message)
		if !ok || c.listeners.handleHeader(s) != row.dropped {
			t.Errorf("%+v: want dropped %v", s, row.dropped)
		}
	}
	units := e.take()
	for _, name := range []string{"svc-a.service", "svc-b.service", "svc-job.service", "svc-c.service"} {
		if _, ok := units[name]; !ok {
			t.Errorf("change of %s not reported", name)
		}
		delete(units, name)
	}
	if len(units) > 0 {
		t.Errorf("reported without a change: %v", units)
	}
}

// filterAll passes signals through the filter of a connection that waits for no job.
func filterAll(stream []byte) {
	l := new(listeners)
	_, _ = io.Copy(io.Discard, &messageFilter{in: bufio.NewReader(bytes.NewReader(stream)), dropped: l.handleHeader})
}

// decodeAll decodes signals as the D-Bus library does it for go-systemd.
func decodeAll(stream []byte) {
	for in := bytes.NewReader(stream); in.Len() > 0; {
		if _, err := dbus.DecodeMessage(in); err != nil {
			panic(err)
		}
	}
}

func TestFilterIsCheaperThanDecoding(t *testing.T) {
	stream := bytes.Repeat(changedProperties(t, "ssh_2eservice", service), 100)
	filtered := testing.AllocsPerRun(10, func() { filterAll(stream) })
	decoded := testing.AllocsPerRun(10, func() { decodeAll(stream) })
	if filtered*5 > decoded {
		t.Errorf("100 signals: the filter allocates %v times, the decoder %v times", filtered, decoded)
	}
}

func BenchmarkSignals(b *testing.B) {
	stream := bytes.Repeat(changedProperties(b, "svc_2da_2eservice", service), 1000)
	for name, read := range map[string]func([]byte){"filtered": filterAll, "decoded": decodeAll} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				read(stream)
			}
		})
	}
}
