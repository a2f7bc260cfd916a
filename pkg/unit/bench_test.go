package unit

import "testing"

func BenchmarkConnect(b *testing.B) {
	_, ctx := sandbox(b)
	for b.Loop() {
		bus := Open()
		if _, err := bus.List(ctx, "svc-none.service"); err != nil {
			b.Fatal(err)
		}
		bus.Close()
	}
}

func BenchmarkStartAndStop(b *testing.B) {
	bus, ctx := sandbox(b)
	p := program(b, bus, "u-bench", "silent")
	p.Type, p.ExecStart = Exec, Command{"/bin/sleep", "60"}
	for b.Loop() {
		must(b, bus.Start(ctx, p))
		must(b, bus.Stop(ctx, p.Name))
	}
}

func BenchmarkRead(b *testing.B) {
	bus, ctx := sandbox(b)
	p := program(b, bus, "u-bench", "silent")
	p.Type = Exec
	must(b, bus.Start(ctx, p))
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			_, err := bus.List(ctx, p.Name, "svc-u-bench:*.service")
			must(b, err)
		}
	})
	b.Run("Owner", func(b *testing.B) {
		for b.Loop() {
			_, _, err := bus.Owner(ctx, p.Name)
			must(b, err)
		}
	})
	b.Run("Show", func(b *testing.B) {
		for b.Loop() {
			_, err := bus.Show(ctx, p.Name)
			must(b, err)
		}
	})
}
