package manager

import (
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// FuzzAttemptName: an ID is taken for the name of an attempt exactly where it is one.
func FuzzAttemptName(f *testing.F) {
	for _, id := range []string{"a", "a-2", "a-1", "a-02", "a-999", "a-1000", "-2", "a--2", "a-b-3", "a-2-2"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id := sandboxer.ID(text)
		if id.Validate() != nil {
			return
		}
		base, n, ok := attemptName(id)
		if ok && (n < 2 || base.Validate() != nil || sandboxer.HandleRef{ID: base, Attempt: n}.Name() != text) {
			t.Errorf("%q is not attempt %d of %q", text, n, base)
		}
		for n := 2; n < 1000 && !ok; n += 37 {
			name := sandboxer.ID(sandboxer.HandleRef{ID: id, Attempt: n}.Name())
			if got, k, ok := attemptName(name); !ok || got != id || k != n {
				t.Errorf("%q is attempt %d of %q, and was taken for %d of %q", name, n, id, k, got)
			}
		}
	})
}
