//go:build unix

package e2btest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sand-boxer/sandboxer/adapters/e2b/e2btest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOfficialSDK keeps the server honest: where E2B's own SDK fails, the server is wrong.
func TestOfficialSDK(t *testing.T) {
	dir := os.Getenv("SANDBOXER_E2B_SDK")
	node, err := exec.LookPath("node")
	if dir == "" || err != nil {
		const why = "needs node and E2B's JavaScript SDK: scripts/real/e2b-sdk.sh installs them (make test)"
		if os.Getenv("SANDBOXER_REQUIRE_REAL") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for name, opts := range map[string]e2btest.Options{
		"newest":            {},
		"pipes held":        {HoldPipes: true},
		"tokens hidden":     {HideTokens: true},
		"slow to be placed": {Placement: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// No canary: E2B's SDK reads its key from the environment, where the search for canaries would find it.
			const key = "e2b_0123456789abcdef0123456789abcdef01234567"
			opts.Keys = map[string]string{key: "team"}
			s, err := e2btest.Start(opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, node, filepath.Join("testdata", "sdk.cjs"), dir)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "E2B_API_KEY=" + key, "E2B_API_URL=" + s.URL(), "E2B_SANDBOX_URL=" + s.URL()}
			cmd.WaitDelay = 5 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasSuffix(string(out), "all\n") {
				t.Errorf("the SDK failed: %v\n%s", err, out)
			}
			if live := s.Live(); len(live) > 0 {
				t.Errorf("left: %q", live)
			}
			if strays := s.Strays(); len(strays) > 0 {
				t.Errorf("the SDK does not send its key to sandboxes, and the server says that it did: %q", strays)
			}
		})
	}
}
