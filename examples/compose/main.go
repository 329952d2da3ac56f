// Compose brings up a Docker Compose stack on a host of yours, prints where it is, runs a command in it, and removes it.
//
//	go run ./examples/compose build1.example.net                      # the stack beside this file, which needs busybox:1.37
//	go run ./examples/compose -repo . -service app me@build1 make test # your own, in its service app
//
// The host needs Docker with Compose; you need to reach it with ssh: its key is looked up in ~/.ssh/known_hosts, yours in the
// agent and in ~/.ssh/config. Nothing is left when it ends, also on Ctrl-C; after kill -9 the next run removes what the last one
// left, and without one the host does when the time to live is over.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh"
	"github.com/sand-boxer/sandboxer/manager"
	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/registry"
	"github.com/sand-boxer/sandboxer/secrets"
)

// options are the program's arguments.
type options struct {
	store, repo, service, key, hostKeys, image string
	host                                       string
	command                                    []string
}

func main() {
	var o options
	flag.StringVar(&o.store, "store", filepath.Join(os.TempDir(), "sandboxer-compose.db"), "file that remembers what exists")
	flag.StringVar(&o.repo, "repo", "examples/compose/stack", "repository: a directory, or a URL that the host clones")
	flag.StringVar(&o.service, "service", "", "service to run the command in, where there are several")
	flag.StringVar(&o.key, "i", "", "file of the private key; default: the agent, and what ~/.ssh/config says")
	flag.StringVar(&o.hostKeys, "known-hosts", "", "file of host keys; default: ~/.ssh/known_hosts")
	flag.StringVar(&o.image, "image", "", "value of IMAGE in the Compose file")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: compose [flags] [user@]host[:port] [command...]")
		os.Exit(2)
	}
	o.host, o.command = flag.Arg(0), flag.Args()[1:]
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, out io.Writer, o options) (err error) {
	if len(o.command) == 0 {
		o.command = []string{"sh", "-c", "hostname; ls"}
	}
	if o.service == "" && o.repo == "examples/compose/stack" {
		o.service = "shell"
	}
	if !strings.Contains(o.repo, ":") { // no URL
		if o.repo, err = filepath.Abs(o.repo); err != nil {
			return err
		}
	}
	host := sandboxer.Host{ID: "host", Address: o.host}
	if user, address, ok := strings.Cut(o.host, "@"); ok {
		host.User, host.Address = user, address
	}
	if o.key != "" {
		host.Credential = sandboxer.SecretRef("file:" + o.key)
	}
	if o.hostKeys != "" {
		host.HostKeys = []string{o.hostKeys}
	}
	inputs := sandboxer.Inputs{"repo": o.repo}
	if o.service != "" {
		inputs["service"] = o.service
	}
	if o.image != "" {
		inputs["env"] = map[string]any{"IMAGE": o.image}
	}
	reg, err := registry.New(registry.WithAdapters(composessh.Adapter()))
	if err != nil {
		return err
	}
	st, err := boltstore.Open(ctx, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	m, err := manager.New(ctx, manager.Config{Registry: reg, Store: st, Owner: "compose-example", Hosts: []sandboxer.Host{host}, Secrets: secrets.Chain(secrets.Env(), secrets.Files())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	request := sandboxer.CreateRequest{
		Profile: "profile.compose-ssh", Consumer: sandboxer.Consumer{ID: "example"}, Inputs: inputs, TTL: 15 * time.Minute,
	}
	begun := time.Now()
	return m.Run(ctx, request, func(ctx context.Context, sb *manager.Sandbox) error {
		status, err := sb.Status(ctx)
		if err != nil {
			return err
		}
		r := status.Reachability
		fmt.Fprintf(out, "ready after %v: project %s on %s, workspace %s\n", time.Since(begun).Round(10*time.Millisecond), r.ComposeProject, r.SSH, r.RemoteDir)
		for _, e := range r.Endpoints {
			fmt.Fprintf(out, "  %s is at %s of the host\n", e.Name, e.URL)
		}
		res, err := sb.Exec(ctx, sandboxer.ExecRequest{Command: o.command, Stdout: out, Stderr: out})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: exit code %d; removing the stack\n", strings.Join(o.command, " "), res.ExitCode)
		return res.Err()
	})
}
