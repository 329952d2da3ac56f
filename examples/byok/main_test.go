//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAtTheFake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run(t.Context(), &out, dir, ""); err != nil {
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
	if strings.Contains(out.String(), "e2b_0123") || bytes.Contains(stored, []byte("e2b_0123")) || bytes.Contains(stored, []byte("e2b_fedc")) {
		t.Error("a key was shown or stored")
	}
}
