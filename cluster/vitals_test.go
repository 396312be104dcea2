package cluster

import (
	"testing"
	"time"

	"hongyan/engine/journal"
)

// A disk is watched for a minute in which a share of its writes takes long, then one write hangs.
func TestPulse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		usual  time.Duration
		late   time.Duration // one write in every
		every  int           // 0: none
		hangs  time.Duration
		ill    bool
		before bool // whether it was ill before the hang at any time
	}{
		{name: "hangs", usual: time.Millisecond, hangs: 150 * time.Millisecond, ill: true},
		{name: "a short hang", usual: time.Millisecond, hangs: 100 * time.Millisecond},
		{name: "often late", usual: 2 * time.Millisecond, late: 110 * time.Millisecond, every: 50, hangs: 130 * time.Millisecond},
		{name: "often late, hangs", usual: 2 * time.Millisecond, late: 110 * time.Millisecond, every: 50, hangs: 200 * time.Millisecond, ill: true},
		{name: "hung before, hangs", usual: time.Millisecond, late: 2 * time.Second, every: 100, hangs: 150 * time.Millisecond, ill: true, before: true},
		{name: "late tail", usual: time.Millisecond, late: 200 * time.Millisecond, every: 150, hangs: 230 * time.Millisecond, before: true},
		{name: "late tail, hangs", usual: time.Millisecond, late: 200 * time.Millisecond, every: 150, hangs: 300 * time.Millisecond, ill: true, before: true},
		{name: "slow disk", usual: 80 * time.Millisecond, hangs: 150 * time.Millisecond},
		{name: "slow disk hangs", usual: 80 * time.Millisecond, hangs: 230 * time.Millisecond, ill: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(0, 0)
			p := pulse{looked: now}
			var s journal.Stats
			feel := func(d time.Duration, stalled, longest time.Duration) string {
				now = now.Add(d)
				return p.feel(now, stalled, longest, s)
			}
			before := false
			for i := 1; i <= 1200; i++ {
				took := tt.usual
				if tt.every > 0 && i%tt.every == 0 {
					took = tt.late
				}
				if took > pulseEvery && feel(pulseEvery, took-time.Millisecond, 0) != "" {
					before = true
				}
				s.Frames++
				s.Busy += took
				if feel(pulseEvery, 0, took) != "" {
					before = true
				}
			}
			if before != tt.before {
				t.Errorf("ill before the hang: %v", before)
			}
			why := ""
			for d := time.Duration(0); d <= tt.hangs; d += 10 * time.Millisecond {
				if why = feel(10*time.Millisecond, d, 0); why != "" {
					break
				}
			}
			if (why != "") != tt.ill {
				t.Errorf("says %q of a write that has taken %v", why, tt.hangs)
			}
		})
	}
}
