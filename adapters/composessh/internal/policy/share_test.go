package policy_test

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

func TestLimitsNeverAddUpToMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		src  string
		cpus map[string]float64 // of one container
	}{
		"alone":        {"a: {image: x}", map[string]float64{"a": 2}},
		"evenly":       {"a: {image: x}, b: {image: x}, c: {image: x}, d: {image: x}", map[string]float64{"a": .5, "b": .5, "c": .5, "d": .5}},
		"what is left": {"a: {image: x, cpus: 1.5}, b: {image: x}", map[string]float64{"a": 1.5, "b": .5}},
		"replicas":     {"a: {image: x, scale: 3}, b: {image: x}", map[string]float64{"a": .5, "b": .5}},
		"too much":     {"a: {image: x, cpus: 64}, b: {image: x, cpus: 2}", map[string]float64{"a": 1, "b": 1}},
		"nothing left": {"a: {image: x, cpus: 2}, b: {image: x}", map[string]float64{"a": 1.333, "b": .666}},
		"deploy":       {"a: {image: x, deploy: {resources: {limits: {cpus: '0.25'}}}}", map[string]float64{"a": .25}},
		"not running":  {"a: {image: x}, b: {image: x, scale: 0}", map[string]float64{"a": 2, "b": 2}},
		"a lie":        {"a: {image: x, cpus: 1e9}, b: {image: x, cpus: 1e30}", map[string]float64{"a": 1, "b": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stack, p := accept(t, "services: {"+test.src+"}", options("a"))
			got := map[string]float64{}
			var cpus, memory float64
			for name, s := range p.Services {
				n := 1.0
				if s.Scale != nil {
					n = float64(*s.Scale)
				}
				got[name] = math.Round(s.CPUs*1000) / 1000
				cpus += n * s.CPUs
				bytes, _ := strconv.ParseFloat(s.MemLimit, 64)
				if memory += n * bytes; bytes == 0 && n > 0 || s.MemLimit != s.MemswapLimit {
					t.Errorf("%s: memory %q, with swap %q", name, s.MemLimit, s.MemswapLimit)
				}
			}
			if diff := cmp.Diff(test.cpus, got); diff != "" {
				t.Error(diff)
			}
			if cpus > 2.0001 || memory > 4<<30 {
				t.Errorf("%v CPUs, %v bytes", cpus, memory)
			}
			again, err := policy.Load(t.Context(), stack.JSON, options("a"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(stack.JSON), string(again.JSON)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTooManyServicesForTheProfile(t *testing.T) {
	t.Parallel()
	o := options("a")
	o.Limits.MemoryBytes = 8 << 20
	_, err := policy.Load(t.Context(), []byte("services: {a: {image: x}, b: {image: x}}"), o)
	if refusal(t, err); !strings.Contains(err.Error(), "no less than 6291456") {
		t.Error(err)
	}
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	o := options("a")
	o.Limits = policy.Limits{}
	_, p := accept(t, "services: {a: {image: x}, b: {image: x, mem_limit: 64m}}", o)
	if p.Services["a"].MemLimit != "" || p.Services["b"].MemLimit != "67108864" || p.Services["b"].MemswapLimit != "67108864" {
		t.Errorf("%+v", p.Services)
	}
}

func TestProfilePorts(t *testing.T) {
	t.Parallel()
	o := options("a")
	o.Ports = []int{80, 8080}
	_, p := accept(t, "services: {a: {image: x, ports: ['1234:80']}, b: {image: x, ports: ['127.0.0.1::53/udp']}}", o)
	want := []map[string]any{
		{"host_ip": "127.0.0.1", "mode": "ingress", "protocol": "tcp", "target": 80.0},
		{"host_ip": "127.0.0.1", "mode": "ingress", "protocol": "tcp", "target": 8080.0},
	}
	if diff := cmp.Diff(want, p.Services["a"].Ports); diff != "" {
		t.Error(diff)
	}
	if p.Services["b"].Ports[0]["protocol"] != "udp" {
		t.Error(p.Services["b"].Ports)
	}
	o.Ports = []int{70000}
	_, err := policy.Load(t.Context(), []byte("services: {a: {image: x}}"), o)
	refusal(t, err)
}
