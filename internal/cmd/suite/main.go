// Command suite is the part of scripts/test.sh that is not a shell's work. DIR is the directory of one run of all tests,
// which SANDBOXER_CANARY names to them:
//
//	suite begin DIR                       makes it
//	suite watch DIR                       looks for keys in process listings, until it is told to stop
//	suite show [-v] FILE                  keeps what `go test -json` says in FILE, and prints what go test itself would
//	suite search [-skip NAME] DIR PATH…   looks for keys in what the run left in DIR and at the paths; exit code 1 where one is
//
// What a key of a test looks like, and how tests hand over what they write, stands in internal/canary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// names collects the values of a flag that may be given often.
type names []string

func (n *names) String() string     { return fmt.Sprint(*n) }
func (n *names) Set(v string) error { *n = append(*n, v); return nil }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("begin, watch, show or search?")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	verbose := flags.Bool("v", false, "show: print everything")
	partial := flags.Bool("partial", false, "search: not all tests were run, so that it is no wonder when none had a key")
	var skip names
	flags.Var(&skip, "skip", "search: `name` of directories to leave out")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	rest := flags.Args()
	switch {
	case args[0] == "begin" && len(rest) == 1:
		return begin(rest[0])
	case args[0] == "watch" && len(rest) == 1:
		return watch(ctx, rest[0])
	case args[0] == "show" && len(rest) == 1:
		return show(os.Stdin, os.Stdout, rest[0], *verbose)
	case args[0] == "search" && len(rest) > 0:
		return search(os.Stdout, rest[0], rest[1:], skip, *partial)
	}
	return fmt.Errorf("%s with %d arguments: see the comment of this program", args[0], len(rest))
}
