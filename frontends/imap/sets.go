package imap

import (
	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"
)

// fromSeqs is the set of UIDs that a set of sequence numbers means. ok is false when it names a number that no
// message has (RFC 9051 section 6.4.8 makes that BAD); "n:*" beyond the end is forgiven, as "*:n".
func (v *view) fromSeqs(set goimap.SeqSet) (uids *roaring.Bitmap, ok bool) {
	uids, ok = roaring.New(), true
	n := v.count()
	for _, r := range set {
		from, to := r.Start, r.Stop
		if to == 0 { // "*" or "n:*"; "*" is 0 in a set
			to = n
			if from == 0 || from > n {
				from = n
			}
		}
		if from == 0 || to > n {
			ok = false
			to = min(to, n)
		}
		if from == 0 || from > to {
			continue
		}
		uids.AddRange(uint64(v.uid(from)), uint64(v.uid(to))+1)
	}
	uids.And(v.uids)
	return uids, ok
}

// fromUIDs is the set of UIDs in the view that a UID set means. Unknown ones are ignored (RFC 9051 section 6.4.9).
func (v *view) fromUIDs(set goimap.UIDSet) *roaring.Bitmap {
	last := v.last()
	if last == 0 {
		return roaring.New()
	}
	uids := uidRanges(set, last)
	uids.And(v.uids)
	return uids
}

// uidRanges is the numbers in a UID set up to last, which is what "*" stands for.
func uidRanges(set goimap.UIDSet, last uint32) *roaring.Bitmap {
	uids := roaring.New()
	for _, r := range set {
		from, to := uint32(r.Start), uint32(r.Stop)
		if to == 0 { // "*" or "n:*": the last message is always in it
			to = last
			if from == 0 || from > last {
				from = last
			}
		}
		if to = min(to, last); from <= to {
			uids.AddRange(uint64(from), uint64(to)+1)
		}
	}
	return uids
}

// ranges calls fn for each run of adjacent numbers.
func ranges(b *roaring.Bitmap, fn func(from, to uint32)) {
	it := b.ManyIterator()
	buf := make([]uint32, 256)
	var from, to uint32
	open := false
	for n := it.NextMany(buf); n > 0; n = it.NextMany(buf) {
		for _, x := range buf[:n] {
			if open && x == to+1 {
				to = x
				continue
			}
			if open {
				fn(from, to)
			}
			from, to, open = x, x, true
		}
	}
	if open {
		fn(from, to)
	}
}

// uidList is a list as a UID set, in its order: COPYUID pairs the two sets' numbers one by one.
func uidList(uids []uint32) goimap.UIDSet {
	set := goimap.UIDSet{}
	for _, u := range uids {
		uid := goimap.UID(u)
		if n := len(set); n > 0 && set[n-1].Stop+1 == uid {
			set[n-1].Stop = uid
			continue
		}
		set = append(set, goimap.UIDRange{Start: uid, Stop: uid})
	}
	return set
}

// toSeqs turns UIDs of the view into sequence numbers: UIDs that follow each other have numbers that do.
func (v *view) toSeqs(uids *roaring.Bitmap) *roaring.Bitmap {
	seqs := roaring.New()
	w := walker{v: v}
	ranges(roaring.And(uids, v.uids), func(from, to uint32) {
		first := uint64(w.seqOf(from))
		seqs.AddRange(first, first+uint64(to-from)+1)
	})
	return seqs
}

// seqSet is a bitmap of sequence numbers as a set.
func seqSet(b *roaring.Bitmap) goimap.SeqSet {
	set := goimap.SeqSet{}
	ranges(b, func(from, to uint32) { set = append(set, goimap.SeqRange{Start: from, Stop: to}) })
	return set
}

// chunks splits a set into sets of at most n, in order.
func chunks(b *roaring.Bitmap, n int, fn func(*roaring.Bitmap) error) error {
	if b.GetCardinality() <= uint64(n) {
		if b.IsEmpty() {
			return nil
		}
		return fn(b)
	}
	it := b.ManyIterator()
	buf := make([]uint32, n)
	for {
		k := it.NextMany(buf)
		if k == 0 {
			return nil
		}
		if err := fn(roaring.BitmapOf(buf[:k]...)); err != nil {
			return err
		}
	}
}
