// Byok shows sandboxes that are paid with the keys that tenants brought, at E2B.
//
//	E2B_API_KEY=e2b_… go run ./examples/byok   # at the real service, with your key: costs less than a cent
//	go run ./examples/byok                     # at a fake E2B on this machine, with keys made up for it
//
// It says which of the two it uses. A tenant with a key of its own gets a sandbox with it; one without is refused, unless
// the platform pays; a sandbox goes on with the key that it was bought with after its tenant rotated it. Nothing is left
// when it ends, also on Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/e2b"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/registry"
	"github.com/sand-boxer/sandboxer/secrets"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "sandboxer-byok-")
	if err == nil {
		err = errors.Join(run(ctx, os.Stdout, dir, os.Getenv("E2B_API_KEY"), makeUp), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "byok:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// run keeps everything below dir. key is the one for the real service; "" takes the fake, with keys that newKey makes up.
func run(ctx context.Context, out io.Writer, dir, key string, newKey func() string) (err error) {
	at, err := service(out, key, newKey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()

	// A tenant's key is a file that only this user can read: <tenant>/E2B_API_KEY.
	tenants := filepath.Join(dir, "tenants")
	if err := store(tenants, "acme", "E2B_API_KEY", at.keys[0]); err != nil {
		return err
	}
	source, err := secrets.PerTenant(secrets.Tenants{
		Keys: secrets.TenantFiles(tenants),
		Hint: "add the tenant's E2B key under Settings, Keys",
	})
	if err != nil {
		return err
	}

	reg, err := registry.New(append([]registry.Option{registry.WithAdapters(e2b.Adapter())}, at.options...)...)
	if err != nil {
		return err
	}
	st, err := boltstore.Open(ctx, filepath.Join(dir, "intents.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: st, Owner: "byok", Secrets: source})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return show(ctx, out, m, tenants, at.keys)
}

// show is what the example is about.
func show(ctx context.Context, out io.Writer, m *manager.Manager, tenants string, keys []string) error {
	ask := func(tenant string) sandboxer.CreateRequest {
		return sandboxer.CreateRequest{Profile: "profile.e2b", Consumer: sandboxer.Consumer{ID: "user-1", Tenant: tenant}, TTL: 5 * time.Minute}
	}
	_, err := m.Create(ctx, ask("newcomer"))
	if !errors.Is(err, sandboxer.Unauthenticated) {
		return fmt.Errorf("a tenant without a key was not refused: %w", err)
	}
	fmt.Fprintf(out, "newcomer  refused: %v\n", err)

	return m.Run(ctx, ask("acme"), func(ctx context.Context, sb *manager.Sandbox) error {
		text, err := sb.Output(ctx, "uname", "-s")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "acme      runs %s", text)
		if err := payer(ctx, out, sb, "bought with"); err != nil {
			return err
		}
		if len(keys) > 1 {
			// Rotation: the new key becomes current, the old one stays beside it until nothing runs on it any more.
			if err := errors.Join(
				store(tenants, "acme", "E2B_API_KEY.previous", keys[0]),
				store(tenants, "acme", "E2B_API_KEY", keys[1]),
			); err != nil {
				return err
			}
			if _, err := sb.Output(ctx, "true"); err != nil {
				return err
			}
			if err := payer(ctx, out, sb, "rotated; goes on with"); err != nil {
				return err
			}
		}
		cost, err := sb.Meter(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "acme      cost %v so far\n", cost.Total)
		return nil
	})
}

// payer prints whose key a sandbox is paid with. The version names the key and reveals nothing of it.
func payer(ctx context.Context, out io.Writer, sb *manager.Sandbox, what string) error {
	status, err := sb.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "acme      %s the key of %q, version %s\n", what, status.Payer.Tenant, status.Payer.Key)
	return nil
}

// store writes a tenant's key. It is replaced as a whole, so that nobody reads half a key.
func store(dir, tenant, name, key string) error {
	path := filepath.Join(dir, tenant, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(key), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
