// Package canary makes the keys that tests use, and finds them again where no key may be. All of them carry one mark, which
// is in no source file. scripts/test.sh looks for it when the whole suite has run: in what the tests printed, logged, stored
// and left behind, in process listings and in the checkout.
//
// A test that needs a key takes it from Key or Secret, and hands what it writes to Keep or Log. Where a key is written on
// purpose (a key file, the environment of somebody else's program) it takes another one, and says so.
package canary

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// dirVariable names the directory of a run of the whole suite. Its file "seed" makes the run's mark: the mark itself must
// not be written anywhere. Without it the mark is always the same.
const dirVariable = "SANDBOXER_CANARY"

const seedFile = "seed"

// Key is a key of E2B's form: e2b_ and hexadecimal digits. Keys of different names differ.
func Key(name string) string { return Secret("e2b_", name) }

// Secret is a secret that begins with prefix. The mark is in it twice, so that half a secret is found as well.
func Secret(prefix, name string) string {
	used()
	sum := sha256.Sum256([]byte("canary name\x00" + name))
	m := markOf(seed())
	return prefix + m + hex.EncodeToString(sum[:4]) + m
}

// markOf makes a mark of 16 hexadecimal digits: numbers and letters in turn, at least eight of them different, which no text
// has by chance and which looks generated.
func markOf(seed string) string {
	for n := 0; ; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "canary mark\x00%s\x00%d", seed, n))
		out, different := make([]byte, 0, 16), map[byte]bool{}
		for _, b := range sum[:8] {
			out = append(out, '0'+b%10, 'a'+b/10%6)
			different[out[len(out)-2]], different[out[len(out)-1]] = true, true
		}
		if len(different) >= 8 {
			return string(out)
		}
	}
}

// Begin makes dir, which exists, the directory of a run with a mark of its own.
func Begin(dir string) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return os.WriteFile(filepath.Join(dir, seedFile), []byte(hex.EncodeToString(random[:])), 0o600)
}

// Planted is a key of the run in dir, for proving that it would be found.
func Planted(dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, seedFile)); err != nil {
		return "", err
	}
	return "e2b_" + markOf(readSeed(dir)), nil
}

// seed is the run's own, or "".
var seed = sync.OnceValue(func() string { return readSeed(os.Getenv(dirVariable)) })

func readSeed(dir string) string {
	if dir == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, seedFile))
	if err != nil {
		panic("canary: " + dirVariable + " names a directory without a seed: " + err.Error())
	}
	return string(text)
}

// used notes that this program has canaries: a search in a suite that uses none proves nothing.
var used = sync.OnceFunc(func() {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, usedPrefix+filepath.Base(os.Args[0])+"-*")
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		panic("canary: " + err.Error())
	}
})

const usedPrefix = "used-"
