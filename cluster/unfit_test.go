package cluster

import (
	"testing"
	"time"
)

// A write counts as hung after so long in which the process ran; a frozen one has not seen it hang.
func TestHang(t *testing.T) {
	now := time.Unix(0, 0)
	h := hang{limit: time.Minute, last: now}
	look := func(after, stalled time.Duration) time.Duration {
		now = now.Add(after)
		return h.add(now, stalled)
	}
	if got := look(time.Hour, time.Hour); got != 0 {
		t.Errorf("thawed after an hour: hung for %v", got)
	}
	if look(pulseEvery, 0); h.hung != 0 {
		t.Errorf("the write has ended: %v", h.hung)
	}
	for stalled := pulseEvery; stalled <= time.Minute; stalled += pulseEvery {
		if got := look(pulseEvery, stalled); got != 0 {
			t.Fatalf("hung after %v: %v", stalled, got)
		}
	}
	if got := look(pulseEvery, time.Minute+pulseEvery); got != time.Minute+pulseEvery {
		t.Errorf("after more than a minute: %v", got)
	}
	h.limit = 0
	if got := look(pulseEvery, 2*time.Minute); got != 0 {
		t.Errorf("without a limit: %v", got)
	}
}
