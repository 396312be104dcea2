package clock

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestJumpsShowOnlyByTheWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		before := c.Now()
		time.Sleep(time.Second)
		if d := c.Now().Sub(before); d != time.Second {
			t.Errorf("a second took %v", d)
		}
		if err := c.Set(-time.Hour); err != nil {
			t.Fatal(err)
		}
		if d := c.Since(before); d != time.Second-time.Hour {
			t.Errorf("after a jump back %v have gone by", d)
		}
		if c.Set(MaxOffset+1) == nil || c.Set(-MaxOffset-1) == nil {
			t.Error("an offset out of bounds was taken")
		}
		if d := (*Clock)(nil).Since(before); d != time.Second {
			t.Errorf("the system's clock: %v", d)
		}
	})
}

func TestFollow(t *testing.T) {
	tests := []struct {
		lines string
		want  time.Duration
		err   string
	}{
		{"", 0, ""},
		{Line(time.Hour) + Line(-24*time.Hour), -24 * time.Hour, ""},
		{Line(time.Hour) + "stop\n" + Line(time.Minute), time.Hour, `supervisor said "stop"`},
		{"clock later\n", 0, `supervisor said "clock later"`},
		{Line(2 * MaxOffset), 0, "clock offset"},
		{"clock " + strings.Repeat("0", 2*maxLine), 0, "too long"},
	}
	for _, tt := range tests {
		var c Clock
		err := c.Follow(strings.NewReader(tt.lines))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %v, want %q", tt.lines, err, tt.err)
		}
		if got := time.Duration(c.offset.Load()); got != tt.want {
			t.Errorf("%q: offset %v, want %v", tt.lines, got, tt.want)
		}
	}
}

func FuzzFollow(f *testing.F) {
	f.Add(Line(time.Hour))
	f.Fuzz(func(t *testing.T, s string) {
		var c Clock
		_ = c.Follow(strings.NewReader(s)) // must neither hang nor leave the bounds
		if got := time.Duration(c.offset.Load()); got > MaxOffset || got < -MaxOffset {
			t.Error(got)
		}
	})
}
