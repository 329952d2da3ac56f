package sandboxer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
)

func ref(attempt int) sandboxer.HandleRef {
	return sandboxer.HandleRef{ID: "sbx-0001", Attempt: attempt, Extension: "ext.local"}
}

func mustHandle(t testing.TB, r sandboxer.HandleRef, version int, state any) sandboxer.Handle {
	t.Helper()
	h, err := sandboxer.NewHandle(r, version, state)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// goldenHandles are what testdata/handles holds. A file that a release wrote decodes for ever: add files for a new envelope
// in a directory of its own, never change one that is here.
func goldenHandles(t *testing.T) map[string]sandboxer.Handle {
	t.Helper()
	onHost := ref(12)
	onHost.Host = "build-1"
	return map[string]sandboxer.Handle{
		"v1/bare.json":        sandboxer.BareHandle(ref(1)),
		"v1/bare-host.json":   sandboxer.BareHandle(onHost),
		"v1/object.json":      mustHandle(t, ref(2), 1, map[string]any{"dir": "/var/lib/x", "pid": 4711}),
		"v1/host-state.json":  mustHandle(t, onHost, 3, map[string]any{"project": "sbx-0001-12", "ports": []int{80, 443}}),
		"v1/text.json":        mustHandle(t, ref(1), 1, "<a href=\"x\">&\u2028 \x00 é 🙂"),
		"v1/number.json":      mustHandle(t, ref(1), 1, uint64(math.MaxUint64)),
		"v1/null.json":        mustHandle(t, ref(1), 1, nil),
		"v1/empty.json":       mustHandle(t, ref(1), 1, struct{}{}),
		"v1/big-version.json": mustHandle(t, ref(999), math.MaxInt32, []string{}),
	}
}

// TestGoldenHandles: what this release writes is what stands in the files, and what any release wrote is read as it was meant.
func TestGoldenHandles(t *testing.T) {
	t.Parallel()
	golden := goldenHandles(t)
	for name, want := range golden {
		text, err := os.ReadFile(filepath.Join("testdata", "handles", name))
		if err != nil {
			t.Error(err)
			continue
		}
		var got sandboxer.Handle
		if err := json.Unmarshal(text, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got != want {
			t.Errorf("%s: decoded to %+v, want %+v", name, got, want)
		}
		if !strings.HasPrefix(name, "v1/") {
			continue // an older envelope is read, and written anew as the present one
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(text)), string(again)); diff != "" {
			t.Errorf("%s is written differently now (-file +now):\n%s", name, diff)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "handles", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, _ := filepath.Rel(filepath.Join("testdata", "handles"), f)
		if _, ok := golden[filepath.ToSlash(name)]; !ok {
			t.Errorf("%s is tried by no test", f)
		}
	}
}

func TestHandleRoundTripsAndCompares(t *testing.T) {
	t.Parallel()
	for name, h := range goldenHandles(t) {
		type record struct {
			H  sandboxer.Handle
			P  *sandboxer.Handle
			By map[string]sandboxer.Handle
		}
		text, err := json.MarshalIndent(record{h, &h, map[string]sandboxer.Handle{"x": h}}, "", "      ")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.H != h || *r.P != h || r.By["x"] != h {
			t.Errorf("%s: came back as %+v, want %+v", name, r, h)
		}
	}
}

// TestHandlesThatAreWrittenAreRead: a handle that JSON cannot bring back as it was is not written. One without its attempt or
// its extension and one of the host "h\xff" were, and could then not be read, or named another host.
func TestHandlesThatAreWrittenAreRead(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*sandboxer.HandleRef){
		"no ID":              func(r *sandboxer.HandleRef) { r.ID = "" },
		"an ID with a slash": func(r *sandboxer.HandleRef) { r.ID = "a/b" },
		"attempt 0":          func(r *sandboxer.HandleRef) { r.Attempt = 0 },
		"attempt -1":         func(r *sandboxer.HandleRef) { r.Attempt = -1 },
		"attempt 1000":       func(r *sandboxer.HandleRef) { r.Attempt = 1000 },
		"no extension":       func(r *sandboxer.HandleRef) { r.Extension = "" },
		"extension":          func(r *sandboxer.HandleRef) { r.Extension = "ext.\xff" },
		"host":               func(r *sandboxer.HandleRef) { r.Host = "h\xff" },
	} {
		r := ref(1)
		spoil(&r)
		if text, err := json.Marshal(sandboxer.BareHandle(r)); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("%s: written as %s, %v; want InvalidArgument", name, text, err)
		}
		if h, err := sandboxer.NewHandle(r, 1, nil); !errors.Is(err, sandboxer.InvalidArgument) || !h.IsZero() {
			t.Errorf("%s: made as %+v, %v; want InvalidArgument", name, h, err)
		}
	}
}

