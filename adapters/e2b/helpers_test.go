package e2b_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canaryKey must never be seen anywhere.
const canaryKey = "e2b_c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

func start(t *testing.T, opts e2btest.Options) *e2btest.Server {
	t.Helper()
	s, err := e2btest.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// withConfig replaces the config section of a manifest. JSON is YAML.
func withConfig(manifest []byte, cfg sandboxer.Inputs) []byte {
	head, _, _ := bytes.Cut(manifest, []byte("config:"))
	text, err := json.Marshal(cfg)
	if err != nil {
		panic(err)
	}
	return append(append(bytes.Clone(head), "config: "...), append(text, '\n')...)
}
