//go:build sandboxer_crash

// Package crash names the instants at which a Manager can die. In a normal build a point is an empty function that the
// compiler removes; built with the tag sandboxer_crash, the point chosen by the environment kills the process with SIGKILL.
package crash

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

var (
	mu      sync.Mutex
	visited = map[string]int{}
)

// Point is reached at when ("before", "after") of the thing called what ("C1"), which is a "commit", a "call" …; together:
// "commit/C1/before". It records the visit in the file named by SANDBOXER_CRASH_LOG, and kills the process at the visit that
// SANDBOXER_CRASH_AT names: "commit/C1/after", or "commit/C1/after#2" for the second.
func Point(kind, what, when string) {
	name := kind + "/" + what + "/" + when
	mu.Lock()
	defer mu.Unlock()
	visited[name]++
	if path := os.Getenv("SANDBOXER_CRASH_LOG"); path != "" {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	at, nth, counted := strings.Cut(os.Getenv("SANDBOXER_CRASH_AT"), "#")
	want := 1
	if counted {
		want, _ = strconv.Atoi(nth)
	}
	if at == name && visited[name] == want {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}
}
