package archive_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/archive"
)

// TestLateWrite: whoever still writes while, or after, a writer is closed gets an error. It panicked on a closed channel
// when Close closed the one that is written to.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	for range 200 {
		w := archive.NewWriter(context.Background(), io.Discard)
		var group sync.WaitGroup
		group.Go(func() {
			for {
				if _, err := w.Write([]byte("late")); err != nil {
					if !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("a late write ended with %v", err)
					}
					return
				}
			}
		})
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}
