package policy

import (
	"fmt"
	"math"

	"github.com/compose-spec/compose-go/v2/types"
)

// The least that an engine takes for a container.
const (
	leastMillis = 10
	leastMemory = 6 << 20
	leastPIDs   = 1
)

// resource is one kind of limit of a service.
type resource struct {
	name    string
	total   int64
	least   int64
	round   int64 // limits are multiples of it
	get     func(*types.ServiceConfig) int64
	set     func(*types.ServiceConfig, int64)
	deploys func(*types.Resource) int64
}

// resources are the limits that a sandbox has. A service's own stands at the service or in its deploy section.
func resources(of Limits) []resource {
	return []resource{
		{"CPU (in thousandths)", of.CPUMillis, leastMillis, 1,
			func(s *types.ServiceConfig) int64 { return millis(float64(s.CPUS)) },
			func(s *types.ServiceConfig, n int64) { s.CPUS = float32(float64(n) / 1000) },
			func(r *types.Resource) int64 { return millis(float64(r.NanoCPUs)) }},
		{"memory (in bytes)", of.MemoryBytes, leastMemory, 4096,
			func(s *types.ServiceConfig) int64 { return int64(s.MemLimit) },
			func(s *types.ServiceConfig, n int64) {
				s.MemLimit, s.MemSwapLimit = types.UnitBytes(n), types.UnitBytes(n)
			},
			func(r *types.Resource) int64 { return int64(r.MemoryBytes) }},
		{"process", of.PIDs, leastPIDs, 1,
			func(s *types.ServiceConfig) int64 { return s.PidsLimit },
			func(s *types.ServiceConfig, n int64) { s.PidsLimit = n },
			func(r *types.Resource) int64 { return r.Pids }},
	}
}

// millis rounds CPUs to thousandths. What is no number, negative or huge is all there is: share cuts it down.
func millis(cpus float64) int64 {
	if math.IsNaN(cpus) || cpus < 0 || cpus > 1<<20 {
		return 1 << 30
	}
	return int64(math.Round(cpus * 1000))
}

// share gives every container its part of a limit, so that the parts never add up to more. A service that names its own
// limit keeps it where there is enough; the others share what is left evenly. Where too much is asked for, all get
// proportionally less. Swap is none: a limit of memory without one of swap allows the same again.
func (l *load) share(services map[string]*types.ServiceConfig) {
	for _, r := range resources(l.o.Limits) {
		want := map[string]int64{}
		var asked, silent int64 // what was asked for by all containers, and how many did not ask
		for name, s := range services {
			n := r.get(s)
			if n == 0 && s.Deploy != nil && s.Deploy.Resources.Limits != nil {
				n = r.deploys(s.Deploy.Resources.Limits)
			}
			if r.total > 0 {
				n = min(n, r.total) // nobody has more, and the sum cannot overflow
			}
			want[name] = n
			if asked += n * int64(s.GetScale()); n == 0 {
				silent += int64(s.GetScale())
			}
		}
		even := int64(0)
		if r.total > 0 && silent > 0 {
			if even = (r.total - asked) / silent; even < r.least { // too little is left: they ask for as much as in an even split
				even = max(r.total/(int64(containers(services))), r.least)
			}
			asked += even * silent
		}
		for name, s := range services {
			n := want[name]
			if r.total == 0 {
				if n > 0 {
					r.set(s, n)
				}
				continue
			}
			if n == 0 {
				n = even
			}
			if asked > r.total {
				n = int64(float64(n) * float64(r.total) / float64(asked))
			}
			if n > r.least { // a limit that the engine takes; what is below is told
				n -= n % r.round
			}
			if n < r.least && (n > 0 || s.GetScale() > 0) {
				l.problems = append(l.problems, Problem{Service: name, Why: fmt.Sprintf(
					"its part of the sandbox's %s limit of %d is %d, and an engine takes no less than %d; run fewer services or take a profile with more", r.name, r.total, n, r.least)})
				continue
			}
			if n > 0 {
				r.set(s, n)
			}
		}
	}
}

func containers(services map[string]*types.ServiceConfig) int {
	n := 0
	for _, s := range services {
		n += s.GetScale()
	}
	return max(n, 1)
}
