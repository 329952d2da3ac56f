package sandboxer_test

import (
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
)

// docs:begin conformance

// TestExampleAdapterConforms: what the adapter author's guide shows keeps the rules that it explains.
func TestExampleAdapterConforms(t *testing.T) {
	backend := &shed{boxes: map[string]box{}}
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter { return ShedAdapter(backend) },
		Secrets: onlyKey{},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.shed", Extension: "ext.shed"}
		},
		Live:   func(testing.TB) []string { return backend.live() },
		Bad:    []sandboxer.Inputs{{"templat": "x"}, {"template": 7}, {"boot": 5}},
		Within: 10 * time.Second,
	})
}

// docs:end
