//go:build linux || darwin

package local_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the programs that tests run in sandboxes or as other host programs.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "echo-server" {
		fmt.Fprintln(os.Stderr, echoServer(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) > 3 && os.Args[1] == "host-program" {
		fmt.Fprintln(os.Stderr, hostProgram(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// echoServer sends back what it receives on a port of the loopback interface.
func echoServer(port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}
