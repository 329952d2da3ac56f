package adaptertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// canary gives out the secrets, remembers them, hears everything that is said, and tells where one of them was said. It is
// the SecretSource and the log handler of the Managers.
type canary struct {
	from sandboxer.SecretSource

	mu      sync.Mutex
	secrets map[string]bool
	heardOf map[string]string // what was said → where; each text once
	size    int
}

// mostHeard bounds what is kept.
const mostHeard = 64 << 20

func newCanary(from sandboxer.SecretSource) *canary {
	if from == nil {
		from = environment{}
	}
	return &canary{from: from, secrets: map[string]bool{}, heardOf: map[string]string{}}
}

// Payer asks the real source.
func (c *canary) Payer(ctx context.Context, ref sandboxer.SecretRef, consumer sandboxer.Consumer) (sandboxer.Payer, error) {
	return c.from.Payer(ctx, ref, consumer)
}

// Secret asks the real source, and remembers the answer.
func (c *canary) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	s, err := c.from.Secret(ctx, ref, p)
	c.remember(s)
	return s, err
}

// remember adds a secret to what must not be said. What is shorter than six bytes occurs by chance.
func (c *canary) remember(s sandboxer.Secret) {
	value := bytes.TrimSpace(s.Reveal())
	if len(value) < 6 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, form := range []string{string(value), base64.StdEncoding.EncodeToString(value), hex.EncodeToString(value)} {
		c.secrets[form] = true
	}
}

func (c *canary) heard(where, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.heardOf[text]; known || c.size > mostHeard {
		return
	}
	c.size += len(text)
	c.heardOf[text] = where
}

func (c *canary) heardJSON(where string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		return // nothing that can be stored or shown
	}
	c.heard(where, string(text))
}

// said returns where a secret was said, without saying it again.
func (c *canary) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for text, where := range c.heardOf {
		for secret := range c.secrets {
			if strings.Contains(text, secret) {
				out = append(out, fmt.Sprintf("%s: %s", where, strings.ReplaceAll(text, secret, "[THE SECRET]")))
			}
		}
	}
	slices.Sort(out)
	return out
}

// Enabled: the most talkative level counts.
func (c *canary) Enabled(context.Context, slog.Level) bool { return true }

// Handle hears a log record.
func (c *canary) Handle(ctx context.Context, r slog.Record) error {
	var line bytes.Buffer
	err := slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug}).Handle(ctx, r)
	c.heard("log", line.String())
	return err
}

// WithAttrs hears the attributes at once.
func (c *canary) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		c.heard("log", a.String())
	}
	return c
}

// WithGroup changes nothing that could hide a secret.
func (c *canary) WithGroup(string) slog.Handler { return c }

// environment reads "env:NAME", as a Manager without a SecretSource does.
type environment struct{}

func (environment) Payer(ctx context.Context, ref sandboxer.SecretRef, _ sandboxer.Consumer) (sandboxer.Payer, error) {
	s, err := environment{}.Secret(ctx, ref, sandboxer.Payer{})
	return sandboxer.Payer{Key: s.Version()}, err
}

func (environment) Secret(_ context.Context, ref sandboxer.SecretRef, _ sandboxer.Payer) (sandboxer.Secret, error) {
	name, ok := strings.CutPrefix(string(ref), "env:")
	value := os.Getenv(name)
	if !ok || value == "" {
		return sandboxer.Secret{}, sandboxer.Refused(sandboxer.Unauthenticated, errors.New(string(ref)+" is not set: export it, or give Config.Secrets"))
	}
	sum := sha256.Sum256([]byte(value))
	return sandboxer.NewSecret([]byte(value), hex.EncodeToString(sum[:4])), nil
}
