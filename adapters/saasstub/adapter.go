package saasstub

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Handler is what a manifest's `handler:` names.
const Handler = "saasstub"

//go:embed ext.saasstub.yaml
var manifest []byte

//go:embed profile.saasstub.yaml
var profile []byte

// Options configure the stub. The zero value is what [Adapter] uses.
type Options struct {
	// Service holds what exists. Adapters with the same one see the same sandboxes. Defaults to a new one.
	Service *Service
	// Now is the service's clock, of lifetimes and of the meter. It may stand still or go back; readings never fall.
	// Defaults to time.Now.
	Now func() time.Time
}

// Adapter returns the adapter of the handler "saasstub", with a service of its own, the manifest "ext.saasstub" and the
// profile "profile.saasstub".
func Adapter() sandboxer.Adapter { return New(Options{}) }

// New returns the adapter over a service and a clock of the caller's.
func New(o Options) sandboxer.Adapter {
	if o.Service == nil {
		o.Service = NewService()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return sandboxer.Adapter{
		Handler:  Handler,
		Manifest: append([]byte(nil), manifest...),
		Profiles: [][]byte{append([]byte(nil), profile...)},
		New: func(_ context.Context, s sandboxer.Settings) (sandboxer.Extension, error) {
			var c config
			if err := s.Config.Decode(&c); err != nil {
				return nil, fmt.Errorf("the config of %s: %w", s.ExtensionID, err)
			}
			log := s.Logger
			if log == nil {
				log = slog.New(slog.DiscardHandler)
			}
			return &extension{id: s.ExtensionID, service: o.Service, now: o.Now, config: c, log: log}, nil
		},
	}
}

// config is what a manifest's config section may hold.
type config struct {
	// APIKey names the key that every call needs. What was made with one version of it is not found with another, as real
	// services say. Empty: no key.
	APIKey sandboxer.SecretRef
}

// inputs are what a profile or request may give.
type inputs struct {
	Template string            // kept and shown, no more
	Metadata map[string]string // kept, and brought back by a restore
}
