// Package pricing makes the lines of a meter from a table of prices, for the metered adapters of this module.
package pricing

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Table is what a backend takes for a sandbox, in billionths of a US dollar. A rate of 0 makes no line.
type Table struct {
	Name       string // with its date: "saasstub 2026-11-01"
	Sandbox    int64  // once
	VCPUSecond int64
	GiBSecond  int64 // of memory
	Stored     int64 // a GiB-second of a snapshot
	// Default is how large a sandbox is priced whose profile leaves that to the backend.
	Default sandboxer.Resources
}

// Lines prices a sandbox of size r that ran for d; below 0 counts as 0. Quantities are rounded down to millionths of their
// unit. InvalidArgument for a size that is negative or too large to be priced.
func (t Table) Lines(r sandboxer.Resources, d time.Duration) ([]sandboxer.MeterLine, sandboxer.Money, error) {
	if r.CPUMillis == 0 {
		r.CPUMillis = t.Default.CPUMillis
	}
	if r.MemoryBytes == 0 {
		r.MemoryBytes = t.Default.MemoryBytes
	}
	micros := max(0, d).Microseconds()
	var lines []sandboxer.MeterLine
	for _, row := range []struct {
		item, unit string
		a, b, per  int64 // a*b/per millionths of unit
		rate       int64
	}{
		{"flat", "sandbox", 1, 1_000_000, 1, t.Sandbox},
		{"cpu", "vcpu-second", micros, r.CPUMillis, 1000, t.VCPUSecond},
		{"memory", "gib-second", micros, r.MemoryBytes, 1 << 30, t.GiBSecond},
	} {
		if row.rate == 0 {
			continue
		}
		quantity, ok := scale(row.a, row.b, row.per)
		if !ok {
			return nil, sandboxer.Money{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf(
				"%s cannot be priced for %d thousandths of a CPU and %d bytes of memory over %v: that is negative or too much", row.item, r.CPUMillis, r.MemoryBytes, d))
		}
		each, err := sandboxer.NewMoney(row.rate, "USD")
		if err != nil {
			return nil, sandboxer.Money{}, err
		}
		line, err := sandboxer.NewMeterLine(row.item, row.unit, quantity, each)
		if err != nil {
			return nil, sandboxer.Money{}, err
		}
		lines = append(lines, line)
	}
	total, err := sandboxer.SumLines(lines)
	return lines, total, err
}

// Quote prices a sandbox of size r that lives for d and is never paused. InvalidArgument for a d below 0.
func (t Table) Quote(r sandboxer.Resources, d time.Duration) (sandboxer.MeterQuote, error) {
	if d < 0 {
		return sandboxer.MeterQuote{}, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("a lifetime of %v cannot be priced; give one that ends", d))
	}
	lines, total, err := t.Lines(r, d)
	if err != nil {
		return sandboxer.MeterQuote{}, err
	}
	return sandboxer.MeterQuote{Lines: lines, Total: total, For: d, PriceList: t.Name}, nil
}

// StoredLines prices a snapshot of so many bytes that was stored for d. InvalidArgument for what is negative or too much.
func (t Table) StoredLines(bytes int64, d time.Duration) ([]sandboxer.MeterLine, error) {
	quantity, ok := scale(d.Microseconds(), bytes, 1<<30)
	if !ok {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("%d bytes that are stored for %v cannot be priced: that is negative or too much", bytes, d))
	}
	each, err := sandboxer.NewMoney(t.Stored, "USD")
	if err != nil {
		return nil, err
	}
	line, err := sandboxer.NewMeterLine("snapshot", "gib-second", quantity, each)
	if err != nil {
		return nil, err
	}
	return []sandboxer.MeterLine{line}, nil
}

// scale is a*b/c, exact up to the fraction that it drops. False where that is no quantity.
func scale(a, b, c int64) (int64, bool) {
	if a < 0 || b < 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q), q <= math.MaxInt64
}
