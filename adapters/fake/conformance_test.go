package fake_test

import (
	"strconv"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

// TestConformance: with all capabilities, placed on a host with some of them, and with none.
func TestConformance(t *testing.T) { // one after the other: the suite counts goroutines
	for name, tc := range map[string]struct {
		caps   []sandboxer.Capability
		hosted bool
	}{
		"all":    {},
		"hosted": {[]sandboxer.Capability{sandboxer.CapExec, sandboxer.CapFiles, sandboxer.CapSnapshot, sandboxer.CapSnapshotTransfer}, true},
		"bare":   {[]sandboxer.Capability{sandboxer.CapInspect}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := fake.New()
			c := adaptertest.Config{
				Adapter: func(testing.TB) sandboxer.Adapter {
					a := b.Adapter(tc.caps...)
					a.Hosted = tc.hosted
					return a
				},
				Profile: func(testing.TB) sandboxer.Profile {
					return sandboxer.Profile{ID: "profile.conformance", Extension: "ext.fake"}
				},
				Live:   func(testing.TB) []string { return b.Live() },
				Bad:    []sandboxer.Inputs{{"files": "one"}},
				Listen: func(port int) []string { return []string{"nc", "-l", "-k", "-p", strconv.Itoa(port), "-e", "cat"} },
			}
			if tc.hosted {
				c.Host = func(testing.TB) sandboxer.Host { return sandboxer.Host{ID: "h1"} }
			}
			adaptertest.Run(t, c)
		})
	}
}
