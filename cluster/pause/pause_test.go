package pause

import (
	"context"
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	began := time.Now()
	if !For(t.Context(), 10*time.Millisecond) || time.Since(began) < 10*time.Millisecond {
		t.Error("not waited for")
	}
	if !For(t.Context(), 0) || !For(t.Context(), -time.Second) {
		t.Error("nothing to wait for, and not over")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if For(ctx, time.Hour) || For(ctx, 0) || For(ctx, time.Hour) {
		t.Error("waited for a context that has ended")
	}
}
