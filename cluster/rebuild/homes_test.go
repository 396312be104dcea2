package rebuild

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/engine/effort"
	"hongyan/engine/index"
)

// step takes one of a move's steps in a live shard.
func (w *world) step(shard uint32, c mailbox.Command) {
	w.t.Helper()
	w.next[shard]++
	if r := w.apply(w.live, w.next[shard], shard, w.randomID(), &c); r.Code != mailbox.OK {
		w.t.Fatalf("%+v: %s", c, r.Message)
	}
}

// move takes an account as far on its way from shard 1 to 2 as there are steps.
func (w *world) move(a directory.Account, steps int) {
	w.t.Helper()
	w.directory(&directory.Command{PlanRelocations: &directory.PlanRelocations{Addresses: []string{a.Address}, Shard: 2}})
	fence := w.directory(&directory.Command{ClaimRelocation: &directory.ClaimRelocation{Account: a.ID}}).Relocation.Fence
	var pairs []index.Pair
	v := w.live.Shard(1).View()
	must(w.t, v.Account(a.ID, func(key, value []byte) error {
		pairs = append(pairs, index.Pair{Key: slices.Clone(key), Value: slices.Clone(value)})
		return nil
	}))
	must(w.t, v.Close())
	half := len(pairs) / 2
	step := func(shard uint32, s mailbox.MoveStep, other uint32) func() {
		return func() {
			w.step(shard, mailbox.Command{Move: &mailbox.Move{Step: s, Account: a.ID, Fence: fence, Shard: other, At: w.next[2]}})
		}
	}
	all := []func(){
		step(2, mailbox.MoveArrive, 1),
		func() {
			w.step(2, mailbox.Command{Import: &mailbox.Import{Account: a.ID, Fence: fence, Puts: pairs[:half]}})
		},
		step(1, mailbox.MoveFreeze, 2),
		func() {
			w.step(2, mailbox.Command{Import: &mailbox.Import{Account: a.ID, Fence: fence, Puts: pairs[half:]}})
		},
		step(1, mailbox.MoveRelease, 2),
		step(2, mailbox.MoveActivate, 1),
		func() {
			w.directory(&directory.Command{EndRelocation: &directory.EndRelocation{Account: a.ID, Fence: fence}})
		},
		step(1, mailbox.MoveDrop, 2),
		func() {
			w.directory(&directory.Command{EndRelocation: &directory.EndRelocation{Account: a.ID, Fence: fence, Done: true}})
		},
	}
	for _, do := range all[:steps] {
		do()
	}
	if steps > 5 {
		w.moved[a.ID] = 2
	}
}

// Accounts that were anywhere on their way when checkpoints were taken, of the directory and of each shard at another time, are rebuilt with all that they
// had, in the shard that the directory says, or in one that there is; and with what came to them and to others between two checkpoints, once.
func TestRebuildOfMoves(t *testing.T) {
	whole := []placement.Group{{Shard: 0}, {Shard: 1}, {Shard: 2}}
	for steps := range 10 {
		for saved := range 8 { // a bit for each shard whose checkpoint is taken again after the move
			if (8*steps+saved)%effort.Of(20, 1, 1) != 0 {
				continue
			}
			for _, groups := range [][]placement.Group{whole, whole[:2]} {
				t.Run(fmt.Sprint(steps, " ", saved, " ", len(groups)), func(t *testing.T) { rebuildMoved(t, steps, saved, groups) })
			}
		}
	}
}

