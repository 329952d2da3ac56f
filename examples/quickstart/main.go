// Quickstart makes a sandbox from a profile, copies a repository into it, runs the repository's own command with live
// output, keeps a snapshot, restores it into a second sandbox, shows that both hold the same tree, and takes everything
// away again.
//
//	go run ./examples/quickstart                     # this repository
//	go run ./examples/quickstart /path/to/repo       # another one, with a command that suits it
//	go run ./examples/quickstart /path/to/repo make  # and with a command of yours
//
// Interrupt it whenever you like: nothing is left. Kill it with SIGKILL and run it again: it finds what the first run left,
// says so, and removes it. The local adapter that it uses separates nothing from anything; see its documentation.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/local"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	home, err := os.UserCacheDir()
	if err == nil {
		err = run(ctx, os.Stdout, filepath.Join(home, "sandboxer-quickstart"), os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// run keeps everything that it stores below dir, and removes dir at the end. What an earlier run left below it is known only
// from there, so that dir goes when all of that is known to be gone, and only then.
func run(ctx context.Context, out io.Writer, dir string, args []string) (err error) {
	repo, command, err := what(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Ctrl-C does not cut off what finds and removes that.
	setup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	st, err := boltstore.Open(setup, filepath.Join(dir, "intents.db"))
	if err != nil {
		return err
	}
	cleared := false
	defer func() {
		err = errors.Join(err, st.Close())
		if cleared {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	reg, err := registry.New(
		registry.WithAdapters(local.Adapter(), saasstub.Adapter()),
		registry.WithYAML("quickstart", []byte(`
id: ext.local
title: Processes in a directory
handler: local
capabilities:
  isolation_levels: [process]
  pricing_model: free
config:
  root: `+quote(filepath.Join(dir, "sandboxes"))+`
`)))
	if err != nil {
		return err
	}
	m, err := manager.New(setup, manager.Config{Registry: reg, Store: st, Owner: "quickstart"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	screen := newScreen(out)
	defer screen.end()
	defer func() {
		if clearErr := clear(m); clearErr != nil {
			err = errors.Join(err, clearErr)
			return
		}
		cleared = true
		screen.say("everything is removed")
	}()
	if err := leftovers(setup, m, screen); err != nil {
		return err
	}
	return show(sandboxer.WithProgress(ctx, screen.progress), m, screen, repo, command)
}

// show is what the example is about.
func show(ctx context.Context, m *manager.Manager, s *screen, repo string, command []string) error {
	request := sandboxer.CreateRequest{
		Profile: "profile.local", Consumer: sandboxer.Consumer{ID: "quickstart"}, TTL: 15 * time.Minute,
	}
	if err := prices(ctx, m, s, request); err != nil {
		return err
	}
	first, err := m.Create(ctx, request)
	if err != nil {
		return err
	}
	s.say("created  %s", first.ID())

	if err := first.CopyIn(ctx, "", os.DirFS(repo)); err != nil {
		return err
	}
	s.say("copied   %s", repo)

	s.say("running  %s", strings.Join(command, " "))
	res, err := first.Exec(ctx, sandboxer.ExecRequest{Command: command, Env: environment(ctx, command), Stdout: s.live(), Stderr: s.live()})
	if err == nil {
		err = res.Err()
	}
	if err != nil {
		return err
	}
	s.say("finished in %v", res.Duration.Round(time.Millisecond))

	kept, err := first.Snapshot(ctx, sandboxer.SnapshotRequest{Name: "after the command"})
	if err != nil {
		return err
	}
	s.say("snapshot %s, %d bytes", kept.ID, kept.SizeBytes)

	request.FromSnapshot = kept.ID
	second, err := m.Create(ctx, request)
	if err != nil {
		return err
	}
	s.say("restored %s", second.ID())
	again, err := second.Snapshot(ctx, sandboxer.SnapshotRequest{Name: "of the restored one"})
	if err != nil {
		return err
	}
	if kept.Digest == "" || again.Digest != kept.Digest {
		return fmt.Errorf("the restored tree differs: %s, and it was %s", again.Digest, kept.Digest)
	}
	s.say("the same tree in both: %s", kept.Digest)
	return statuses(ctx, s, first, second)
}

// prices shows what the request would cost, here and at a backend that bills.
func prices(ctx context.Context, m *manager.Manager, s *screen, request sandboxer.CreateRequest) error {
	for _, profile := range []string{request.Profile, "profile.saasstub"} {
		request.Profile = profile
		quotes, err := m.Estimate(ctx, request)
		if err != nil {
			return err
		}
		for _, q := range quotes {
			price := "nobody bills for it"
			if q.PriceList != "" {
				price = fmt.Sprintf("%v for %v (%s)", q.Total, q.For, q.PriceList)
			}
			s.say("quote    %s at %s: %s", q.Profile, q.Extension, price)
		}
	}
	return nil
}

func statuses(ctx context.Context, s *screen, all ...*manager.Sandbox) error {
	for _, sb := range all {
		status, err := sb.Status(ctx)
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(status, "", "  ")
		if err != nil {
			return err
		}
		s.say("status   %s", text)
	}
	return nil
}

// leftovers removes what an earlier run that was killed has left, and says so.
func leftovers(ctx context.Context, m *manager.Manager, s *screen) error {
	report := m.Recovery()
	found := len(report.Settled) + len(report.Orphaned) + len(report.Snapshots) + report.Kept
	for _, err := range m.Snapshots(ctx, manager.Filter{}) {
		if err != nil {
			return err
		}
		found++
	}
	if found == 0 {
		return nil
	}
	s.say("an earlier run was killed: removing what it left")
	for _, id := range report.Settled {
		s.say("  sandbox %s: unfinished, removed", id)
	}
	return clearSaying(m, func(what string) { s.say("  %s: removed", what) })
}

func clear(m *manager.Manager) error { return clearSaying(m, func(string) {}) }

// clearSaying removes every sandbox and every snapshot. It works under a context of its own: it also runs after Ctrl-C.
func clearSaying(m *manager.Manager, say func(string)) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for sb, err := range m.List(ctx, manager.Filter{}) {
		if err != nil {
			return err
		}
		status, err := sb.Status(ctx)
		if err == nil && status.EndedAt.IsZero() {
			_, err = sb.Teardown(ctx)
			say("sandbox " + string(sb.ID()))
		}
		errs = append(errs, err)
	}
	for snap, err := range m.Snapshots(ctx, manager.Filter{}) {
		if err != nil {
			return err
		}
		errs = append(errs, m.DeleteSnapshot(ctx, snap.ID))
		say("snapshot " + snap.ID)
	}
	return errors.Join(errs...)
}

// what picks the repository and a command that suits it.
func what(args []string) (repo string, command []string, err error) {
	if len(args) > 0 && (args[0] == "" || args[0][0] == '-') {
		return "", nil, errors.New("usage: quickstart [repository [command …]]")
	}
	if len(args) == 0 {
		repo, err = ownRepository()
		return repo, []string{"go", "test", "-short", "."}, err
	}
	repo, err = filepath.Abs(args[0])
	if err != nil {
		return "", nil, err
	}
	if info, err := os.Stat(repo); err != nil || !info.IsDir() {
		return "", nil, fmt.Errorf("%s is no directory", repo)
	}
	if len(args) > 1 {
		return repo, args[1:], nil
	}
	for _, known := range []struct {
		file    string
		command []string
	}{
		{"go.mod", []string{"go", "test", "-short", "./..."}},
		{"Cargo.toml", []string{"cargo", "test"}},
		{"package.json", []string{"npm", "test"}},
		{"Makefile", []string{"make"}},
	} {
		if _, err := os.Stat(filepath.Join(repo, known.file)); err == nil {
			return repo, known.command, nil
		}
	}
	return repo, []string{"ls", "-l"}, nil
}

// ownRepository is where this example is run from, or the folder above that holds a go.mod.
func ownRepository() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run it inside a repository, or name one: go run ./examples/quickstart /path/to/repo")
		}
		dir = parent
	}
	return "", err
}

// environment lets a Go command in the sandbox, whose environment is clean, use the caches that this machine has already.
func environment(ctx context.Context, command []string) map[string]string {
	if command[0] != "go" {
		return nil
	}
	env := map[string]string{}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS"} {
		if value, err := exec.CommandContext(ctx, "go", "env", name).Output(); err == nil && len(value) > 1 {
			env[name] = strings.TrimSpace(string(value))
		}
	}
	return env
}

// quote writes a string as YAML takes it.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
