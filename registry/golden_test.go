package registry_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/registry"
)

var update = flag.Bool("update", false, "write golden files and schemas instead of comparing them")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const manifests = "../testdata/manifests"

// adapter serves a handler and is never built.
func adapter(handler string) sandboxer.Adapter {
	return sandboxer.Adapter{
		Handler: handler,
		New: func(context.Context, sandboxer.Settings) (sandboxer.Extension, error) {
			return nil, sandboxer.Unsupported
		},
	}
}

// adapters are the handlers that the documents in testdata name.
func adapters() registry.Option {
	cloud := adapter("e2b")
	cloud.Credentials = []string{"api_key", "login"}
	compose := adapter("compose-ssh")
	compose.Hosted = true
	return registry.WithAdapters(adapter("my-backend"), compose, cloud)
}

// golden compares got with a file, or writes it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update to write it, and read what it wrote", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func cases(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(manifests, dir, "*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	return found
}

// TestInvalid: every kind of broken document is refused with all its problems, each at its place.
func TestInvalid(t *testing.T) {
	for _, dir := range cases(t, "invalid") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			_, err := registry.New(adapters(), registry.WithFS(os.DirFS(dir)))
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
				t.Fatalf("got %v, want a refused InvalidArgument", err)
			}
			golden(t, filepath.Join(dir, "errors.txt"), err.Error()+"\n")
		})
	}
}

// TestValid: the catalogue shows what was read.
func TestValid(t *testing.T) {
	for _, dir := range cases(t, "valid") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			reg, err := registry.New(adapters(), registry.WithFS(os.DirFS(dir)))
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := reg.WriteCatalogue(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "catalogue.json"), out.String())
		})
	}
}
