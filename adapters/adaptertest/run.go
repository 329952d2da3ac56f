package adaptertest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
)

// Run tries every rule of the contract that applies to the adapter's capabilities, as subtests of t. Do not call it from a
// parallel test, nor beside other tests of the same backend: at its end nothing new may live there, and no goroutine.
func Run(t *testing.T, c Config) {
	t.Helper()
	goroutines := goleak.IgnoreCurrent()
	s, err := open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	s.goroutines = goroutines
	if c.Live == nil && !s.can(sandboxer.CapList) {
		t.Log("there is neither a Lister nor Config.Live: leaks are not seen")
	}
	all := s.applicable()
	for _, problem := range s.stale(all) {
		t.Error(problem)
	}
	s.run(t, all, func(c check) bool { return c.bare })
	if t.Failed() {
		return // a Manager would refuse the adapter, or prove the wrong one
	}
	if err := s.connect(t); err != nil {
		t.Fatal(err)
	}
	s.run(t, all, func(c check) bool { return !c.bare })
}

// applicable returns the checks for what the adapter can do, in the order in which they are run.
func (s *suite) applicable() []check {
	all := slices.Concat(checks(), endChecks())
	return slices.DeleteFunc(all, func(c check) bool { return !c.applies(s) })
}

// stale finds the names in Config.Skip that nothing has.
func (s *suite) stale(all []check) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Skip)) {
		switch {
		case !slices.ContainsFunc(all, func(c check) bool { return c.name == name }):
			valid := make([]string, len(all))
			for i, c := range all {
				valid[i] = c.name
			}
			out = append(out, "Config.Skip names "+name+", and no subtest that this adapter gets is called so"+sandboxer.DidYouMean(name, valid))
		case s.cfg.Skip[name] == "":
			out = append(out, "Config.Skip gives no reason for "+name)
		}
	}
	return out
}

// run runs the chosen checks, group by group; those of one group side by side, but for the end's, which are a sequence.
func (s *suite) run(t *testing.T, all []check, chosen func(check) bool) {
	t.Helper()
	var groups []string
	members := map[string][]check{}
	for _, c := range all {
		if chosen(c) {
			group, _, _ := strings.Cut(c.name, "/")
			if members[group] == nil {
				groups = append(groups, group)
			}
			members[group] = append(members[group], c)
		}
	}
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			for _, c := range members[group] {
				t.Run(strings.TrimPrefix(c.name, group+"/"), func(t *testing.T) {
					if !c.alone {
						t.Parallel()
					}
					if why := s.cfg.Skip[c.name]; why != "" {
						t.Skip(why)
					}
					c.run(&trial{TB: t, s: s, check: c})
				})
			}
		})
	}
}
