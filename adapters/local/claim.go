//go:build linux || darwin

package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A claim says whose a name is. It is written before anything else of the sandbox and removed after everything else, and
// lies outside of the sandbox's directory, where a command that removes all around it does not meet it. The end of the
// claim's name says whether the sandbox lives; its directory says whether it is complete.
const (
	claimsDir  = ".sandboxes"
	liveEnd    = ".json"
	removeEnd  = ".removing"
	stageName  = ".new."   // + name + "." + random: a directory that is being made
	trashName  = ".trash." // + token + "." + random: one that is being removed
	claimTemp  = ".tmp."   // + name + "." + random: a claim that is being written
	claimLimit = 1 << 20
)

type claim struct {
	V         int               `json:"v"`
	Name      string            `json:"name"`
	ID        sandboxer.ID      `json:"id"`
	Attempt   int               `json:"attempt"`
	Extension string            `json:"extension"`
	Host      string            `json:"host,omitempty"`
	Token     string            `json:"token"` // carried by every process of the sandbox
	Labels    map[string]string `json:"labels,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`

	removing bool
}

const claimVersion = 1

func (c *claim) ref() sandboxer.HandleRef {
	return sandboxer.HandleRef{ID: c.ID, Attempt: c.Attempt, Extension: c.Extension, Host: c.Host}
}

// ours reports whether the claim belongs to who asks; a caller without LabelOwner is not asked.
func (c *claim) ours(labels map[string]string) bool {
	want := labels[sandboxer.LabelOwner]
	return want == "" || c.Labels[sandboxer.LabelOwner] == want
}

// marker is what the processes of the sandbox carry in their environment.
func (c *claim) marker() string { return envSandbox + "=" + c.Token }

func newClaim(req *sandboxer.ProvisionRequest, env map[string]string) *claim {
	return &claim{
		V: claimVersion, Name: req.Name, ID: req.ID, Attempt: req.Attempt, Extension: req.Profile.Extension, Host: req.Host.ID,
		Token: req.Name + "." + strings.ToLower(rand.Text()), Labels: maps.Clone(req.Labels), Env: env,
		CreatedAt: time.Now().UTC(), ExpiresAt: req.ExpiresAt.UTC(),
	}
}

// claimOf reads the claim on name; nil where there is none.
func (b *base) claimOf(name string) (*claim, error) {
	for _, end := range []string{liveEnd, removeEnd} {
		c, err := b.readClaim(name + end)
		if c != nil || err != nil {
			return c, err
		}
	}
	// Between the two looks it may have gone from the one to the other.
	return b.readClaim(name + removeEnd)
}

func (b *base) readClaim(file string) (*claim, error) {
	f, err := b.root.Open(path.Join(claimsDir, file))
	if err != nil {
		return nil, classify(ignoreGone(err))
	}
	var c claim
	err = decodeFile(f, &c)
	if err == nil && (c.V > claimVersion || c.Token == "" || c.Name != strings.TrimSuffix(strings.TrimSuffix(file, liveEnd), removeEnd)) {
		err = fmt.Errorf("it is of version %d and names %q", c.V, c.Name)
	}
	if err != nil {
		return nil, sandboxer.Mark(sandboxer.FailedPrecondition, fmt.Errorf("%s cannot be read, so nobody knows whose sandbox it is; repair or remove it: %w", path.Join(b.path, claimsDir, file), err))
	}
	c.removing = strings.HasSuffix(file, removeEnd)
	return &c, nil
}

// decodeFile reads JSON of bounded size and closes f.
func decodeFile(f *os.File, into any) error {
	info, err := f.Stat()
	if err == nil && info.Size() > claimLimit {
		err = fmt.Errorf("%s has %d bytes", f.Name(), info.Size())
	}
	if err == nil {
		err = json.NewDecoder(f).Decode(into)
	}
	_ = f.Close() // only read
	return err
}

// writeClaim stores c as a living claim. The caller holds the lock.
func (b *base) writeClaim(c *claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := b.root.Mkdir(claimsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return replace(b.root, path.Join(claimsDir, claimTemp+c.Name+"."+rand.Text()), path.Join(claimsDir, c.Name+liveEnd), data)
}

// markRemoving says that the sandbox goes, which needs no space on a full disk. The caller holds the lock.
func (b *base) markRemoving(name string) error {
	return b.root.Rename(path.Join(claimsDir, name+liveEnd), path.Join(claimsDir, name+removeEnd))
}

// unclaim gives a name free. The caller holds the lock.
func (b *base) unclaim(name string) error {
	return errors.Join(ignoreGone(b.root.Remove(path.Join(claimsDir, name+removeEnd))), b.sweep(name))
}

// sweep removes claims of name that were never finished, and what then is empty. The caller holds the lock.
func (b *base) sweep(name string) error {
	temps, err := elements(b.root, claimsDir, claimTemp+name+".")
	for _, t := range temps {
		err = errors.Join(err, ignoreGone(b.root.Remove(path.Join(claimsDir, t))))
	}
	_ = b.root.Remove(claimsDir) // where it is empty
	return err
}

// hold keeps a living sandbox from being removed until release is called: for the instant in which a process starts. It
// reads the claim again, which may have changed.
func (b *base) hold(ctx context.Context, name string, how int) (c *claim, release func(), err error) {
	file := path.Join(claimsDir, name+liveEnd)
	for {
		was, release, err := lockFile(ctx, b.root, file, how)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, gone(name)
		}
		if err != nil {
			return nil, nil, classify(err)
		}
		// What was locked may have been replaced or marked before the lock was had; then another file counts.
		if now, err := b.root.Lstat(file); err == nil && os.SameFile(was, now) {
			if c, err := b.readClaim(name + liveEnd); c != nil || err != nil {
				if err != nil {
					release()
					return nil, nil, err
				}
				return c, release, nil
			}
		}
		release()
	}
}

func gone(name string) error {
	return sandboxer.Refused(sandboxer.NotFound, fmt.Errorf("there is no sandbox %s here", name))
}

// names returns the names of all claims, each once.
func (b *base) names() ([]string, error) {
	files, err := elements(b.root, claimsDir, "")
	var out []string
	for _, f := range files {
		for _, end := range []string{liveEnd, removeEnd} {
			if name, ok := strings.CutSuffix(f, end); ok && !strings.HasPrefix(f, ".") {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), err
}
