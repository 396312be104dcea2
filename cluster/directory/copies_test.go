package directory

import (
	"slices"
	"testing"

	"hongyan/cluster/replica"
)

// Copies change one at a time, of the entry that the decision was made on, and never to fewer than two.
func TestCopies(t *testing.T) {
	d := newTables(t)
	d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	epoch := uint64(1)
	add := func(node string) *Result { return d.do(Command{AddCopy: &AddCopy{ID: 1, Node: node, Epoch: epoch}}) }
	remove := func(node string) *Result {
		return d.do(Command{RemoveCopy: &RemoveCopy{ID: 1, Node: node, Epoch: epoch}})
	}
	if add("c").Refused == "" {
		t.Error("a copy of an open volume")
	}
	d.do(Command{SealVolume: &SealVolume{ID: 1, Length: 9000}})
	epoch = 2
	for _, step := range []struct {
		what string
		do   func(string) *Result
		node string
		ok   bool
		want []string
	}{
		{"one of two", remove, "a", false, nil},
		{"held", add, "b", false, nil},
		{"no name", add, "", false, nil},
		{"a third", add, "c", true, []string{"a", "b", "c"}},
		{"not held", remove, "d", false, nil},
		{"a fourth", add, "d", true, []string{"a", "b", "c", "d"}},
		{"a fifth", add, "e", false, nil},
		{"the primary", remove, "a", true, []string{"b", "c", "d"}},
		{"another", remove, "c", true, []string{"b", "d"}},
		{"one of the last two", remove, "d", false, nil},
	} {
		r := step.do(step.node)
		if (r.Refused == "") != step.ok || step.ok && (!slices.Equal(r.Volume.Copies, step.want) || r.Volume.Primary != step.want[0] || r.Volume.Epoch != epoch+1) {
			t.Fatalf("%s: %+v", step.what, r)
		}
		if step.ok {
			epoch++
		}
	}
	epoch--
	if add("a").Refused == "" {
		t.Error("of an entry that has changed")
	}
	if r := d.do(Command{AddCopy: &AddCopy{ID: 9, Node: "a", Epoch: 1}}); r.Refused == "" {
		t.Error("of a volume that is not there")
	}
}

// A compaction that was begun before the copies changed can no longer be entered, and neither are cold volumes' copies moved.
func TestCopiesAndCompaction(t *testing.T) {
	d := newTables(t)
	d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	d.do(Command{SealVolume: &SealVolume{ID: 1, Length: 9000}})
	r := d.do(Command{AddCopy: &AddCopy{ID: 1, Node: "c", Epoch: 2}})
	if r.Volume == nil || r.Volume.Attempt != 0 {
		t.Fatalf("no compaction was begun: %+v", r)
	}
	for _, change := range []Command{{RemoveCopy: &RemoveCopy{ID: 1, Node: "a", Epoch: 3}}, {AddCopy: &AddCopy{ID: 1, Node: "d", Epoch: 4}}} {
		begun := d.do(Command{Compact: &Compact{ID: 1}}).Volume
		changed := d.do(change)
		if changed.Refused != "" || !later(*changed.Volume, *begun) {
			t.Fatalf("%+v after %+v", changed, begun)
		}
		if r := d.do(Command{Compacted: &Compacted{ID: 1, Generation: begun.Attempt, Length: 5000}}); r.Refused == "" {
			t.Errorf("entered a generation that not all copies have prepared: %+v", r.Volume)
		}
	}
	begun := d.do(Command{Compact: &Compact{ID: 1}}).Volume
	if r := d.do(Command{Compacted: &Compacted{ID: 1, Generation: begun.Attempt, Length: 5000}}); r.Refused != "" {
		t.Fatalf("a compaction of all copies: %+v", r)
	}
	cold := replica.Cold{Data: 2, Parity: 1, Nodes: []string{"a", "b", "c"}}
	if r := d.do(Command{FreezeVolume: &FreezeVolume{ID: 1, Generation: begun.Attempt, Attempt: begun.Attempt, Cold: cold}}); r.Refused != "" {
		t.Fatalf("freeze: %+v", r)
	}
	if r := d.do(Command{AddCopy: &AddCopy{ID: 1, Node: "e", Epoch: 6}}); r.Refused == "" {
		t.Error("a copy of a cold volume")
	}
}

// later says that of two states of an entry nothing that only grows is less in the first, and something is more.
func later(a, b replica.Entry) bool {
	return a.State >= b.State && a.Epoch >= b.Epoch && a.Attempt >= b.Attempt && a.Generation >= b.Generation && (a.Epoch > b.Epoch || a.Attempt > b.Attempt)
}

// A directory that is made anew names the nodes on which copies were found.
func TestFoundOn(t *testing.T) {
	named := replica.Entry{ID: 1, Primary: "a", Copies: []string{"a", "b"}}
	for _, c := range []struct {
		what  string
		found []string
		want  []string
	}{
		{"as named", []string{"a", "b"}, []string{"a", "b"}},
		{"one is lost", []string{"b"}, []string{"a", "b"}},
		{"nobody said where", nil, []string{"a", "b"}},
		{"one has moved", []string{"b", "c"}, []string{"b", "c"}},
		{"both have", []string{"c", "d"}, []string{"c", "d"}},
		{"one has, the other is lost", []string{"c"}, []string{"a", "b", "c"}},
		{"one was about to", []string{"a", "b", "c"}, []string{"a", "b", "c"}},
	} {
		if e := nameCopies(named, foundOn(named, c.found)); !slices.Equal(e.Copies, c.want) || !slices.Contains(e.Copies, e.Primary) {
			t.Errorf("%s: %v of %s", c.what, e.Copies, e.Primary)
		}
	}
}
