// Package crashworld is the configuration that the crash tests and the program that they kill have in common.
package crashworld

import (
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/remote"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
	"github.com/sand-boxer/sandboxer/metering"
	"github.com/sand-boxer/sandboxer/metering/file"
	"github.com/sand-boxer/sandboxer/registry"
)

// Blind is what the extension of profile.blind can do: nothing that would tell what became of a lost reply.
func Blind() []sandboxer.Capability { return []sandboxer.Capability{sandboxer.CapMeter} }

// Extensions are the ids of the extensions, each with whether it is blind.
func Extensions() map[string]bool {
	return map[string]bool{"ext.full": false, "ext.steps": false, "ext.spare": false, "ext.hosts": false, "ext.peers": false, "ext.blind": true}
}

// Config is a Manager's over the backend at url, with the bill beside the store.
func Config(st store.Store, path, url string) (manager.Config, func() error, error) {
	none := func() error { return nil }
	all := remote.Adapter("far", url, sandboxer.AllCapabilities()...)
	hosted := remote.Adapter("far-hosts", url, sandboxer.AllCapabilities()...)
	hosted.Hosted = true
	opts := []registry.Option{
		registry.WithAdapters(all, hosted, remote.Adapter("far-blind", url, Blind()...)),
		registry.WithYAML("ext.full", manifest("ext.full", "far", "")),
		registry.WithYAML("ext.spare", manifest("ext.spare", "far", "")),
		registry.WithYAML("ext.steps", manifest("ext.steps", "far", "config:\n  checkpoint: true\n")),
		registry.WithYAML("ext.hosts", manifest("ext.hosts", "far-hosts", "")),
		registry.WithYAML("ext.peers", manifest("ext.peers", "far-hosts", "config:\n  move: true\n")),
		registry.WithYAML("ext.blind", manifest("ext.blind", "far-blind", "")),
		registry.WithProfiles(
			sandboxer.Profile{ID: "profile.full", Extension: "ext.full"},
			sandboxer.Profile{ID: "profile.spare", Extension: "ext.spare"},
			sandboxer.Profile{ID: "profile.steps", Extension: "ext.steps"},
			sandboxer.Profile{ID: "profile.hosts", Extension: "ext.hosts"},
			sandboxer.Profile{ID: "profile.peers", Extension: "ext.peers"},
			sandboxer.Profile{ID: "profile.blind", Extension: "ext.blind"},
			sandboxer.Profile{ID: "profile.burst", Extension: "ext.full", Burst: &sandboxer.BurstPolicy{
				To: []sandboxer.BurstTarget{{Profile: "profile.spare"}},
			}},
		),
	}
	reg, err := registry.New(opts...)
	if err != nil {
		return manager.Config{}, none, err
	}
	exporter, err := file.Open(path + ".bill")
	if err != nil {
		return manager.Config{}, none, err
	}
	meter, err := metering.New(metering.Config{Exporters: []metering.Exporter{exporter}, Interval: time.Hour})
	if err != nil {
		return manager.Config{}, none, err
	}
	return manager.Config{
		Registry: reg, Store: st, Meter: meter, Owner: "crash", ReapInterval: -1,
		Hosts:          []sandboxer.Host{{ID: "h1", MaxSandboxes: 4}, {ID: "h2", MaxSandboxes: 4}},
		RecoverTimeout: 10 * time.Second, TeardownTimeout: 10 * time.Second,
		ReapGrace: time.Second, // a snapshot whose reply was lost is gone for good after it
	}, exporter.Close, nil
}

func manifest(id, handler, config string) []byte {
	return []byte("id: " + id + "\ntitle: A backend in another process\nhandler: " + handler +
		"\ncapabilities:\n  isolation_levels: [container]\n  pricing_model: metered\n" + config)
}
