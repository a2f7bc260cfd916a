package netns

import (
	"fmt"
	"os"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func BenchmarkMakeAndRemove(b *testing.B) {
	benchNeedsSandbox(b)
	for b.Loop() {
		if err := Directory.Make(owner("ns-bench"), 0); err != nil {
			b.Fatal(err)
		}
		if err := Directory.Remove("ns-bench"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	benchNeedsSandbox(b)
	benchNames(b, 1)
	for b.Loop() {
		if _, err := Directory.Observe("ns-b0"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList500(b *testing.B) {
	benchNeedsSandbox(b)
	benchNames(b, 500)
	for b.Loop() {
		if list, err := Directory.List(); err != nil || len(list) != 500 {
			b.Fatal(len(list), err)
		}
	}
}

func BenchmarkObserveLink(b *testing.B) {
	benchNeedsSandbox(b)
	for b.Loop() {
		if _, err := ObserveLink("lo"); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNeedsSandbox(b *testing.B) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		b.Skip("needs the sandbox: make bats")
	}
}

func benchNames(b *testing.B, n int) {
	for i := range n {
		name := fmt.Sprintf("ns-b%d", i)
		if err := Directory.Make(owner(name), 0); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = Directory.Remove(spec.Name(name)) })
	}
}