func rebuildMoved(t *testing.T, steps, saved int, groups []placement.Group) {
	w := newWorld(t, uint64(steps)<<3|uint64(saved))
	w.most = 1 // what several got, and one who moved since expunged, may come back
	for range 12 {
		w.deliver()
		w.several()
		w.replace()
		w.change()
	}
	w.most = 6
	some := func() {
		for range 6 {
			if steps < 3 || steps > 5 { // between, it is put again, as another delivery
				w.deliver()
			}
		}
	}
	some()
	w.checkpoint()
	some()
	for _, a := range w.accounts {
		if a.Shard == 1 {
			w.move(a, steps)
		}
	}
	some()
	w.now++
	for shard := range uint32(3) {
		if saved>>shard&1 == 1 {
			w.save(shard)
			some()
		}
	}
	got, report := w.rebuild("/rebuilt", Options{Groups: groups})
	homes := make(map[uint64]uint32)
	v := got.Shard(0).View()
	must(t, directory.EachAccount(v, func(a *directory.Account) error { homes[a.ID] = a.Shard; return nil }))
	must(t, v.Close())
	for _, a := range w.accounts {
		there := a
		there.Shard = homes[a.ID]
		if int(there.Shard) >= len(groups) || there.Shard == 0 {
			t.Fatalf("%s is in shard %d", a.Address, there.Shard)
		}
		if want, have := w.contents(w.expected, a), w.contents(got, there); !reflect.DeepEqual(want, have) {
			t.Errorf("%s in shard %d, which was in %d:\nwant %.900s\ngot  %.900s", a.Address, there.Shard, a.Shard, fmt.Sprint(want), fmt.Sprint(have))
		}
		v := got.Shard(3 - there.Shard).View()
		if list, err := v.Mailboxes(a.ID); len(list) > 0 {
			t.Errorf("%s is in shard %d as well: %v", a.Address, 3-there.Shard, err)
		}
		must(t, v.Close())
	}
	for _, s := range report.Shards {
		if s.Refused+s.Unreadable > 0 {
			t.Errorf("shard %d: %d messages were refused, %d not read", s.Shard, s.Refused, s.Unreadable)
		}
	}
}

// A message for an account and one that is adopted from another shard's checkpoint, which is of another time, comes back for who lacks it, once, and
// not for who expunged it.
func TestRebuildOfSharedDeliveries(t *testing.T) {
	for _, c := range []struct {
		name     string
		expunges uint32 // the shard of who does
		saved    []uint32
		want     [3]int // messages of the account of each shard
	}{
		{name: "the home's checkpoint is newer", saved: []uint32{1}, want: [3]int{1: 1, 2: 1}},
		{name: "the other's is", saved: []uint32{2}, want: [3]int{1: 1, 2: 1}},
		{name: "both are", saved: []uint32{1, 2}, want: [3]int{1: 1, 2: 1}},
		{name: "neither is", want: [3]int{1: 1, 2: 1}},
		{name: "expunged at home, and that is newer", expunges: 1, saved: []uint32{1}, want: [3]int{1: 0, 2: 1}},
		{name: "expunged at home, and both are newer", expunges: 1, saved: []uint32{1, 2}, want: [3]int{1: 0, 2: 1}},
		{name: "expunged by the other, and that is newer", expunges: 2, saved: []uint32{2}, want: [3]int{1: 1, 2: 0}},
		{name: "expunged by the other, and both are newer", expunges: 2, saved: []uint32{1, 2}, want: [3]int{1: 1, 2: 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.checkpoint()
			var two [3]directory.Account
			for _, a := range w.accounts {
				two[a.Shard] = a
			}
			w.deliverTo(two[1], two[2])
			if a := two[c.expunges]; a.ID != 0 {
				set, err := mailbox.EncodeUIDs(roaring.BitmapOf(1))
				must(t, err)
				w.command(a.Shard, w.randomID(), &mailbox.Command{Expunge: &mailbox.Expunge{Account: a.ID, Mailbox: 1, UIDs: set}}, false)
			}
			for _, shard := range c.saved {
				w.save(shard)
			}
			got, report := w.rebuild("/rebuilt", Options{Groups: []placement.Group{{Shard: 0}, {Shard: 1}}})
			v := got.Shard(1).View()
			defer func() { must(t, v.Close()) }()
			for _, a := range two[1:] {
				var n int
				must(t, v.Holders(func(h index.Holder) error {
					if h.Account == a.ID {
						n++
					}
					return nil
				}))
				if n != c.want[a.Shard] {
					t.Errorf("the account of shard %d has %d messages, want %d; %+v", a.Shard, n, c.want[a.Shard], report.Shards)
				}
			}
		})
	}
}
