package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/policy"
)

// TestCost: files that stay just under the caps end in seconds, accepted or not. Far beyond them they would take minutes
// and tens of gigabytes.
func TestCost(t *testing.T) {
	t.Parallel()
	const web = "services:\n  web: {image: alpine}\n"
	times := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	for name, src := range map[string]string{
		"lists":     "x-a: " + strings.Repeat("[", 990) + strings.Repeat("]", 990) + "\n" + web,
		"mappings":  "x-a: " + strings.Repeat("{a: ", 990) + strings.Repeat("}", 990) + "\n" + web,
		"blocks":    "x-a:\n" + times(190, func(i int) string { return strings.Repeat(" ", i+1) + "a:\n" }) + web,
		"marks":     "x-a:\n" + times(190, func(i int) string { return strings.Repeat(" ", i+1) + "- - - - - - - - \n" }) + web,
		"lines":     "services:\n  web:\n    image: alpine\n    command:\n" + strings.Repeat("      - x\n", 9000),
		"services":  "services:\n" + times(4500, func(i int) string { return fmt.Sprintf("  s%d:\n    image: a\n", i) }),
		"merges":    "x-a: &a\n" + times(1000, func(i int) string { return fmt.Sprintf("  k%d: 1\n", i) }) + times(90, func(i int) string { return fmt.Sprintf("x-b%d: [*a, *a]\n", i) }) + web,
		"long":      "x-a: &a " + strings.Repeat("l", 200_000) + "\nx-b: [" + strings.Repeat("*a,", 75) + "]\n" + web,
		"many":      "x-a: &a " + strings.Repeat("l", 8_000) + "\nx-b: [" + strings.Repeat("*a,", 1300) + "]\n" + web,
		"long key":  "x-a: &a {" + strings.Repeat("k", 1000) + ": {" + strings.Repeat("l", 1000) + ": {}}}\nx-b: [" + strings.Repeat("*a,", 1400) + "]\n" + web,
		"variables": "services:\n  web: {image: '" + strings.Repeat("${a:-", 64) + strings.Repeat("}", 64) + "'}\n",
		"strings":   "services:\n  web: {image: a, command: ['" + strings.Repeat("$$", 120_000) + "']}\n",
		"quotes":    "x-a: \"" + strings.Repeat("\\\"", 100_000) + "\"\n" + web,
		"colons":    strings.Repeat("a: ", 80_000) + "\n" + web,
		"missing":   "services: {web: {image: '" + times(30_000, func(i int) string { return fmt.Sprintf("$a%d", i) }) + "'}}\n",
		"problems":  "services:\n  web:\n    image: a\n    volumes:\n" + times(9000, func(i int) string { return fmt.Sprintf("    - /%d:/%d\n", i, i) }),
		"ports":     "services: {web: {image: a, ports: ['1-511:1-511']}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := spent()
			_, err := policy.Load(t.Context(), []byte(src), options("web"))
			if err != nil {
				if e := refusal(t, err); len(e.Problems) > 51 {
					t.Errorf("%d problems", len(e.Problems))
				}
			}
			d := spent() - begun
			t.Logf("%v: %.120v", d, err)
			if d > 30*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}