// TestHandleOfAnotherTool: however another program spaced, escaped or ordered the envelope, equal handles are ==.
func TestHandleOfAnotherTool(t *testing.T) {
	t.Parallel()
	want := mustHandle(t, ref(2), 1, json.RawMessage(`{"b":"<é","a":[1,2.50]}`))
	for _, text := range []string{
		`{"sandbox_id":"sbx-0001","extension":"ext.local","attempt":2,"v":1,"state_version":1,"state":{"b":"<é","a":[1,2.50]}}`,
		"\n{ \"v\" : 1,\t\"state\" : { \"b\": \"\\u003cé\",\n\"a\": [1, 2.50] }, \"state_version\": 1, \"attempt\": 2, \"extension\": \"ext.local\", \"host\": \"\", \"sandbox_id\": \"sbx-0001\" }\n",
	} {
		var got sandboxer.Handle
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got != want {
			t.Errorf("%s: got %#v, want %#v", text, got, want)
		}
	}
}

func TestHandleRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	good := func(more string) string {
		return `{"sandbox_id":"sbx-0001","extension":"ext.local","attempt":1,` + more + `}`
	}
	for _, tc := range []struct {
		text string
		code sandboxer.Code
		say  string
	}{
		{good(`"v":2`), sandboxer.FailedPrecondition, "upgrade sandboxer"},
		{`{"v":99,"everything":"else","is":["different"]}`, sandboxer.FailedPrecondition, "format 99"},
		{good(`"v":0`), sandboxer.InvalidArgument, `"v" is 0`},
		{good(`"v":-1`), sandboxer.InvalidArgument, `"v" is -1`},
		{good(`"v":"1"`), sandboxer.InvalidArgument, "not a sandbox handle"},
		{good(`"v":1.5`), sandboxer.InvalidArgument, "not a sandbox handle"},
		{`{}`, sandboxer.InvalidArgument, "not a sandbox handle"},
		{`[]`, sandboxer.InvalidArgument, "not a sandbox handle"},
		{`"sbx-0001"`, sandboxer.InvalidArgument, "not a sandbox handle"},
		{`7`, sandboxer.InvalidArgument, "not a sandbox handle"},
		{good(`"v":1,"colour":"red"`), sandboxer.InvalidArgument, "colour"},
		{good(`"v":1,"state":{}`), sandboxer.InvalidArgument, "one without the other"},
		{good(`"v":1,"state_version":1`), sandboxer.InvalidArgument, "one without the other"},
		{good(`"v":1,"state_version":-1`), sandboxer.InvalidArgument, "one without the other"},
		{good(`"v":1,"state_version":-1,"state":{}`), sandboxer.InvalidArgument, "one without the other"},
		{`{"sandbox_id":"../etc","extension":"e","attempt":1,"v":1}`, sandboxer.InvalidArgument, "../etc"},
		{`{"sandbox_id":"","extension":"e","attempt":1,"v":1}`, sandboxer.InvalidArgument, "is empty"},
		{`{"sandbox_id":"a","extension":"","attempt":1,"v":1}`, sandboxer.InvalidArgument, "no extension"},
		{`{"sandbox_id":"a","extension":"e","attempt":0,"v":1}`, sandboxer.InvalidArgument, "attempt 0"},
		{`{"sandbox_id":"a","extension":"e","attempt":1000,"v":1}`, sandboxer.InvalidArgument, "attempt 1000"},
		{`{"sandbox_id":"a","extension":"e","attempt":-1,"v":1}`, sandboxer.InvalidArgument, "attempt -1"},
	} {
		before := mustHandle(t, ref(1), 1, "kept")
		h := before
		err := json.Unmarshal([]byte(tc.text), &h)
		if !errors.Is(err, tc.code) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: got %v, want %s saying %q", tc.text, err, tc.code, tc.say)
		}
		if h != before {
			t.Errorf("%s: a failed decoding changed the handle to %v", tc.text, h)
		}
	}
	// Text that is no JSON at all never reaches UnmarshalJSON through encoding/json, but a store may call it directly.
	for _, text := range []string{"", "{", "x", "\x00", `{"v":1}{"v":1}`, "nullnull"} {
		var h sandboxer.Handle
		if err := h.UnmarshalJSON([]byte(text)); !errors.Is(err, sandboxer.InvalidArgument) {
			t.Errorf("UnmarshalJSON(%q) = %v, want InvalidArgument", text, err)
		}
	}
}

