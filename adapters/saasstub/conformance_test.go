package saasstub_test

import (
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/adaptertest"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
)

func TestConformance(t *testing.T) { // alone: the suite counts goroutines
	service := saasstub.NewService()
	adaptertest.Run(t, adaptertest.Config{
		Adapter: func(testing.TB) sandboxer.Adapter { return saasstub.New(saasstub.Options{Service: service}) },
		Profile: func(testing.TB) sandboxer.Profile {
			return sandboxer.Profile{ID: "profile.conformance", Extension: "ext.saasstub"}
		},
		Live: func(testing.TB) []string { return service.Live() },
		Bad:  []sandboxer.Inputs{{"template": 7}, {"metadata": "none"}, {"size": "small"}},
	})
}
