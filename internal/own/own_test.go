package own_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/own"
)

// TestInputsAreCopied: a copy is the same, of the same types, and shares nothing.
func TestInputsAreCopied(t *testing.T) {
	t.Parallel()
	type text string
	for name, in := range map[string]func() sandboxer.Inputs{
		"nil":   func() sandboxer.Inputs { return nil },
		"empty": func() sandboxer.Inputs { return sandboxer.Inputs{} },
		"plain": func() sandboxer.Inputs {
			return sandboxer.Inputs{"s": "x", "n": json.Number("1"), "i": 1, "b": true, "null": nil}
		},
		"nested": func() sandboxer.Inputs {
			return sandboxer.Inputs{"m": map[string]any{"l": []any{map[string]any{}, nil}}}
		},
		"nil inside": func() sandboxer.Inputs { return sandboxer.Inputs{"m": map[string]any(nil), "l": []any(nil)} },
		"of Go types": func() sandboxer.Inputs {
			return sandboxer.Inputs{"l": []string{"a"}, "m": map[string][]int{"k": {1}}, "t": text("t")}
		},
		"of inputs": func() sandboxer.Inputs { return sandboxer.Inputs{"in": sandboxer.Inputs{"l": []any{"a"}}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := in()
			got := own.Inputs(from)
			if diff := cmp.Diff(from, got); diff != "" {
				t.Errorf("the copy (-want +got):\n%s", diff)
			}
			overwrite(got)
			if diff := cmp.Diff(in(), from); diff != "" {
				t.Errorf("writing to the copy changed what it was made of (-before +after):\n%s", diff)
			}
		})
	}
}

func overwrite(v any) {
	switch v := v.(type) {
	case sandboxer.Inputs:
		overwrite(map[string]any(v))
	case map[string]any:
		for _, item := range v {
			overwrite(item)
		}
		if v != nil {
			v["mine"] = true
		}
	case []any:
		for i := range v {
			overwrite(v[i])
			v[i] = "mine"
		}
	case []string:
		v[0] = "mine"
	case map[string][]int:
		v["k"][0], v["mine"] = 9, nil
	}
}

// TestEmptyCostsNothing: every create copies, and most profiles say little. Allocations are counted beside no other test.
func TestEmptyCostsNothing(t *testing.T) {
	p, h, c := sandboxer.Profile{ID: "profile.a"}, sandboxer.Host{ID: "h"}, sandboxer.Consumer{ID: "c"}
	if n := testing.AllocsPerRun(100, func() { p, h, c = own.Profile(p), own.Host(h), own.Consumer(c) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
