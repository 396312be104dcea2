package index

import (
	"encoding/binary"
	"fmt"
)

// idFilter knows most ids that are not remembered, so that a command proposed for the first time, nearly every one, costs no search through
// the tables. It is a row of Bloom filters (Bloom 1970), oldest first, each for some ids in the order they were remembered; a
// filter goes when all its ids have left the window. The first is small and each of the next four times as large, up to segmentIDs: most
// shards of many see few commands. It is built from the lists of ids at the first Recall, and dropped (zero
// value) when a Txn is discarded or the shard replaced.
type idFilter struct {
	built    bool
	segments []*filterSegment
}

const (
	firstIDs      = 1 << 10
	segmentIDs    = 1 << 16
	segmentProbes = 7 // with ten bits an id: about one miss in a hundred is looked up in vain
)

type filterSegment struct {
	ids  int
	room int    // for so many ids
	last uint64 // bucket of its newest id
	bits []uint64
}

func newSegment(room int) *filterSegment {
	return &filterSegment{room: room, bits: make([]uint64, room*10/64)}
}

// probes calls fn with the bits of an id, in a filter of so many words, until it returns false, and says whether it never did.
func probes(id [16]byte, words int, fn func(word, bit uint64) bool) bool {
	h := binary.BigEndian.Uint64(id[:])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(id[8:])
	h = (h ^ h>>31) * 0xbf58476d1ce4e5b9 // the mixing steps of SplitMix64 (Steele, Lea, Flood 2014)
	h = (h ^ h>>29) * 0x94d049bb133111eb
	step := h>>32 | 1
	for range segmentProbes {
		at := (h & 0xffffffff) * uint64(words) * 64 >> 32
		if !fn(at/64, 1<<(at%64)) {
			return false
		}
		h += step
	}
	return true
}

func (f *idFilter) add(bucket uint64, id [16]byte) {
	n := len(f.segments)
	if n == 0 {
		f.segments = append(f.segments, newSegment(firstIDs))
		n++
	} else if full := f.segments[n-1]; full.ids == full.room {
		f.segments = append(f.segments, newSegment(min(4*full.room, segmentIDs)))
		n++
	}
	s := f.segments[n-1]
	s.ids++
	s.last = bucket
	probes(id, len(s.bits), func(word, bit uint64) bool { s.bits[word] |= bit; return true })
}

// has says whether id may be remembered; false is certain.
func (f *idFilter) has(id [16]byte) bool {
	for _, s := range f.segments {
		if probes(id, len(s.bits), func(word, bit uint64) bool { return s.bits[word]&bit != 0 }) {
			return true
		}
	}
	return false
}

// expire drops the filters of which every id is in a bucket below end.
func (f *idFilter) expire(end uint64) {
	for len(f.segments) > 0 && f.segments[0].last < end {
		f.segments = f.segments[1:]
	}
}

// filter gives the shard's filter, built if need be.
func (t *Txn) filter() (*idFilter, error) {
	f := &t.s.filter
	if f.built {
		return f, nil
	}
	prefix := t.k.root(tagExpiry)
	err := t.q.scanPrefix(prefix, func(key, value []byte) error {
		ids, err := decodeIDs(value)
		if err != nil || len(key) != len(prefix)+8 {
			return t.q.corrupt(key, fmt.Sprint("list of ids: ", err))
		}
		for ; len(ids) > 0; ids = ids[16:] {
			f.add(binary.BigEndian.Uint64(key[len(prefix):]), [16]byte(ids))
		}
		return nil
	})
	if err != nil {
		*f = idFilter{}
		return nil, err
	}
	f.built = true
	return f, nil
}
