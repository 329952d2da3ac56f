package fake_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/fake"
)

func TestConformance(t *testing.T) {
	backend := fake.New()
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter { return backend.Adapter() },
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.fake", Extension: "ext.fake"}
		},
		Listen: func(port int) []string { return []string{"nc", "-l", "-k", "-p", strconv.Itoa(port), "-e", "cat"} },
		Live:   func(testing.TB) []string { return backend.Live() },
		Bad:    []sandboxer.Inputs{{"files": "one"}, {"file": map[string]any{}}},
		Within: 10 * time.Second,
	})
}
