package saasstub_test

import (
	"context"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
)

// keys gives everybody the same key.
type keys struct{}

func (keys) Payer(context.Context, sandboxer.SecretRef, sandboxer.Consumer) (sandboxer.Payer, error) {
	return sandboxer.Payer{Key: "v1"}, nil
}

func (keys) Secret(context.Context, sandboxer.SecretRef, sandboxer.Payer) (sandboxer.Secret, error) {
	return sandboxer.NewSecret([]byte("key-of-the-saasstub-conformance"), "v1"), nil
}

func TestConformance(t *testing.T) {
	service := saasstub.NewService()
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter {
			a := saasstub.New(saasstub.Options{Service: service})
			a.Manifest = append(a.Manifest, "config:\n  api_key: env:SAASSTUB_KEY\n"...)
			return a
		},
		Secrets: keys{},
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.saasstub", Extension: "ext.saasstub", Inputs: sandboxer.Inputs{"template": "go"}}
		},
		Live:   func(testing.TB) []string { return service.Live() },
		Bad:    []sandboxer.Inputs{{"tmplate": "go"}, {"template": 5}, {"metadata": "x"}},
		Within: 10 * time.Second,
	})
}
