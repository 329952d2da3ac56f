package sandboxer

import (
	"encoding/json"
	"testing"
)

// FuzzHandleJSON: what MarshalJSON writes by hand is, byte for byte, what encoding/json writes, and is read as it was.
func FuzzHandleJSON(f *testing.F) {
	f.Add("sbx-1", "h1", "ext.fake", 1, 1, `{"a":"b"}`)
	f.Add("sbx-1", "", "ext.<a>", 2, 3, `[1, "<&>", "\u2028ü😀"]`)
	f.Add("sbx-1", "ü \"\\\x00\xff", "ext", 999, 1, ` { "x" : "\u003c" } `)
	f.Add("sbx-1", "h", "e", 1, 0, ``)
	f.Fuzz(func(t *testing.T, id, host, extension string, attempt, version int, state string) {
		ref := HandleRef{ID: ID(id), Host: host, Extension: extension, Attempt: attempt}
		h, err := NewHandle(ref, version, json.RawMessage(state))
		if err != nil {
			h = BareHandle(ref)
		}
		if h.IsZero() {
			return
		}
		ref = h.Ref()
		got, err := h.MarshalJSON()
		if err != nil {
			if ref.validate() == nil {
				t.Fatal(err)
			}
			return
		}
		var again Handle
		if err := again.UnmarshalJSON(got); err != nil || again != h {
			t.Errorf("%s is read as %+v, %v", got, again, err)
		}
		want, err := json.Marshal(handleJSON{
			ID: ref.ID, Host: ref.Host, Extension: ref.Extension, Attempt: ref.Attempt, V: handleEnvelope,
			StateVersion: h.version, State: json.RawMessage(h.state),
		})
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s instead of %s", got, want)
		}
	})
}
