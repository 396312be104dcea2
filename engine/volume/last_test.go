package volume

import (
	"errors"
	"testing"
)

// Offsets and record numbers tell the same, of a volume that is written, sealed, cut, and read back.
func TestLastBefore(t *testing.T) {
	set := newSet(t, memFS(t))
	defer set.Close()
	v, err := set.Create(header(1), nil, nil)
	must(t, err)
	ends := []int64{fileHeaderSize}
	for range 20 {
		put(t, v, "meta", []byte("some bytes"))
		ends = append(ends, v.Durable())
	}
	check := func(what string, last int) {
		t.Helper()
		for n, end := range ends[:last+1] {
			if got, err := v.LastBefore(end); err != nil || got != uint64(n) {
				t.Errorf("%s: last record before %d is %d, %v; want %d", what, end, got, err, n)
			}
		}
	}
	check("open", 20)
	for n, end := range ends {
		if got, err := v.EndOf(uint64(n)); n > 0 && (err != nil || got != end) {
			t.Errorf("record %d ends at %d, %v; want %d", n, got, err, end)
		}
	}
	for _, n := range []uint64{0, 21} {
		if _, err := v.EndOf(n); !errors.Is(err, ErrNotFound) {
			t.Errorf("end of record %d: %v", n, err)
		}
	}
	must(t, v.Seal())
	check("sealed", 20)
	must(t, v.Truncate(ends[12]))
	check("cut", 12)
	must(t, v.Seal())
	v, err = set.Reopen(1)
	must(t, err)
	check("read back", 12)
}

// Of a damaged end nobody knows how many records it has: the most that there can be is said.
func TestLastBeforeDamage(t *testing.T) {
	damage := []Span{{Start: 1000, End: 2000}}
	for length, want := range map[int64]uint64{900: 0, 1000: 0, 1160: 2, 2000: 12, 3000: 0} {
		if got := hidden(damage, length); got != want {
			t.Errorf("%d records may be hidden before %d, want %d", got, length, want)
		}
	}
}
