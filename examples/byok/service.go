package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
	"github.com/sand-boxer/sandboxer/registry"
)

// place is the E2B that the example uses.
type place struct {
	options []registry.Option
	keys    []string // of acme: the one in use, and the one that takes its place
	close   func() error
}

// makeUp makes a key of E2B's form.
func makeUp() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return "e2b_" + hex.EncodeToString(b[:])
}

// service is the real E2B where there is a key for it, and a fake on this machine otherwise.
func service(out io.Writer, key string, newKey func() string) (*place, error) {
	if key != "" {
		fmt.Fprintln(out, "using     the real E2B, with the key in E2B_API_KEY")
		return &place{keys: []string{key}, close: func() error { return nil }}, nil
	}
	keys := []string{newKey(), newKey()}
	fake, err := e2btest.Start(e2btest.Options{Keys: map[string]string{keys[0]: "acme", keys[1]: "acme"}})
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(out, "using     a fake E2B on this machine; set E2B_API_KEY for the real one")
	settings := fake.Config()
	settings["api_key"] = "env:E2B_API_KEY" // a reference: where the key is looked up, never the key
	config, err := json.Marshal(settings)
	if err != nil {
		return nil, errors.Join(err, fake.Close())
	}
	return &place{
		// The adapter's own manifest, with a config that leads to the fake. JSON is YAML.
		options: []registry.Option{registry.WithYAML("fake E2B", []byte(`
id: ext.e2b
title: E2B, faked
handler: e2b
capabilities:
  isolation_levels: [microvm]
  pricing_model: metered
config: `+string(config)+"\n"))},
		keys: keys,
		close: func() error {
			err := fake.Close()
			if live := fake.Live(); len(live) > 0 {
				err = errors.Join(err, fmt.Errorf("left at the fake: %q", live))
			}
			return err
		},
	}, nil
}
