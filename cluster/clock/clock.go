// Package clock is a node's wall clock: what it stamps on mail, commands and files, and holds against the stamps of others and of
// its own past. It can be set wrong on purpose, as a machine's clock can be wrong, to see that nothing depends on it being right.
//
// Invariants: readings have no monotonic part, so the difference of two shows a jump between them, as it does across
// machines. Waits, deadlines and the lengths of things do not come here: they use package time, whose clock never jumps. Nothing is kept
// across a restart.
package clock

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// MaxOffset bounds how wrong a clock can be, either way.
const MaxOffset = 10 * 365 * 24 * time.Hour

// Clock is the system's clock and an offset. A nil one and the zero value are the system's. It is safe for concurrent use.
type Clock struct{ offset atomic.Int64 }

// Now is the time.
func (c *Clock) Now() time.Time { return c.At(time.Now()) }

// At is what the clock shows at a moment by the system's.
func (c *Clock) At(t time.Time) time.Time {
	t = t.Round(0)
	if c == nil {
		return t
	}
	return t.Add(time.Duration(c.offset.Load()))
}

// Since is the time from t to now, both by the wall.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t.Round(0)) }

// Set makes the clock wrong by so much, or with 0 right.
func (c *Clock) Set(offset time.Duration) error {
	if offset < -MaxOffset || offset > MaxOffset {
		return fmt.Errorf("clock offset %v: expected %v at most, either way", offset, MaxOffset)
	}
	c.offset.Store(int64(offset))
	return nil
}

// maxLine bounds what Follow reads at a time, in bytes.
const maxLine = 256

// Line is what Follow understands: "clock 1h0m0s".
func Line(offset time.Duration) string { return fmt.Sprintf("clock %v\n", offset) }

// Follow sets the clock by the lines that come from r, a supervisor's pipe, until that ends, which gives nil. A line that is none
// of Line's is an error.
func (c *Clock) Follow(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine)
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), "clock ")
		offset, err := time.ParseDuration(value)
		if !ok || err != nil {
			return fmt.Errorf("supervisor said %q: expected clock OFFSET", lines.Text())
		}
		if err := c.Set(offset); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("listen to the supervisor: %w", err)
	}
	return nil
}
