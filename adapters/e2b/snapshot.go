package e2b

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// E2B's snapshots carry no labels, only names. The name holds the snapshot's ID and a short hash of the owner, so that
// owners that share a team never touch each other's.
const snapshotPrefix = "sandboxer-"

func ownerHash(owner string) string {
	sum := sha256.Sum256([]byte("sandboxer snapshot owner\x00" + owner))
	return hex.EncodeToString(sum[:6])
}

func snapshotName(id, owner string) string { return snapshotPrefix + ownerHash(owner) + "-" + id }

// listedSnapshot is a snapshot as E2B shows it.
type listedSnapshot struct {
	SnapshotID string   `json:"snapshotID"`
	Names      []string `json:"names"`
}

// has reports whether one of its names is name, which E2B may qualify with the team before and a tag behind.
func (l *listedSnapshot) has(name string) bool {
	return slices.ContainsFunc(l.Names, func(n string) bool { return bareName(n) == name })
}

func bareName(n string) string {
	n = n[strings.LastIndexByte(n, '/')+1:]
	n, _, _ = strings.Cut(n, ":")
	return n
}

var snapshotID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$`)

type snapshotState struct {
	Snapshot string `json:"snapshot"` // E2B's ID
	Name     string `json:"name"`
}

// Snapshot keeps the memory and the files of the sandbox. E2B lets no snapshot expire by itself; ExpiresAt is the Manager's.
func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	var none sandboxer.Snapshot
	s, err := stateOf(t)
	if err != nil {
		return none, err
	}
	begun := time.Now()
	sandboxer.Report(ctx, sandboxer.Progress{Stage: "snapshot"})
	name := snapshotName(req.ID, req.Labels[sandboxer.LabelOwner])
	got, err := e.findSnapshot(ctx, t.Secret, name)
	if err != nil {
		return none, err
	}
	if got == nil {
		rep, err := e.api.do(ctx, t.Secret, request{method: http.MethodPost, path: "/sandboxes/" + s.Sandbox + "/snapshots", body: map[string]string{"name": name}, timeout: createTimeout, before: e.inTime(begun, "the snapshot "+req.ID)})
		if err != nil {
			return none, fmt.Errorf("taking a snapshot of %s: %w", s.Sandbox, err)
		}
		got = new(listedSnapshot)
		if err := rep.into(got); err != nil {
			return none, err
		}
	}
	if !snapshotID.MatchString(got.SnapshotID) {
		return none, sandboxer.Mark(sandboxer.Unavailable, fmt.Errorf("E2B took a snapshot and named it %q, which is no ID", plain(got.SnapshotID)))
	}
	return sandboxer.Snapshot{
		ID: req.ID, Name: req.Name, Extension: e.id, Source: t.Handle.Ref().ID, Status: sandboxer.SnapshotReady,
		Consumer: t.Consumer, Labels: req.Labels, Kind: "memory", CreatedAt: time.Now().UTC(), ExpiresAt: req.ExpiresAt,
		State: compactJSON(snapshotState{Snapshot: got.SnapshotID, Name: name}),
	}, nil
}

// Restore creates a sandbox from a snapshot, under Provision's rules. Its size and files are the snapshot's.
func (e *extension) Restore(ctx context.Context, req *sandboxer.ProvisionRequest, s sandboxer.Snapshot) (sandboxer.Handle, error) {
	in, err := decodeInputs(req.Inputs)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	st, err := snapshotStateOf(s)
	if err != nil {
		return sandboxer.Handle{}, err
	}
	return e.once(ctx, req, func(begun time.Time) (sandboxer.Handle, error) {
		h, err := e.create(ctx, req, begun, in, st.Snapshot)
		if sandboxer.IsRefused(err) && statusOf(err) == http.StatusNotFound {
			err = sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("snapshot %s is gone at E2B, or the key in use is not of the team that took it: %w", s.ID, err))
		}
		return h, err
	})
}

func snapshotStateOf(s sandboxer.Snapshot) (snapshotState, error) {
	var st snapshotState
	if len(s.State) == 0 {
		return st, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s was never finished", s.ID))
	}
	if err := json.Unmarshal(s.State, &st); err != nil || !snapshotID.MatchString(st.Snapshot) {
		return st, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the state of snapshot %s names none of E2B's", s.ID))
	}
	return st, nil
}

// DeleteSnapshot removes a snapshot. Without state it looks by name, and is Unavailable with RetryAfter while E2B may still
// be taking it. FailedPrecondition while sandboxes use it.
func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	var id string
	if len(t.Snapshot.State) > 0 {
		st, err := snapshotStateOf(t.Snapshot)
		if err != nil {
			return err
		}
		id = st.Snapshot
	} else {
		got, err := e.awaitSnapshot(ctx, t)
		if got == nil {
			return err
		}
		id = got.SnapshotID
	}
	_, err := e.api.do(ctx, t.Secret, request{method: http.MethodDelete, path: "/templates/" + url.PathEscape(id), repeatable: true})
	switch statusOf(err) {
	case http.StatusNotFound:
		return nil
	case http.StatusBadRequest:
		return sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s is in use, end the sandboxes that were restored from it first: %w", t.Snapshot.ID, err))
	}
	return err
}

// awaitSnapshot finds a snapshot by name. Nil, and no error, where there is none for good.
func (e *extension) awaitSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) (*listedSnapshot, error) {
	name := snapshotName(t.Snapshot.ID, t.Snapshot.Labels[sandboxer.LabelOwner])
	for {
		got, err := e.findSnapshot(ctx, t.Secret, name)
		if err != nil || got != nil {
			return got, err
		}
		err = e.absent(t.Snapshot)
		// A wait this short is worth it: the next look is certain.
		if wait := sandboxer.RetryAfterOf(err); wait <= 0 || wait > time.Second || !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// absent decides whether a snapshot that is not listed is gone for good.
func (e *extension) absent(s sandboxer.Snapshot) error {
	if left := time.Until(s.CreatedAt.Add(e.cfg.Settle)); !s.CreatedAt.IsZero() && left > 0 {
		return sandboxer.Mark(sandboxer.Unavailable, &sandboxer.Error{RetryAfter: min(left, 10*time.Second),
			Err: fmt.Errorf("snapshot %s is not listed at E2B, which may be taking it for another %v", s.ID, left.Round(time.Second))})
	}
	return nil
}

func (e *extension) findSnapshot(ctx context.Context, secret sandboxer.SecretFunc, name string) (*listedSnapshot, error) {
	for l, err := range e.snapshotPages(ctx, secret, "name="+url.QueryEscape(name)+"&") {
		if err != nil {
			return nil, fmt.Errorf("looking for the snapshot %s: %w", name, err)
		}
		if l.has(name) && snapshotID.MatchString(l.SnapshotID) {
			return &l, nil
		}
	}
	return nil, nil
}

// ListSnapshots yields the snapshots of the owner in q.Labels. Of an owner only a hash is stored at E2B, so that without one
// in q nothing can be told to be ours.
func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		owner := q.Labels[sandboxer.LabelOwner]
		prefix := snapshotName("", owner)
		for l, err := range e.snapshotPages(ctx, q.Secret, "") {
			if err != nil {
				yield(sandboxer.Snapshot{}, err)
				return
			}
			for _, n := range l.Names {
				id, ours := strings.CutPrefix(bareName(n), prefix)
				if !ours || sandboxer.ID(id).Validate() != nil || !snapshotID.MatchString(l.SnapshotID) {
					continue
				}
				s := sandboxer.Snapshot{
					ID: id, Extension: e.id, Status: sandboxer.SnapshotReady, Consumer: q.Consumer, Kind: "memory", CreatedAt: mintedAt(id),
					State: compactJSON(snapshotState{Snapshot: l.SnapshotID, Name: bareName(n)}),
				}
				if owner != "" {
					s.Labels = map[string]string{sandboxer.LabelOwner: owner}
				}
				if !yield(s, nil) {
					return
				}
				break
			}
		}
	}
}

// mintedAt reads the time in an ID that this library minted; zero for any other, since E2B does not tell the age of a
// snapshot.
func mintedAt(id string) time.Time {
	text := strings.TrimPrefix(id, "snap-")
	const digits, alphabet = 10, "0123456789abcdefghjkmnpqrstvwxyz" // of five bits: 48 bits of milliseconds, and two more
	if len(text) != 26 || text == id {
		return time.Time{}
	}
	var ms int64
	for i := range digits {
		v := strings.IndexByte(alphabet, text[i])
		if v < 0 {
			return time.Time{}
		}
		ms = ms<<5 | int64(v)
	}
	return time.UnixMilli(ms >> 2).UTC()
}

func (e *extension) snapshotPages(ctx context.Context, secret sandboxer.SecretFunc, filter string) iter.Seq2[listedSnapshot, error] {
	return func(yield func(listedSnapshot, error) bool) {
		token, seen := "", map[string]bool{}
		for range maxPages {
			query := filter + "limit=" + strconv.Itoa(pageSize)
			if token != "" {
				query += "&nextToken=" + url.QueryEscape(token)
			}
			rep, err := e.api.do(ctx, secret, request{method: http.MethodGet, path: "/snapshots", query: query, repeatable: true})
			if err != nil {
				yield(listedSnapshot{}, err)
				return
			}
			var items []listedSnapshot
			if err := rep.into(&items); err != nil {
				yield(listedSnapshot{}, err)
				return
			}
			for _, l := range items {
				if !yield(l, nil) {
					return
				}
			}
			if token = rep.header.Get("X-Next-Token"); token == "" {
				return
			}
			if seen[token] {
				break
			}
			seen[token] = true
		}
		yield(listedSnapshot{}, sandboxer.Mark(sandboxer.Unavailable, errors.New("E2B's listing of snapshots does not end")))
	}
}
