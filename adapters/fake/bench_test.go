package fake_test

import (
	"runtime"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func BenchmarkProvision(b *testing.B) {
	ext := open(b, fake.New().Adapter(sandboxer.CapFind, sandboxer.CapExec))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := ext.Provision(b.Context(), request(sandboxer.NewID())); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkExecTrue(b *testing.B) {
	ext := open(b, fake.New().Adapter())
	sbx, x := made(b, ext, "one"), as[sandboxer.Executor](b, ext)
	b.ReportAllocs()
	for b.Loop() {
		if res, err := x.Exec(b.Context(), sbx, sandboxer.ExecRequest{Command: []string{"true"}}); err != nil || res.ExitCode != 0 {
			b.Fatal(res, err)
		}
	}
}

// TestLiveSandboxesAreSmall: a hundred thousand of them fit into a test.
func TestLiveSandboxesAreSmall(t *testing.T) { // alone: it looks at the heap
	ext := open(t, fake.New().Adapter(sandboxer.CapFind))
	const n, most = 20_000, 1024
	before := heap()
	for range n {
		if _, err := ext.Provision(t.Context(), request(sandboxer.NewID())); err != nil {
			t.Fatal(err)
		}
	}
	if each := int64(heap()-before) / n; each > most {
		t.Errorf("%d bytes for each live sandbox, more than %d", each, most)
	} else {
		t.Logf("%d bytes for each live sandbox", each)
	}
	runtime.KeepAlive(ext)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
