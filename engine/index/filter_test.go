package index

import (
	"encoding/binary"
	"testing"
)

// The filter grows with what is remembered: it denies no id that is, rarely claims one that is not, and forgets from the old end.
func TestFilterGrows(t *testing.T) {
	id := func(n int) (id [16]byte) {
		binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
		return id
	}
	var f idFilter
	const ids = 100_000
	for n := range ids {
		f.add(uint64(n), id(n))
	}
	rooms := ""
	for _, s := range f.segments {
		rooms += string('a' + rune(len(s.bits)*64/10/firstIDs/4)) // a, b, e, q
	}
	if rooms != "abeqq" {
		t.Errorf("rooms %s", rooms)
	}
	wrong := 0
	for n := range ids {
		if !f.has(id(n)) {
			t.Fatalf("id %d is denied", n)
		}
		if f.has(id(ids + n)) {
			wrong++
		}
	}
	if wrong > ids*4/100 { // each segment errs on one in a hundred, when full
		t.Errorf("%d of %d ids are claimed that were never added", wrong, ids)
	}
	f.expire(firstIDs)
	if len(f.segments) != 4 || f.has(id(0)) && f.has(id(1)) && f.has(id(2)) && f.has(id(3)) {
		t.Errorf("%d segments after the first had left the window", len(f.segments))
	}
}
