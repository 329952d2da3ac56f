package registry_test

import (
	"math"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

func TestQuantities(t *testing.T) {
	t.Parallel()
	const refused = math.MinInt64
	for _, tt := range []struct {
		parse func(string) (int64, error)
		in    string
		want  int64
	}{
		{registry.ParseCPU, "2", 2000},
		{registry.ParseCPU, "1.5", 1500},
		{registry.ParseCPU, "500m", 500},
		{registry.ParseCPU, "0", 0},
		{registry.ParseCPU, "0.001", 1},
		{registry.ParseCPU, "1.5m", refused},
		{registry.ParseCPU, "9223372036854776", refused},
		{registry.ParseCPU, "1e3", refused},
		{registry.ParseCPU, "", refused},
		{registry.ParseCPU, ".5", refused},
		{registry.ParseCPU, "2 cores", refused},
		{registry.ParseBytes, "4Gi", 4 << 30},
		{registry.ParseBytes, "512Mi", 512 << 20},
		{registry.ParseBytes, "1.5Gi", 3 << 29},
		{registry.ParseBytes, "10G", 10_000_000_000},
		{registry.ParseBytes, "2000k", 2_000_000},
		{registry.ParseBytes, "1048576", 1 << 20},
		{registry.ParseBytes, "0", 0},
		{registry.ParseBytes, "7Pi", 7 << 50},
		{registry.ParseBytes, "9223372036854775807", math.MaxInt64},
		{registry.ParseBytes, "9223372036854775808", refused},
		{registry.ParseBytes, "8192Pi", refused},
		{registry.ParseBytes, "4gi", refused},
		{registry.ParseBytes, "4GiB", refused},
		{registry.ParseBytes, "Gi", refused},
		{registry.ParseBytes, "512", refused},
		{duration(registry.ParseDuration), "1h30m", int64(90 * time.Minute)},
		{duration(registry.ParseDuration), "0.5s", int64(time.Second / 2)},
		{duration(registry.ParseDuration), "none", refused},
		{duration(registry.ParseDuration), "+5s", refused},
		{duration(registry.ParseDuration), "5", refused},
		{duration(registry.ParseTTL), "none", int64(sandboxer.NoTTL)},
		{duration(registry.ParseTTL), "None", refused},
		{duration(registry.ParseTTL), "-5m", refused},
		{duration(registry.ParseTTL), "12h", int64(12 * time.Hour)},
	} {
		got, err := tt.parse(tt.in)
		if err != nil {
			got = refused
		}
		if got != tt.want {
			t.Errorf("%q: got %d, %v, want %d", tt.in, got, err, tt.want)
		}
	}
}

func duration(parse func(string) (time.Duration, error)) func(string) (int64, error) {
	return func(s string) (int64, error) {
		d, err := parse(s)
		return int64(d), err
	}
}
