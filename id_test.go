package sandboxer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func TestNewIDIsValidAndUnique(t *testing.T) {
	t.Parallel()
	seen := map[sandboxer.ID]bool{}
	for range 10_000 {
		id := sandboxer.NewID()
		if err := id.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(id) != 30 {
			t.Fatalf("NewID() = %q: %d characters, want 30, so that names of attempts and of what belongs to them fit", id, len(id))
		}
		if seen[id] {
			t.Fatalf("NewID() gave %q twice", id)
		}
		seen[id] = true
	}
}

func TestNewIDSortsByTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ids []sandboxer.ID
		for _, d := range []time.Duration{0, time.Millisecond, 31 * time.Millisecond, time.Second, 33 * time.Hour, 40 * 365 * 24 * time.Hour} {
			<-time.After(d)
			ids = append(ids, sandboxer.NewID())
		}
		if !slices.IsSorted(ids) {
			t.Errorf("IDs minted one after the other do not sort: %q", ids)
		}
	})
}

func TestIDValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ id, want string }{
		{"a", ""},
		{"7", ""},
		{"sbx-0", ""},
		{"build-42", ""},
		{"a--b", ""},
		{strings.Repeat("a", 40), ""},
		{"", "is empty"},
		{strings.Repeat("a", 41), "has 41 characters"},
		{strings.Repeat("a", 1<<20), "has 1048576 characters"},
		{"-a", "hyphen"},
		{"a-", "hyphen"},
		{"-", "hyphen"},
		{"A", `contains 'A'`},
		{"a_b", `contains '_'`},
		{"a.b", `contains '.'`},
		{"a b", `contains ' '`},
		{"a/../b", `contains '/'`},
		{"é", `contains 'é'`},
		{"a\x00b", `contains '\x00'`},
		{"a\xff", `contains '�'`},
		{"a\n", `contains '\n'`},
	} {
		err := sandboxer.ID(tc.id).Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("ID(%.50q).Validate() = %v", tc.id, err)
		case tc.want != "" && !errors.Is(err, sandboxer.InvalidArgument):
			t.Errorf("ID(%.50q).Validate() = %v, want InvalidArgument", tc.id, err)
		case tc.want != "" && (!strings.Contains(err.Error(), tc.want) || len(err.Error()) > 400 || !sandboxer.IsRefused(err)):
			t.Errorf("ID(%.50q).Validate() = %v, want a short refusal that says %q", tc.id, err, tc.want)
		}
	}
}

func FuzzIDValidate(f *testing.F) {
	for _, s := range []string{"a", "", "-", "a-2", "sbx-06g1", "A", "é", strings.Repeat("x", 41), "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := sandboxer.ID(s).Validate()
		// The oracle is RFC 1123 read aloud, not the code.
		valid := s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
			!strings.HasPrefix(s, "-") && !strings.HasSuffix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r)
		})
		if (err == nil) != valid {
			t.Fatalf("ID(%q).Validate() = %v, want valid: %v", s, err, valid)
		}
		for _, attempt := range []int{1, 2, 999} {
			name := sandboxer.HandleRef{ID: sandboxer.ID(s), Attempt: attempt}.Name()
			if valid && len(name) > 44 {
				t.Fatalf("the name %q of attempt %d has more than 44 characters", name, attempt)
			}
		}
	})
}

func TestConsumerValidate(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 33 {
		many[strings.Repeat("k", i+1)] = ""
	}
	for _, tc := range []struct {
		name     string
		consumer sandboxer.Consumer
		want     string
	}{
		{"only an ID", sandboxer.Consumer{ID: "ci"}, ""},
		{"everything", sandboxer.Consumer{ID: "Zoë & co", Tenant: "t/1", Run: "run 7", Labels: map[string]string{"team.name/x-y_z": "a b"}}, ""},
		{"empty", sandboxer.Consumer{}, "consumer.id is empty"},
		{"tenant without ID", sandboxer.Consumer{Tenant: "t"}, "consumer.id is empty"},
		{"newline in ID", sandboxer.Consumer{ID: "a\nb"}, "consumer.id contains the control character U+000A"},
		{"escape in tenant", sandboxer.Consumer{ID: "a", Tenant: "\x1b[2J"}, "consumer.tenant contains the control character U+001B"},
		{"C1 control in run", sandboxer.Consumer{ID: "a", Run: "\u009b"}, "consumer.run contains the control character U+009B"},
		{"invalid UTF-8", sandboxer.Consumer{ID: "a\xff"}, "consumer.id is not valid UTF-8"},
		{"long", sandboxer.Consumer{ID: strings.Repeat("a", 257)}, "consumer.id has 257 bytes"},
		{"just fits", sandboxer.Consumer{ID: strings.Repeat("a", 256)}, ""},
		{"reserved label", sandboxer.Consumer{ID: "a", Labels: map[string]string{sandboxer.LabelOwner: "me"}}, `consumer.labels: `},
		{"bad label key", sandboxer.Consumer{ID: "a", Labels: map[string]string{"": "x"}}, `label key ""`},
		{"label key with a dash first", sandboxer.Consumer{ID: "a", Labels: map[string]string{"-x": "x"}}, `label key "-x"`},
		{"label key of 64", sandboxer.Consumer{ID: "a", Labels: map[string]string{strings.Repeat("k", 64): "x"}}, `label key "kkk`},
		{"bad label value", sandboxer.Consumer{ID: "a", Labels: map[string]string{"k": "a\tb"}}, `label "k": its value contains the control character U+0009`},
		{"33 labels", sandboxer.Consumer{ID: "a", Labels: many}, "33 labels"},
	} {
		err := tc.consumer.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (!errors.Is(err, sandboxer.InvalidArgument) || !sandboxer.IsRefused(err) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want a refused InvalidArgument that says %q", tc.name, err, tc.want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	t.Parallel()
	levels := sandboxer.IsolationLevels()
	for i, l := range levels {
		for j, least := range levels {
			if got := l.AtLeast(least); got != (i >= j) {
				t.Errorf("%s.AtLeast(%s) = %v", l, least, got)
			}
		}
		if !l.AtLeast("") {
			t.Errorf("%s does not meet the empty minimum", l)
		}
		if l.AtLeast("airtight") {
			t.Errorf("%s meets the unknown minimum airtight", l)
		}
		if sandboxer.IsolationLevel("airtight").AtLeast(l) {
			t.Errorf("the unknown level airtight meets %s", l)
		}
	}
	if sandboxer.IsolationLevel("airtight").AtLeast("airtight") {
		t.Error("an unknown minimum is met by the same unknown level")
	}
}
