// Package secrets holds the sources that keys come from: the environment, files, a map, a chain of sources, keys per
// tenant (bring your own key), and a cache in front of any of them. Host applications give one to manager.Config.Secrets;
// nothing else calls it.
//
// # Who pays
//
// A source answers two questions. Payer is asked once, before a sandbox is bought, and its answer is stored with the
// intent. Secret is asked whenever a key is used, with that stored answer, and follows three rules that every source here
// keeps and a source of your own should keep too:
//
//   - Payer.Tenant decides whose key it is, for ever. A sandbox bought with the platform's key is handled with the
//     platform's key, also after its tenant brought one; a tenant's sandbox is never handled with another's key, and not
//     with the platform's after the tenant took the key away.
//   - Payer.Key is the version of the key at creation. It picks among several keys of the same payer: the one of that
//     version while the payer still has it, so that adding a second key changes nothing for what runs.
//   - A payer that no longer has a key of that version rotated it: its current key is the answer. So it is when the backend
//     refused that version (see [sandboxer.RefusedKey]): it was revoked there before it was taken away here.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// MissingError says that a source holds no key under a reference. Its code is Unauthenticated. A source of your own returns
// it, wrapped or not, to let [Chain] and [PerTenant] go on to the next place; every other error ends the search, so that a
// key that is there and cannot be read is not silently replaced by another.
type MissingError struct {
	Ref    sandboxer.SecretRef
	Tenant string // "": the platform's key is missing
	Hint   string // how to set it

	otherKind bool // the source serves references of another kind, so that its hint helps least
}

// Error names the reference, whose key it is and how to set it. A reference that looks like a key itself is not shown.
func (e *MissingError) Error() string {
	whose := "the platform has"
	if e.Tenant != "" {
		whose = fmt.Sprintf("tenant %q has", e.Tenant)
	}
	msg := fmt.Sprintf("%s no key under the reference %q", whose, shown(e.Ref))
	if e.Hint != "" {
		msg += ": " + e.Hint
	}
	return msg
}

// missing classifies a MissingError: nothing was created.
func missing(ref sandboxer.SecretRef, tenant, hint string) error {
	return sandboxer.Refused(sandboxer.Unauthenticated, &MissingError{Ref: ref, Tenant: tenant, Hint: hint})
}

// otherKind is missing for a source that cannot serve such a reference whatever is set.
func otherKind(ref sandboxer.SecretRef, hint string) error {
	return sandboxer.Refused(sandboxer.Unauthenticated, &MissingError{Ref: ref, Hint: hint, otherKind: true})
}

// isMissing reports whether a source said that it holds no such key.
func isMissing(err error) bool {
	var m *MissingError
	return errors.As(err, &m)
}

// shown is ref as it may be printed. Somebody may have written the key where its reference belongs.
func shown(ref sandboxer.SecretRef) string {
	scheme, rest, ok := strings.Cut(string(ref), ":")
	switch {
	case ok && (scheme == "env" || scheme == "file") && !generated([]byte(rest)):
		return string(ref)
	case generated([]byte(ref)) || len(ref) > 128:
		return "[looks like a key: write a reference such as env:NAME]"
	}
	return string(ref)
}

// platform is a source that holds the platform's keys only: Env, Files and Map differ in how they read one.
type platform struct {
	read func(ctx context.Context, ref sandboxer.SecretRef) (sandboxer.Secret, error)
}

// Payer answers that the platform pays, with the version of the key that it has now.
func (s platform) Payer(ctx context.Context, ref sandboxer.SecretRef, _ sandboxer.Consumer) (sandboxer.Payer, error) {
	secret, err := s.read(ctx, ref)
	if err != nil {
		return sandboxer.Payer{}, err
	}
	return sandboxer.Payer{Key: secret.Version()}, nil
}

// Secret reads the key; a tenant's is never here.
func (s platform) Secret(ctx context.Context, ref sandboxer.SecretRef, p sandboxer.Payer) (sandboxer.Secret, error) {
	if p.Tenant != "" {
		return sandboxer.Secret{}, missing(ref, p.Tenant, "only the platform's keys are kept here; configure secrets.PerTenant")
	}
	return s.read(ctx, ref)
}

func ctxErr(ctx context.Context) error {
	switch err := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return sandboxer.Refused(sandboxer.DeadlineExceeded, err)
	default:
		return sandboxer.Refused(sandboxer.Canceled, err)
	}
}
