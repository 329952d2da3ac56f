package boltstore_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

// Some tests need a second process: this program, with a role.
const roleEnv = "BOLTSTORE_TEST_ROLE"

// play plays a role, which gets what stands behind it in the environment: the path of the store, mostly.
func play(role, arg string) error {
	switch role {
	case "hold":
		return hold(arg)
	case "commit":
		return commitForEver(arg)
	}
	return playHere(role, arg)
}

func TestMain(m *testing.M) {
	role, path, ok := strings.Cut(os.Getenv(roleEnv), "=")
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := play(role, path); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// child starts this program in a role. Its standard input stays open until the test ends, when it is killed.
func child(t *testing.T, role, path string) (cmd *exec.Cmd, stdout *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// hold opens the store, commits, and keeps it until its standard input ends.
func hold(path string) error {
	s, err := boltstore.Open(ctx(), path)
	if err != nil {
		return err
	}
	if _, err := s.Commit(ctx(), store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: "held"}, Body: []byte("x")}); err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Close()
}

// commitForEver commits from several goroutines and prints what was acknowledged.
func commitForEver(path string) error {
	s, err := boltstore.Open(ctx(), path)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for c := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%06d", c, i)
				rev, err := s.Commit(ctx(),
					store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: id}, Tags: []string{"live"}, Body: []byte(id)},
					store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: "n"}, Delta: 1})
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("%s %d\n", id, rev)
			}
		}()
	}
	return <-failed
}
