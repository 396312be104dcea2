package imap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/engine/effort"
	"hongyan/frontends/imap/command"
)

// naive is a view as the RFC describes it: a list of UIDs, of which a client believes what it was told.
type naive struct {
	uids []uint32
	gone map[uint32]bool
}

func (n *naive) expunge() (told []uint32) {
	for i := len(n.uids) - 1; i >= 0; i-- {
		if n.gone[n.uids[i]] {
			told = append(told, uint32(i+1))
			n.uids = slices.Delete(n.uids, i, i+1)
		}
	}
	clear(n.gone)
	return told
}

func (n *naive) inSeqs(ranges [][2]uint32) (uids []uint32, ok bool) {
	ok = true
	count := uint32(len(n.uids))
	in := make(map[uint32]bool)
	for _, r := range ranges {
		from, to := r[0], r[1]
		star := to == 0
		if star {
			to = count
			if from == 0 || from > count {
				from = count
			}
		}
		if from == 0 || to > count {
			ok = false
		}
		for i, u := range n.uids {
			if seq := uint32(i + 1); seq >= from && seq <= to {
				in[u] = true
			}
		}
	}
	return sortedKeys(in), ok
}

func (n *naive) inUIDs(ranges [][2]uint32) []uint32 {
	in := make(map[uint32]bool)
	if len(n.uids) == 0 {
		return nil
	}
	last := n.uids[len(n.uids)-1]
	for _, r := range ranges {
		from, to := r[0], r[1]
		if to == 0 {
			to = last
			if from == 0 {
				from = last
			}
			in[last] = true
		}
		for _, u := range n.uids {
			if u >= from && u <= to {
				in[u] = true
			}
		}
	}
	return sortedKeys(in)
}

