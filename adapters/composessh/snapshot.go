package composessh

import (
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// kindWorkspace is what a snapshot holds: the workspace and the named volumes, no processes and no other files of containers.
const kindWorkspace = "workspace"

// kept is what is stored beside a snapshot.
type kept struct {
	V        int                `json:"v"`
	Snapshot sandboxer.Snapshot `json:"snapshot"`
	Service  string             `json:"service"` // the main one, where a restore does not say
}

const keptVersion = 1

// keptState is Snapshot.State.
type keptState struct {
	Root string `json:"root"`
}

var (
	snapshotID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	digestText = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

	//go:embed scripts/snapshot.sh
	snapshotScript string
	//go:embed scripts/keep.sh
	keepScript string
	//go:embed scripts/kept.sh
	keptScript string
	//go:embed scripts/drop.sh
	dropScript string
	//go:embed scripts/verify.sh
	verifyScript string
	//go:embed scripts/restore.sh
	restoreScript string
)

func checkSnapshotID(id string) error {
	if !snapshotID.MatchString(id) {
		return sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the snapshot ID %q cannot be that of a directory; use letters, digits, hyphens, underscores and inner dots", id))
	}
	return nil
}

func marshal(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", sandboxer.Refused(sandboxer.Internal, err)
	}
	return string(text), nil
}

// Snapshot keeps the workspace and the named volumes on the host, as a tar stream that is compressed where the host has zstd.
// The services are held while they are read. The digest is that of what is stored.
func (e *extension) Snapshot(ctx context.Context, t sandboxer.Target, req sandboxer.SnapshotRequest) (sandboxer.Snapshot, error) {
	var none sandboxer.Snapshot
	if err := checkSnapshotID(req.ID); err != nil {
		return none, err
	}
	b, err := e.open(ctx, t)
	if err != nil {
		return none, err
	}
	have, err := b.kept(ctx, req.ID)
	if err != nil {
		return none, err
	}
	if have != nil {
		return have.ours(req.Labels)
	}
	id, err := b.files(ctx, t, true)
	if err != nil {
		return none, err
	}
	sandboxer.Report(ctx, sandboxer.Progress{Stage: "snapshot"})
	out, errs := &lines{ctx: ctx, stage: "snapshot"}, &lines{ctx: context.WithoutCancel(ctx)}
	compress := ""
	if b.zstd {
		compress = "yes"
	}
	s := b.script(snapshotScript, append([]string{b.name, t.Labels[sandboxer.LabelOwner], req.ID, compress, id, toolPath}, b.members()...)...)
	s.Stdout, s.Stderr = out, errs
	res, err := b.conn.Exec(ctx, s)
	if err == nil && res.ExitCode != 0 {
		err = b.fileError(req.ID, res.ExitCode+1000, errs.text()) // none of the codes of file scripts is meant
	}
	if err != nil {
		return none, fmt.Errorf("snapshot %s of sandbox %s: %w", req.ID, b.name, err)
	}
	said := strings.Fields(out.text())
	if len(said) != 3 {
		return none, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("snapshot %s of sandbox %s: host %s said %q", req.ID, b.name, b.conn, out.text()))
	}
	size, err := strconv.ParseInt(said[2], 10, 64)
	if err != nil || !digestText.MatchString("sha256:"+said[1]) {
		return none, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("snapshot %s of sandbox %s: host %s said %q", req.ID, b.name, b.conn, out.text()))
	}
	snap := sandboxer.Snapshot{
		ID: req.ID, Name: req.Name, Extension: e.id, Host: t.Handle.Ref().Host, Source: t.Handle.Ref().ID, Status: sandboxer.SnapshotReady,
		Consumer: t.Consumer, Labels: req.Labels, Kind: kindWorkspace, SizeBytes: size, Digest: "sha256:" + said[1],
		CreatedAt: time.Now().UTC().Round(0), ExpiresAt: req.ExpiresAt,
	}
	return b.keep(ctx, said[0], b.Service, snap)
}

// keep makes what lies in a directory of the host visible as a snapshot.
func (h *host) keep(ctx context.Context, dir, service string, s sandboxer.Snapshot) (sandboxer.Snapshot, error) {
	state, err := json.Marshal(keptState{Root: h.root})
	if err != nil {
		return s, err
	}
	s.State = state
	text, err := marshal(kept{V: keptVersion, Snapshot: s, Service: service})
	if err != nil {
		return s, err
	}
	out, err := h.run(ctx, "keeping snapshot "+s.ID, keepScript, dir, s.ID, s.Labels[sandboxer.LabelOwner], text)
	if err != nil {
		return s, err
	}
	k, err := h.parseKept("snapshot\n" + out)
	switch {
	case err != nil:
		return s, err
	case len(k) != 1:
		return s, sandboxer.Mark(sandboxer.Unknown, fmt.Errorf("host %s: keeping snapshot %s: it said %q", h.conn, s.ID, out))
	}
	return k[0].ours(s.Labels)
}

