package userid

import (
	"fmt"
	"testing"
)

func BenchmarkAllocateWith1000Registered(b *testing.B) {
	r, ids, _ := registry(b, 65536)
	if err := makePrivate(r.files.directory); err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if err := r.files.writeLocked(ids.First+uint32(i), owner(fmt.Sprintf("c%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("new pair", func(b *testing.B) {
		for b.Loop() {
			allocate(b, r, "new")
			b.StopTimer()
			release(b, r, "new")
			b.StartTimer()
		}
	})
	b.Run("known pair", func(b *testing.B) {
		for b.Loop() {
			allocate(b, r, "c500")
		}
	})
	b.Run("owner of an id", func(b *testing.B) {
		for b.Loop() {
			if _, ok, err := r.Owner(ids.First + 500); !ok {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIDsOfProcesses(b *testing.B) {
	for b.Loop() {
		if _, err := idsOfProcesses(); err != nil {
			b.Fatal(err)
		}
	}
}