func sortedKeys(m map[uint32]bool) []uint32 {
	var out []uint32
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestViewAgainstModel(t *testing.T) {
	for seed := range uint64(effort.Times(12, 50)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			modelRun(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func modelRun(t *testing.T, rng *rand.Rand) {
	next := uint32(1)
	fresh := func() *roaring.Bitmap {
		b := roaring.New()
		for range rng.IntN(20) {
			next += 1 + uint32(rng.IntN(3))*uint32(rng.IntN(50_000))
			b.Add(next)
		}
		return b
	}
	start := fresh()
	v := newView(start, 1)
	m := &naive{uids: start.ToArray(), gone: map[uint32]bool{}}
	for step := range 400 {
		switch rng.IntN(5) {
		case 0:
			b := fresh()
			if err := v.arrive(b); err != nil {
				t.Fatal(err)
			}
			m.uids = append(m.uids, b.ToArray()...)
		case 1:
			b := roaring.New()
			for range rng.IntN(8) {
				u := uint32(rng.IntN(int(next) + 5))
				if len(m.uids) > 0 && rng.IntN(3) > 0 {
					u = m.uids[rng.IntN(len(m.uids))]
				}
				b.Add(u)
				if slices.Contains(m.uids, u) {
					m.gone[u] = true
				}
			}
			v.vanish(b)
		case 2:
			var told []uint32
			if err := v.expunge(func(seq uint32) error { told = append(told, seq); return nil }); err != nil {
				t.Fatal(err)
			}
			if want := m.expunge(); !slices.Equal(told, want) {
				t.Fatalf("step %d: told EXPUNGE %v, want %v", step, told, want)
			}
		default:
			compareSets(t, rng, &v, m, next)
		}
		compareNumbers(t, &v, m)
	}
}

func compareNumbers(t *testing.T, v *view, m *naive) {
	t.Helper()
	if int(v.count()) != len(m.uids) {
		t.Fatalf("count %d, want %d", v.count(), len(m.uids))
	}
	w := walker{v: v}
	for i, u := range m.uids {
		seq := uint32(i + 1)
		if v.seq(u) != seq || v.uid(seq) != u {
			t.Fatalf("message %d: seq %d, uid of %d is %d", u, v.seq(u), seq, v.uid(seq))
		}
		if i%3 != 1 || i > 100 {
			if got := w.seqOf(u); got != seq {
				t.Fatalf("walker: message %d has %d, want %d", u, got, seq)
			}
		}
	}
	if v.uid(0) != 0 || v.uid(uint32(len(m.uids)+1)) != 0 {
		t.Fatal("a number that no message has gave a UID")
	}
}

func compareSets(t *testing.T, rng *rand.Rand, v *view, m *naive, next uint32) {
	t.Helper()
	var rs [][2]uint32
	var seqs goimap.SeqSet
	var uids goimap.UIDSet
	limit := len(m.uids) + 3
	byUID := rng.IntN(2) == 0
	if byUID {
		limit = int(next) + 3
	}
	for range 1 + rng.IntN(4) {
		a, b := uint32(1+rng.IntN(limit)), uint32(1+rng.IntN(limit))
		if a > b {
			a, b = b, a
		}
		switch rng.IntN(4) {
		case 0:
			b = a
		case 1:
			b = 0
		case 2:
			if rng.IntN(3) == 0 {
				a, b = 0, 0
			}
		}
		rs = append(rs, [2]uint32{a, b})
		seqs = append(seqs, goimap.SeqRange{Start: a, Stop: b})
		uids = append(uids, goimap.UIDRange{Start: goimap.UID(a), Stop: goimap.UID(b)})
	}
	if byUID {
		found, want := v.fromUIDs(uids), m.inUIDs(rs)
		if got := found.ToArray(); !slices.Equal(got, want) {
			t.Fatalf("UIDs %v of %v: %v, want %v", rs, m.uids, got, want)
		}
		found.Add(next + 7) // which has no number
		for i, uid := range want {
			want[i] = uint32(slices.Index(m.uids, uid) + 1)
		}
		if got := v.toSeqs(found).ToArray(); !slices.Equal(got, want) {
			t.Fatalf("numbers of UIDs %v of %v: %v, want %v", rs, m.uids, got, want)
		}
		return
	}
	got, ok := v.fromSeqs(seqs)
	want, wantOK := m.inSeqs(rs)
	if ok != wantOK {
		t.Fatalf("numbers %v of %d: ok %v, want %v", rs, len(m.uids), ok, wantOK)
	}
	if ok && !slices.Equal(got.ToArray(), want) {
		t.Fatalf("numbers %v of %d: %v, want %v", rs, len(m.uids), got.ToArray(), want)
	}
}

// TestCountNeedsNoNumbers: of a million matches only those that are told get numbers.
func TestCountNeedsNoNumbers(t *testing.T) {
	v := newView(roaring.New(), 1)
	v.uids.AddRange(1, 1_000_001)
	v.uids.Remove(1)
	asked := uint64(0)
	r := inSet(v.uids, func(uids *roaring.Bitmap) *roaring.Bitmap {
		asked += uids.GetCardinality()
		return v.toSeqs(uids)
	})
	page := r.page(&command.Page{From: 1, To: 3, Last: true}).String()
	if r.count != 999_999 || r.first != 1 || r.last != 999_999 || page != "999997:999999" || asked != 5 {
		t.Errorf("count %d, first %d, last %d, page %s, numbers asked for %d", r.count, r.first, r.last, page, asked)
	}
	if all := r.all().String(); all != "1:999999" {
		t.Errorf("all: %s", all)
	}
}

func TestViewRefusesDisorder(t *testing.T) {
	v := newView(roaring.BitmapOf(5, 9), 1)
	if err := v.arrive(roaring.BitmapOf(7)); !errors.Is(err, errViewOrder) {
		t.Fatalf("got %v", err)
	}
	if v.count() != 2 {
		t.Fatal("the view changed")
	}
}

func TestSetsRoundTrip(t *testing.T) {
	for _, list := range [][]uint32{nil, {1}, {1, 2, 3}, {1, 3, 4, 5, 9}, {70000, 70001, 70002, 4294967294}} {
		b := roaring.BitmapOf(list...)
		set := seqSet(b)
		if got, _ := set.Nums(); len(got) != len(list) {
			t.Errorf("%v: %v", list, got)
		}
		if len(list) > 0 && uidList(list).String() != set.String() {
			t.Errorf("%v: %s and %s", list, uidList(list), set)
		}
	}
	if got := uidList([]uint32{5, 6, 7, 3, 4, 9}).String(); got != "5:7,3:4,9" {
		t.Errorf("order of COPYUID lost: %s", got)
	}
}

func TestChunks(t *testing.T) {
	b := roaring.New()
	b.AddRange(1, 1001)
	for _, n := range []int{1, 7, 999, 1000, 5000} {
		all, calls := roaring.New(), 0
		err := chunks(b, n, func(some *roaring.Bitmap) error {
			if some.GetCardinality() > uint64(n) || all.Intersects(some) {
				t.Fatal("bad chunk")
			}
			all.Or(some)
			calls++
			return nil
		})
		if err != nil || !all.Equals(b) || calls != (999+n)/n {
			t.Errorf("by %d: %d calls, %d messages, %v", n, calls, all.GetCardinality(), err)
		}
	}
	if err := chunks(roaring.New(), 5, func(*roaring.Bitmap) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
}