func (k *kept) ours(labels map[string]string) (sandboxer.Snapshot, error) {
	if want := labels[sandboxer.LabelOwner]; want != "" && k.Snapshot.Labels[sandboxer.LabelOwner] != want {
		return sandboxer.Snapshot{}, sandboxer.Refused(sandboxer.AlreadyExists, fmt.Errorf("the snapshot ID %s belongs to another owner", k.Snapshot.ID))
	}
	return k.Snapshot, nil
}

// kept looks a snapshot up; nil where there is none.
func (h *host) kept(ctx context.Context, id string) (*kept, error) {
	out, err := h.run(ctx, "looking for snapshot "+id, keptScript, id)
	if err != nil {
		return nil, err
	}
	all, err := h.parseKept(out)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

// parseKept reads what kept.sh prints. What can be read comes with the error about what cannot.
func (h *host) parseKept(text string) ([]*kept, error) {
	var out []*kept
	var failed error
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		k := new(kept)
		if err := json.Unmarshal([]byte(lines[i+2]), k); lines[i] != "snapshot" || err != nil || k.V < 1 || k.V > keptVersion || k.Snapshot.ID == "" {
			failed = sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("host %s: the description of a snapshot in %s cannot be read; repair or remove it", h.conn, path.Join(h.root, ".snapshots")))
			continue
		}
		out = append(out, k)
	}
	return out, failed
}

// hostOfSnapshot is where a snapshot lies.
func (e *extension) hostOfSnapshot(ctx context.Context, on sandboxer.Host, secret sandboxer.SecretFunc, s sandboxer.Snapshot) (*host, error) {
	if err := checkSnapshotID(s.ID); err != nil {
		return nil, err
	}
	h, err := e.host(ctx, on, secret)
	if err != nil || len(s.State) == 0 {
		return h, err
	}
	var st keptState
	if err := json.Unmarshal(s.State, &st); err != nil || !safePath.MatchString(st.Root) || !strings.HasPrefix(st.Root, "/") {
		return nil, sandboxer.Refused(sandboxer.InvalidArgument, fmt.Errorf("the state of snapshot %s is not of this extension", s.ID))
	}
	p := *h.probe
	p.root = st.Root
	h.probe = &p
	return h, nil
}

// stored finds the snapshot that is meant on its host.
func (h *host) stored(ctx context.Context, s sandboxer.Snapshot) (*kept, error) {
	k, err := h.kept(ctx, s.ID)
	switch {
	case err != nil:
		return nil, err
	case k == nil || !matches(k.Snapshot.Labels, ownerOnly(s.Labels)):
		return nil, sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no snapshot %s on host %s", s.ID, h.conn))
	case s.Digest != "" && s.Digest != k.Snapshot.Digest:
		return nil, sandboxer.Refused(sandboxer.FailedPrecondition, fmt.Errorf("snapshot %s on host %s holds %s and should hold %s", s.ID, h.conn, k.Snapshot.Digest, s.Digest))
	}
	return k, nil
}

func ownerOnly(labels map[string]string) map[string]string {
	if o := labels[sandboxer.LabelOwner]; o != "" {
		return map[string]string{sandboxer.LabelOwner: o}
	}
	return nil
}

// DeleteSnapshot removes a snapshot, also one that was never finished.
func (e *extension) DeleteSnapshot(ctx context.Context, t sandboxer.SnapshotTarget) error {
	h, err := e.hostOfSnapshot(ctx, t.Host, t.Secret, t.Snapshot)
	if err != nil {
		return err
	}
	_, err = h.run(ctx, "deleting snapshot "+t.Snapshot.ID, dropScript, t.Snapshot.ID, t.Snapshot.Labels[sandboxer.LabelOwner])
	return err
}

// ListSnapshots yields the snapshots of this extension on a host.
func (e *extension) ListSnapshots(ctx context.Context, q sandboxer.ListQuery) iter.Seq2[sandboxer.Snapshot, error] {
	return func(yield func(sandboxer.Snapshot, error) bool) {
		h, err := e.host(ctx, q.Host, q.Secret)
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
			return
		}
		out, err := h.run(ctx, "listing the snapshots", keptScript)
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
			return
		}
		all, err := h.parseKept(out)
		for _, k := range all {
			if k.Snapshot.Extension == e.id && matches(k.Snapshot.Labels, q.Labels) && !yield(k.Snapshot, nil) {
				return
			}
		}
		if err != nil {
			yield(sandboxer.Snapshot{}, err)
		}
	}
}

var errDamaged = errors.New("the snapshot is damaged and cannot be used")
