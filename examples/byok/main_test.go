//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/canary"
)

func TestAtTheFake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	canary.Keep(t, filepath.Join(dir, "intents.db"))
	var out bytes.Buffer
	made := 0
	newKey := func() string { made++; return canary.Key(fmt.Sprint(made)) }
	if err := run(t.Context(), io.MultiWriter(&out, canary.Log(t)), dir, "", newKey); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"a fake E2B", `tenant "newcomer" has no key under the reference "env:E2B_API_KEY"`, "add the tenant's E2B key",
		`bought with the key of "acme"`, "rotated; goes on with", "USD so far",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	stored, err := os.ReadFile(filepath.Join(dir, "intents.db"))
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string][]byte{"shown": out.Bytes(), "stored": stored} {
		if hit, err := canary.Mine().Read(where, bytes.NewReader(text)); hit != nil || err != nil || len(text) == 0 {
			t.Errorf("a key was %s: %v, %v", where, hit, err)
		}
	}
}

// TestWhichServiceItUses: with a key it is the real one, and it says so before anything is asked of it.
func TestWhichServiceItUses(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{"": "a fake E2B on this machine; set E2B_API_KEY", canary.Key("mine"): "the real E2B, with the key in E2B_API_KEY"} {
		var out bytes.Buffer
		at, err := service(&out, key, makeUp)
		if err != nil {
			t.Fatal(err)
		}
		if text := out.String(); !strings.Contains(text, want) || key != "" && (strings.Contains(text, key) || len(at.options) > 0 || at.keys[0] != key) {
			t.Errorf("it says %q, which should be %q, and shows no key", text, want)
		}
		if err := at.close(); err != nil {
			t.Error(err)
		}
	}
	if a, b := makeUp(), makeUp(); a == b || len(a) != 44 {
		t.Errorf("made up: %q and %q", a, b)
	}
}
