// Package beside measures us beside the programs that people use today, for benchmarks whose name begins with BenchmarkPeers.
// benchmarks/ssh/run.sh makes one table of what they report.
package beside

import (
	"slices"
	"testing"
	"time"
)

// Compare runs ours and theirs alternately, so that what else the machine does hits both, and reports the medians, how ours
// stands to theirs, and between what that was in four of five rounds. target is what the quotient may be at most, or with a
// negative sign at least. The benchmark's name is "ours: theirs".
func Compare(b *testing.B, rounds int, unit string, target float64, ours, theirs func() float64) {
	b.Helper()
	var mine, other, quotients []float64
	for range rounds {
		us, them := ours(), theirs()
		if b.Failed() {
			return
		}
		mine, other, quotients = append(mine, us), append(other, them), append(quotients, us/them)
	}
	for _, s := range [][]float64{mine, other, quotients} {
		slices.Sort(s)
	}
	us, them := mine[rounds/2], other[rounds/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(us, unit+"-ours")
	b.ReportMetric(them, unit+"-peer")
	b.ReportMetric(us/them, "ratio")
	b.ReportMetric(quotients[rounds/10], "ratio-low")
	b.ReportMetric(quotients[rounds-1-rounds/10], "ratio-high")
	b.ReportMetric(target, "target")
}

// Timed is how many milliseconds f takes.
func Timed(b *testing.B, f func() error) func() float64 {
	return func() float64 {
		begin := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(begin)) / float64(time.Millisecond)
	}
}
