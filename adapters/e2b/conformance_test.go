//go:build unix

package e2b_test

import (
	"maps"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/e2b"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/secrets"
)

// against returns the adapter with a config that leads to the server.
func against(s *e2btest.Server, more map[string]any) sandboxer.Adapter {
	cfg := sandboxer.Inputs{"api_key": "env:E2B_API_KEY", "settle": "1s"}
	maps.Copy(cfg, s.Config())
	maps.Copy(cfg, more)
	a := e2b.Adapter()
	a.Manifest = withConfig(a.Manifest, cfg)
	return a
}

func TestConformance(t *testing.T) {
	for name, opts := range map[string]e2btest.Options{
		"as it is":                 {},
		"without v2, older in all": {Old: true, HoldPipes: true, HideTokens: true, EnvdVersion: "0.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, opts)
			adaptertest.Run(t, adaptertest.Config{
				Adapter: func(testing.TB) sandboxer.Adapter { return against(s, nil) },
				Secrets: secrets.Map(map[sandboxer.SecretRef]string{"env:E2B_API_KEY": canaryKey}),
				Profile: func(testing.TB) sandboxer.Profile {
					return sandboxer.Profile{ID: "profile.e2b-conformance", Extension: "ext.e2b", Inputs: sandboxer.Inputs{"template": "base"}}
				},
				Live:   func(testing.TB) []string { return append(s.Live(), s.Snapshots()...) },
				Bad:    []sandboxer.Inputs{{"tmplate": "base"}, {"template": 5}, {"workdir": "relative"}, {"env": map[string]any{"a=b": "c"}}},
				Within: time.Minute,
				Skip: map[string]string{
					"snapshot/labels": "E2B's snapshots carry a name and nothing else: it holds the ID, and the owner as a hash",
				},
			})
		})
	}
}