func TestNewHandleRefuses(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() (sandboxer.Handle, error){
		"version 0": func() (sandboxer.Handle, error) { return sandboxer.NewHandle(ref(1), 0, 1) },
		"bad ID": func() (sandboxer.Handle, error) {
			return sandboxer.NewHandle(sandboxer.HandleRef{ID: "A", Attempt: 1, Extension: "e"}, 1, 1)
		},
		"attempt 0": func() (sandboxer.Handle, error) { return sandboxer.NewHandle(ref(0), 1, 1) },
		"no extension": func() (sandboxer.Handle, error) {
			return sandboxer.NewHandle(sandboxer.HandleRef{ID: "a", Attempt: 1}, 1, 1)
		},
		"not JSON":      func() (sandboxer.Handle, error) { return sandboxer.NewHandle(ref(1), 1, func() {}) },
		"not a number":  func() (sandboxer.Handle, error) { return sandboxer.NewHandle(ref(1), 1, math.NaN()) },
		"raw and wrong": func() (sandboxer.Handle, error) { return sandboxer.NewHandle(ref(1), 1, json.RawMessage("{")) },
	} {
		h, err := f()
		if !errors.Is(err, sandboxer.InvalidArgument) || !h.IsZero() {
			t.Errorf("%s: got %v, %v, want InvalidArgument and no handle", name, h, err)
		}
	}
}

func TestHandleAccessors(t *testing.T) {
	t.Parallel()
	type state struct{ Dir string }
	full, bare := mustHandle(t, ref(3), 7, state{"/w"}), sandboxer.BareHandle(ref(3))
	var got state
	if err := full.State(&got); err != nil || got.Dir != "/w" {
		t.Errorf("State = %+v, %v", got, err)
	}
	if err := full.State(new(int)); !errors.Is(err, sandboxer.InvalidArgument) {
		t.Errorf("State of another shape: %v, want InvalidArgument", err)
	}
	if err := bare.State(&got); !errors.Is(err, sandboxer.FailedPrecondition) {
		t.Errorf("State of a bare handle: %v, want FailedPrecondition", err)
	}
	if full.StateVersion() != 7 || bare.StateVersion() != 0 || !full.HasState() || bare.HasState() {
		t.Error("StateVersion or HasState is wrong")
	}
	if full.Ref() != ref(3) || bare.Ref() != ref(3) {
		t.Error("Ref does not return what the handle was made of")
	}
	if full.IsZero() || bare.IsZero() || !(sandboxer.Handle{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	if s := fmt.Sprint(full); s != "sbx-0001-3 at ext.local" {
		t.Errorf("a handle prints as %q: want its name and extension, and never its state", s)
	}
	if s := (sandboxer.Handle{}).String(); s != "no handle" {
		t.Errorf("the zero handle prints as %q", s)
	}
	text, err := json.Marshal(sandboxer.Handle{})
	if err != nil || string(text) != "null" {
		t.Errorf("the zero handle is written as %s, %v", text, err)
	}
	h := full
	if err := json.Unmarshal(text, &h); err != nil || !h.IsZero() {
		t.Errorf("null is read as %v, %v", h, err)
	}
	req := &sandboxer.ProvisionRequest{ID: "sbx-0001", Attempt: 3, Profile: sandboxer.Profile{Extension: "ext.local"}}
	if h, err := req.Handle(7, state{"/w"}); err != nil || h != full {
		t.Errorf("ProvisionRequest.Handle = %v, %v, want %v", h, err, full)
	}
	for attempt, want := range map[int]string{0: "sbx-0001", 1: "sbx-0001", 2: "sbx-0001-2", 999: "sbx-0001-999"} {
		if got := ref(attempt).Name(); got != want {
			t.Errorf("the name of attempt %d is %q, want %q", attempt, got, want)
		}
	}
}

func FuzzHandle(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("testdata", "handles", "*", "*.json"))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"sandbox_id":"a","extension":"e","attempt":1,"v":1,"state_version":1,"state":"\ud800"}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var h sandboxer.Handle
		if err := h.UnmarshalJSON(text); err != nil {
			if c := sandboxer.CodeOf(err); c != sandboxer.InvalidArgument && c != sandboxer.FailedPrecondition {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		out, err := json.Marshal(h)
		if err != nil {
			t.Fatalf("%q was read as %+v, which cannot be written: %v", text, h, err)
		}
		var again sandboxer.Handle
		if err := json.Unmarshal(out, &again); err != nil || again != h {
			t.Fatalf("%q: %+v came back from %s as %+v, %v", text, h, out, again, err)
		}
		if h.HasState() {
			var before, after any
			if err := h.State(&before); err != nil {
				t.Fatal(err)
			}
			if err := again.State(&after); err != nil || !cmp.Equal(before, after, cmpopts.EquateNaNs()) {
				t.Fatalf("%q: the state changed: %v", text, err)
			}
		}
	})
}
