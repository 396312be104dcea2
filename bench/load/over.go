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

// Silent is how much of the time between the first success and the last lies in windows of that width in which none came.
func (r *Recorder) Silent(window time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.success[0].IsZero() {
		return 0
	}
	slices, width := r.slices.closed(), r.slices.width
	per := max(int(window/width), 1)
	first, last := int(r.success[0].Sub(r.began)/width), int(r.success[1].Sub(r.began)/width)
	silent := 0
	for i := first; i <= last; i += per {
		end := min(i+per, last+1, len(slices))
		any := false
		for _, s := range slices[min(i, end):end] {
			any = any || s.successes > 0
		}
		if !any {
			silent += end - i
		}
	}
	return time.Duration(silent) * width
}
