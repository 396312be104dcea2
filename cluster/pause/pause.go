// Package pause waits, and not longer than somebody is interested.
package pause

import (
	"context"
	"time"
)

// For returns once d is over, or ctx; it says whether ctx goes on.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
