//go:build unix

package e2b_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

// TestLongListings: E2B shows a hundred at once. What is on the second page costs as much as what is on the first.
func TestLongListings(t *testing.T) {
	t.Parallel()
	const many = 230
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	var mu sync.Mutex
	names := map[string]bool{}
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for {
				mu.Lock()
				if len(names) == many {
					mu.Unlock()
					return
				}
				req := r.request()
				names[req.Name] = true
				mu.Unlock()
				if _, err := r.Provision(t.Context(), req); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	target := r.sandbox(t)
	names[target.Handle.Ref().Name()] = true
	list := func() (seen map[string]bool, err error) {
		seen = map[string]bool{}
		for in, err := range as[sandboxer.Lister](t, r).List(t.Context(), sandboxer.ListQuery{Secret: r.key.secret, Labels: map[string]string{sandboxer.LabelOwner: owner}}) {
			if err != nil {
				return seen, err
			}
			name := in.Handle.Ref().Name()
			if seen[name] || !names[name] {
				t.Errorf("%s is listed twice, or is not ours", name)
			}
			seen[name] = true
		}
		return seen, nil
	}
	s.Requests()
	seen, err := list()
	if err != nil || len(seen) != many+1 {
		t.Errorf("%d of %d are listed, %v", len(seen), many+1, err)
	}
	if n := asked(s, "GET /v2/sandboxes"); n != 3 {
		t.Errorf("%d sandboxes took %d requests", many+1, n)
	}
	for name, fault := range map[string]e2btest.Fault{
		"the second page is not available": {Skip: 1, Status: 500},
		"the last page is no listing":      {Skip: 2, Status: 200, Body: `{"sandboxes":[]}`},
		"the pages go round":               {Status: 200, Body: `[]`, Header: map[string]string{"X-Next-Token": "100"}},
	} {
		fault.Match = "GET /v2/sandboxes"
		s.Fail(fault)
		if seen, err := list(); err == nil {
			t.Errorf("%s: the listing is said to be whole, with %d entries", name, len(seen))
		}
		s.Heal()
	}
	// Whoever stops listening is not waited for.
	for range as[sandboxer.Lister](t, r).List(t.Context(), sandboxer.ListQuery{Secret: r.key.secret}) {
		break
	}

	x := as[sandboxer.Snapshotter](t, r)
	ids := map[string]bool{}
	for i := range 105 {
		id := fmt.Sprintf("snap-of-many-%d", i)
		ids[id] = true
		if _, err := x.Snapshot(t.Context(), target, sandboxer.SnapshotRequest{ID: id, Labels: map[string]string{sandboxer.LabelOwner: owner}}); err != nil {
			t.Fatal(err)
		}
	}
	for sn, err := range x.ListSnapshots(t.Context(), sandboxer.ListQuery{Secret: r.key.secret, Labels: map[string]string{sandboxer.LabelOwner: owner}}) {
		if err != nil {
			t.Fatal(err)
		}
		if !ids[sn.ID] {
			t.Errorf("%s is listed twice, or is not ours", sn.ID)
		}
		delete(ids, sn.ID)
	}
	if len(ids) > 0 {
		t.Errorf("%d snapshots are not listed", len(ids))
	}
	s.Fail(e2btest.Fault{Match: "GET /snapshots", Skip: 1, Status: 500})
	var last error
	for _, err := range x.ListSnapshots(t.Context(), sandboxer.ListQuery{Secret: r.key.secret}) {
		last = err
	}
	if last == nil {
		t.Error("a listing of snapshots without its second page is said to be whole")
	}
}

// TestSomebodyElsesAreNotOurs: what an account holds beside ours is neither listed as ours, nor found, nor ended.
func TestSomebodyElsesAreNotOurs(t *testing.T) {
	t.Parallel()
	s := start(t, e2btest.Options{})
	r := newRig(t, s, nil)
	mine := r.request()
	foreign := *mine
	foreign.Labels = map[string]string{sandboxer.LabelID: string(mine.ID), sandboxer.LabelName: mine.Name, sandboxer.LabelOwner: "somebody.else"}
	if _, err := r.Provision(t.Context(), &foreign); err != nil {
		t.Fatal(err)
	}
	_, err := r.Provision(t.Context(), mine)
	wantCode(t, "Provision of a name that another owner has", err, sandboxer.AlreadyExists, true)
	if rep, err := r.Teardown(t.Context(), r.target(mine, sandboxer.BareHandle(mine.Ref()))); err != nil || len(rep.Removed) > 0 {
		t.Errorf("Teardown by name removed %q, %v", rep.Removed, err)
	}
	for in, err := range as[sandboxer.Lister](t, r).List(t.Context(), sandboxer.ListQuery{Secret: r.key.secret, Labels: map[string]string{sandboxer.LabelOwner: owner}}) {
		t.Errorf("listed as ours: %v, %v", in.Handle.Ref(), err)
	}
	if live := strings.Join(s.Live(), " "); live != mine.Name {
		t.Errorf("live: %s", live)
	}
}
