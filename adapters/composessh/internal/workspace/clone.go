package workspace

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the script
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

//go:embed clone.sh
var cloneScript string

// prepareScript makes the temporary directory $3 in the directory $1, and removes what clones that were killed left there.
const prepareScript = `mkdir -p -- "$1"&&rm -rf -- "$1/$2"*&&mkdir -m 700 -- "$1/$3"||exit 83`

// CloneOptions adjust a clone. The zero value clones what everybody may read, without history.
type CloneOptions struct {
	Credential *Credential // of a private repository
	// KnownHosts are lines of known_hosts for the server of an SSH source. Without any, what the host knows counts.
	KnownHosts []string
	CA         string // PEM certificates for the server of an https source, instead of the host's
	Depth      int    // commits of history; 0: one; negative: all
	Submodules bool   // also clone them, over the source's protocol and https; the credential is for the source's server only
}

// Clone makes dir on the host, an absolute path, a working tree of the source's ref, with git on the host, and returns the
// commit; that of an empty repository is empty. A branch is checked out as one, everything else detached. What is in dir is
// either complete or not there at all: while git works, the files are in a hidden directory beside it. A dir that exists
// must be empty, or hold what the same call has cloned before: then nothing is done, so that it may be called again after a
// reply was lost. Progress is reported as stage "clone".
//
// Errors: InvalidArgument for a ref or a repository that is not there, Unauthenticated and PermissionDenied from the
// repository's server, Unavailable where that does not answer, FailedPrecondition where the host has no git or does not know
// the server's key, AlreadyExists where dir is taken.
func Clone(ctx context.Context, r Runner, dir string, s Source, o CloneOptions) (commit string, err error) {
	c := &clone{r: r, dir: path.Clean(dir), s: s, o: o, depth: o.Depth}
	if c.depth == 0 {
		c.depth = 1
	}
	if err := c.check(); err != nil {
		return "", err
	}
	for {
		commit, err = c.try(ctx)
		if !errors.Is(err, errShallow) || c.depth < 0 {
			return commit, err
		}
		c.depth = -1 // the server cannot leave history out
	}
}

type clone struct {
	r     Runner
	dir   string
	s     Source
	o     CloneOptions
	depth int
}

// maxTrust is how long known hosts and certificates may be: they are arguments of a command.
const maxTrust = 64 << 10

func (c *clone) check() error {
	switch {
	case !c.s.IsGit():
		return invalid("%s is no repository", c.s)
	case !path.IsAbs(c.dir) || c.dir == "/" || hasControl(c.dir):
		return invalid("the directory %q to clone into is not an absolute path", c.dir)
	case len(c.o.CA) > maxTrust || len(strings.Join(c.o.KnownHosts, "\n")) > maxTrust:
		return invalid("known hosts and certificates are longer than %d bytes", maxTrust)
	case strings.Contains(c.o.CA+strings.Join(c.o.KnownHosts, ""), "\x00"):
		return invalid("known hosts or certificates contain a NUL byte")
	case len(c.o.KnownHosts) > 0 && strings.ContainsAny(c.dir, `"\%$`):
		return invalid(`the directory %q to clone into contains one of " \ %% $, which the configuration of ssh cannot carry`, c.dir)
	}
	return c.o.Credential.check(c.s)
}

// try clones once.
func (c *clone) try(ctx context.Context) (string, error) {
	parent, prefix := path.Dir(c.dir), "."+path.Base(c.dir)+".clone-"
	temp := prefix + strings.ToLower(rand.Text()[:10])
	if err := c.prepare(ctx, parent, prefix, temp); err != nil {
		return "", err
	}
	temp = path.Join(parent, temp)
	commit, err := c.fetch(ctx, temp)
	if err != nil {
		// The script removes it, unless it was killed.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		_, _ = c.r.Exec(clean, sandboxer.ExecRequest{Command: []string{"rm", "-rf", "--", temp}})
	}
	return commit, err
}

func (c *clone) prepare(ctx context.Context, parent, prefix, temp string) error {
	var said tail
	result, err := c.r.Exec(ctx, sandboxer.ExecRequest{Command: script(prepareScript, parent, prefix, temp), Stderr: &said})
	if err == nil && result.Err() != nil {
		err = failed(c.r, sandboxer.FailedPrecondition, "make a directory in %s to clone into: %s", parent, said.lastLine())
	}
	return err
}

func (c *clone) fetch(ctx context.Context, temp string) (string, error) {
	secret, err := c.o.Credential.open(ctx, c.r, c.s, temp)
	if err != nil {
		return "", err
	}
	defer secret.close()
	var stdin io.Reader
	given := ""
	if len(secret.lines) > 0 {
		stdin, given = bytes.NewReader(secret.lines), "yes"
	}
	protocols, submodules := c.s.scheme, ""
	if c.o.Submodules {
		submodules = "yes"
		protocols += " https"
	}
	hosts := ""
	if len(c.o.KnownHosts) > 0 {
		hosts = strings.Join(c.o.KnownHosts, "\n") + "\n"
	}
	out, said := &tail{}, &progressWriter{ctx: ctx}
	result, err := c.r.Exec(ctx, sandboxer.ExecRequest{
		Command: script(cloneScript, c.dir, temp, c.mark(), c.s.URL, c.s.Ref, c.kind(), strconv.Itoa(c.depth), submodules,
			c.s.scheme+"://"+c.s.host, protocols, hosts, c.o.CA, secret.agent, given),
		Stdin: stdin, Stdout: out, Stderr: said,
	})
	if err != nil {
		return "", err
	}
	said.flush()
	if result.Err() != nil {
		return "", c.explain(result, secret.scrub(said.lines))
	}
	commit, ok := strings.CutPrefix(strings.TrimSuffix(string(out.kept), "\n"), "commit ")
	if !ok || (commit != "" && !isCommit(commit)) {
		return "", failed(c.r, sandboxer.Internal, "the clone of %s ended with an answer that is none: %q", c.s, printable(string(out.kept)))
	}
	return commit, nil
}

// kind is how the ref is asked for: branches and tags by their short name, which git clone takes, or in another way.
func (c *clone) kind() string {
	switch {
	case isCommit(c.s.Ref):
		return "commit"
	case strings.HasPrefix(c.s.Ref, "refs/"):
		return "ref"
	}
	return "name"
}

// mark names what was asked for; it stays in the repository's configuration.
func (c *clone) mark() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %t", c.s.URL, c.s.Ref, c.o.Depth, c.o.Submodules))
	return hex.EncodeToString(sum[:16])
}
