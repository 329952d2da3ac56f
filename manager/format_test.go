package manager_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// rewrite changes the stored body of a record.
func rewrite(t *testing.T, st store.Store, key store.Key, change func(string) string) {
	t.Helper()
	got, err := st.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	body := change(string(got[0].Body))
	if body == string(got[0].Body) {
		t.Fatalf("nothing to change in %s", body)
	}
	if _, err := st.Commit(t.Context(), store.Mutation{Do: store.Put, Key: key, Expect: got[0].Rev, Tags: got[0].Tags, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

// TestRecordsOfOthers: what a newer release wrote is not touched, and what is damaged is named; neither is taken for nothing.
func TestRecordsOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key    store.Key
		change func(string) string
		code   sandboxer.Code
		text   string
	}{
		"a newer sandbox":    {store.Key{Kind: "sandbox", ID: "a"}, func(s string) string { return strings.Replace(s, `"v":1`, `"v":2`, 1) }, sandboxer.FailedPrecondition, "upgrade"},
		"a damaged sandbox":  {store.Key{Kind: "sandbox", ID: "a"}, func(s string) string { return s[:len(s)/2] }, sandboxer.Internal, "does not decode"},
		"an emptied sandbox": {store.Key{Kind: "sandbox", ID: "a"}, func(string) string { return "{}" }, sandboxer.Internal, "incomplete"},
		"a newer snapshot":   {store.Key{Kind: "snapshot", ID: "s"}, func(s string) string { return strings.Replace(s, `"v":1`, `"v":2`, 1) }, sandboxer.FailedPrecondition, "upgrade"},
		"a damaged snapshot": {store.Key{Kind: "snapshot", ID: "s"}, func(s string) string { return s[1:] }, sandboxer.Internal, "does not decode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandboxer.CapSnapshot, sandboxer.CapExec)
			m := w.open()
			sb := created(t, m, ask("a"))
			if _, err := sb.Snapshot(t.Context(), sandboxer.SnapshotRequest{ID: "s"}); err != nil {
				t.Fatal(err)
			}
			rewrite(t, w.store.Store, c.key, c.change)
			_, err := manager.New(context.Background(), w.config())
			wantCode(t, err, c.code)
			wantText(t, err, c.text)
			if c.key.Kind == "sandbox" {
				_, err := sb.Exec(t.Context(), sandboxer.ExecRequest{Command: []string{"true"}})
				wantCode(t, err, c.code)
				_, err = m.Create(t.Context(), ask("a"))
				wantCode(t, err, c.code)
				_, err = sb.Teardown(t.Context())
				wantCode(t, err, c.code)
				for _, err := range m.List(t.Context(), manager.Filter{}) {
					wantCode(t, err, c.code)
				}
			} else {
				wantCode(t, m.DeleteSnapshot(t.Context(), "s"), c.code)
				for _, err := range m.Snapshots(t.Context(), manager.Filter{}) {
					wantCode(t, err, c.code)
				}
			}
			w.wantLive("a", "snapshot/s")
		})
	}
}
