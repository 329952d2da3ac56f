package pricing_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/internal/pricing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func table() pricing.Table {
	return pricing.Table{
		Name: "test 2026-11-01", Sandbox: 1_000_000, VCPUSecond: 14_000, GiBSecond: 4_500,
		Default: sandboxer.Resources{CPUMillis: 1000, MemoryBytes: 1 << 30},
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	type line struct {
		Item, Unit string
		Micros     int64
		Amount     string
	}
	flat := line{"flat", "sandbox", 1_000_000, "0.001 USD"}
	for name, c := range map[string]struct {
		size  sandboxer.Resources
		d     time.Duration
		lines []line
		total string
	}{
		"two CPUs, half a GiB, an hour": {
			sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 512 << 20}, time.Hour,
			[]line{flat, {"cpu", "vcpu-second", 7_200_000_000, "0.1008 USD"}, {"memory", "gib-second", 1_800_000_000, "0.0081 USD"}}, "0.1099 USD",
		},
		"size left out": {
			sandboxer.Resources{}, time.Second,
			[]line{flat, {"cpu", "vcpu-second", 1_000_000, "0.000014 USD"}, {"memory", "gib-second", 1_000_000, "0.0000045 USD"}}, "0.0010185 USD",
		},
		"no time, and less": {
			sandboxer.Resources{}, -time.Second,
			[]line{flat, {"cpu", "vcpu-second", 0, "0.00 USD"}, {"memory", "gib-second", 0, "0.00 USD"}}, "0.001 USD",
		},
	} {
		lines, total, err := table().Lines(c.size, c.d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []line
		for _, l := range lines {
			got = append(got, line{l.Item, l.Unit, l.Micros, l.Amount.String()})
		}
		if diff := cmp.Diff(c.lines, got); diff != "" || total.String() != c.total {
			t.Errorf("%s: %s, total %s, want %s", name, diff, total, c.total)
		}
	}
	free := table()
	free.Sandbox, free.GiBSecond = 0, 0
	if lines, _, err := free.Lines(sandboxer.Resources{}, time.Second); err != nil || len(lines) != 1 || lines[0].Item != "cpu" {
		t.Errorf("rates of 0 make lines: %v, %v", lines, err)
	}
}

func TestWhatCannotBePriced(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]sandboxer.Resources{
		"negative CPU": {CPUMillis: -1}, "negative memory": {MemoryBytes: -1},
		"too many CPUs": {CPUMillis: math.MaxInt64}, "too much memory": {MemoryBytes: math.MaxInt64},
	} {
		_, err := table().Quote(size, math.MaxInt64)
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := table().Quote(sandboxer.Resources{}, -1); sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
		t.Errorf("a life without an end: %v", err)
	}
	quote, err := table().Quote(sandboxer.Resources{}, time.Minute)
	if err != nil || quote.For != time.Minute || quote.PriceList != "test 2026-11-01" || len(quote.Lines) != 3 {
		t.Errorf("%+v, %v", quote, err)
	}
}

// TestQuantitiesAreExact compares with arithmetic without limits.
func TestQuantitiesAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := sandboxer.Resources{
			CPUMillis:   rapid.Int64Range(1, math.MaxInt64).Draw(t, "cpu"),
			MemoryBytes: rapid.Int64Range(1, math.MaxInt64).Draw(t, "memory"),
		}
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "d"))
		want := func(n, per int64) *big.Int {
			q := new(big.Int).Mul(big.NewInt(d.Microseconds()), big.NewInt(n))
			return q.Quo(q, big.NewInt(per))
		}
		cpu, memory := want(size.CPUMillis, 1000), want(size.MemoryBytes, 1<<30)
		lines, _, err := table().Lines(size, d)
		if err != nil {
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument {
				t.Fatalf("%v", err)
			}
			return
		}
		if !cpu.IsInt64() || !memory.IsInt64() || lines[1].Micros != cpu.Int64() || lines[2].Micros != memory.Int64() {
			t.Fatalf("%v over %v: %d and %d, want %v and %v", size, d, lines[1].Micros, lines[2].Micros, cpu, memory)
		}
	})
}
