package proctree

import (
	"os"
	"testing"
)

// FuzzParseStat reads what the kernel could say of a process with any name.
func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1 (a) b) R 1 2 3"))
	f.Add([]byte(""))
	f.Add([]byte("1 () S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99999999999999999999999 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseStat(7, b)
		if err == nil && p.PID != 7 {
			t.Errorf("process 7 is said to be %d", p.PID)
		}
		named := append([]byte("7 ("), append(append([]byte(nil), b...), []byte(") Z 4 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0")...)...)
		got, err := parseStat(7, named)
		want := process{Proc: Proc{7, 1234}, ppid: 4, pgid: 5, sid: 6, dead: true}
		if err != nil || got != want {
			t.Errorf("a process called %q is read as %+v, %v", b, got, err)
		}
	})
}
