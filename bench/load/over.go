package load

import "time"

// Over counts the successes that took longer than d, as exactly as the histogram is: to three digits.
func (r *Recorder) Over(d time.Duration) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := int64(0)
	for _, bar := range r.whole.Distribution() {
		if bar.From > d.Microseconds() {
			n += bar.Count
		}
	}
	return n
}
