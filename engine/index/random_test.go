package index

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/effort"
	"hongyan/engine/volume"
)

// Every command of random logs does to the index what it does to the model, and a View shows the same mailboxes.
func TestRandomLogsAgainstModel(t *testing.T) {
	for seed := range uint64(effort.Times(5, 40)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			db := openTest(t, vfs.NewMem())
			defer closeTest(t, db)
			s, m := db.Shard(3), newModel()
			for i, e := range randomScript(r, 300) {
				m.index = e.index
				entry(t, s, e.index, func(tx *Txn) {
					for _, c := range e.commands {
						if got, want := c.real(tx), c.model(m); got != want {
							t.Fatalf("entry %d: %+v\n got %s\nwant %s", e.index, c, got, want)
						}
					}
				})
				if i%10 == 9 {
					compare(t, r, s, m)
				}
			}
			compare(t, r, s, m)
		})
	}
}

func compare(t *testing.T, r *rand.Rand, s *Shard, m *model) {
	t.Helper()
	v := s.View()
	defer func() { must(t, v.Close()) }()
	refs := map[volume.ID]map[uint64]bool{}
	for account, a := range m.accounts {
		var want []Mailbox
		for _, name := range slices.Sorted(maps.Keys(a.boxes)) {
			b := a.boxes[name]
			want = append(want, b.mailbox(name, a.subscribed[name]))
			compareMessages(t, r, v, account, b)
			compareChanges(t, r, v, account, b)
			for _, msg := range b.messages {
				if refs[msg.Ref.Volume] == nil {
					refs[msg.Ref.Volume] = map[uint64]bool{}
				}
				refs[msg.Ref.Volume][msg.Ref.Record] = true
			}
		}
		got, err := v.Mailboxes(account)
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("account %d:\n got %+v\nwant %+v", account, got, want)
		}
		for _, mb := range want {
			one, err := v.MailboxByName(account, mb.Name)
			must(t, err)
			if !reflect.DeepEqual(one, mb) {
				t.Fatalf("got %+v want %+v", one, mb)
			}
		}
		used, err := v.Usage(account)
		must(t, err)
		if used != a.usage() {
			t.Fatalf("account %d holds %+v, want %+v", account, used, a.usage())
		}
		subs, err := v.Subscriptions(account)
		must(t, err)
		if !slices.Equal(subs, slices.Sorted(maps.Keys(a.subscribed))) {
			t.Fatalf("subscriptions %q, want %v", subs, a.subscribed)
		}
	}
	for id := volume.ID(0); id < 5; id++ {
		var got []uint64
		must(t, v.References(id, func(r Reference) error {
			if len(got) == 0 || got[len(got)-1] != r.Record {
				got = append(got, r.Record)
			}
			return nil
		}))
		if want := slices.Sorted(maps.Keys(refs[id])); !slices.Equal(got, want) {
			t.Fatalf("references of %d: %v, want %v", id, got, want)
		}
	}
}

func compareMessages(t *testing.T, r *rand.Rand, v *View, account uint64, b *modelBox) {
	t.Helper()
	uids, err := v.UIDs(account, b.id)
	must(t, err)
	if !slices.Equal(uids.ToArray(), b.pick(nil)) && uids.GetCardinality()+uint64(len(b.messages)) > 0 {
		t.Fatalf("UIDs %v, want %v", uids.ToArray(), b.pick(nil))
	}
	for flag := FlagSeen; flag <= FlagDraft; flag <<= 1 {
		got, err := v.Flagged(account, b.id, flag)
		must(t, err)
		want := roaring.New()
		for uid, msg := range b.messages {
			if msg.Flags.System&flag != 0 {
				want.Add(uid)
			}
		}
		if !got.Equals(want) {
			t.Fatalf("flag %x: %v, want %v", flag, got, want)
		}
	}
	ask := randomUIDs(r)
	var got []uint32
	must(t, v.Messages(account, b.id, ask, WantFlags|WantImmutable|WantSummary, func(m *Message) error {
		got = append(got, m.UID)
		msg := b.messages[m.UID]
		if msg == nil {
			t.Fatalf("message %d does not exist", m.UID)
		}
		want := Message{UID: m.UID, ModSeq: msg.modseq, Flags: b.flags(msg), Date: msg.Date, Zone: msg.Zone, Size: msg.Size, Ref: msg.Ref, Summary: msg.Summary, SaveDate: msg.SaveDate, CopyDate: msg.copied}
		if !reflect.DeepEqual(*m, want) {
			t.Fatalf("got %+v\nwant %+v", *m, want)
		}
		return nil
	}))
	if !slices.Equal(got, b.pick(ask)) {
		t.Fatalf("messages %v of %v, want %v", got, ask, b.pick(ask))
	}
}

// compareChanges pages through the changes since a random modseq.
func compareChanges(t *testing.T, r *rand.Rand, v *View, account uint64, b *modelBox) {
	t.Helper()
	since := uint64(r.IntN(int(b.high) + 2))
	limit := r.IntN(4)
	var changed []uint32
	vanished := roaring.New()
	for from := since; ; {
		c, err := v.Changes(account, b.id, from, limit)
		must(t, err)
		for _, f := range c.Changed {
			msg := b.messages[f.UID]
			if msg == nil || msg.modseq != f.ModSeq || !reflect.DeepEqual(b.flags(msg), f.Flags) {
				t.Fatalf("change %+v of %+v", f, msg)
			}
			changed = append(changed, f.UID)
		}
		vanished.Or(c.Vanished)
		if !c.More {
			if c.HighestModSeq != b.high || c.UIDNext != b.next {
				t.Fatalf("%+v, want %d, %d", c, b.high, b.next)
			}
			break
		}
		if c.HighestModSeq <= from {
			t.Fatalf("no progress at %d: %+v", from, c)
		}
		from = c.HighestModSeq
	}
	slices.Sort(changed)
	var want []uint32
	for uid, msg := range b.messages {
		if msg.modseq > since {
			want = append(want, uid)
		}
	}
	slices.Sort(want)
	gone := roaring.New()
	for uid, modseq := range b.vanished {
		if modseq > since {
			gone.Add(uid)
		}
	}
	if !slices.Equal(changed, want) || !vanished.Equals(gone) {
		t.Fatalf("since %d: changed %v, want %v; vanished %v, want %v", since, changed, want, vanished, gone)
	}
}

// The same log gives the same bytes however its entries are grouped, across close and open, crash and replay, and Save and Load
// into another database (invariants 1 and 2). Small windows make results expire and graves outlive their entries.
func TestSameLogSameBytes(t *testing.T) {
	for seed := range uint64(effort.Times(3, 33)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			script := randomScript(r, 250)
			want := map[uint64][]byte{0: nil}
			ref := tiny(openTest(t, vfs.NewMem()))
			for _, e := range script {
				entry(t, ref.Shard(5), e.index, func(tx *Txn) { run(tx, e) })
				want[e.index] = dump(t, ref.Shard(5))
			}
			closeTest(t, ref)
			regroup(t, r, script, want)
		})
	}
}

func tiny(db *DB) *DB {
	db.window, db.sweep = 20, 3
	return db
}

func run(tx *Txn, e logEntry) {
	for _, c := range e.commands {
		c.real(tx)
	}
}

func regroup(t *testing.T, r *rand.Rand, script []logEntry, want map[uint64][]byte) {
	fs := vfs.NewCrashableMem()
	db := tiny(openTest(t, fs))
	for next := 0; next < len(script); {
		s := db.Shard(5)
		group := script[next:min(len(script), next+1+r.IntN(20))]
		tx := s.Begin()
		for _, e := range group {
			tx.SetIndex(e.index)
			run(tx, e)
		}
		if r.IntN(6) == 0 { // as if the process had changed its mind
			tx.Discard()
			continue
		}
		last := group[len(group)-1].index
		must(t, tx.Commit(last))
		next += len(group)
		check(t, s, last, want)
		switch r.IntN(8) {
		case 0:
			closeTest(t, db)
			db = tiny(openTest(t, fs))
			check(t, db.Shard(5), last, want)
		case 1:
			fs, db = crash(t, r, fs, db)
			applied, err := db.Shard(5).Applied()
			must(t, err)
			check(t, db.Shard(5), applied, want)
			next = slices.IndexFunc(script, func(e logEntry) bool { return e.index == applied }) + 1
		case 2:
			fs, db = transplant(t, s, db)
			check(t, db.Shard(5), last, want)
		case 3:
			must(t, s.FlushTo(last))
			if s.Flushed() != last {
				t.Fatalf("flushed %d, want %d", s.Flushed(), last)
			}
		}
	}
	closeTest(t, db)
}

func check(t *testing.T, s *Shard, applied uint64, want map[uint64][]byte) {
	t.Helper()
	if got, err := s.Applied(); err != nil || got != applied {
		t.Fatalf("applied %d, %v; want %d", got, err, applied)
	}
	if !bytes.Equal(dump(t, s), want[applied]) {
		t.Fatalf("bytes differ at %d:\n%s", applied, describe(t, s))
	}
}

// crash cuts the power: what was not synced is lost, or some of it.
func crash(t *testing.T, r *rand.Rand, fs *vfs.MemFS, db *DB) (*vfs.MemFS, *DB) {
	t.Helper()
	flushed := db.Shard(5).Flushed()
	after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
	closeTest(t, db)
	db = tiny(openTest(t, after))
	if applied, err := db.Shard(5).Applied(); err != nil || applied < flushed {
		t.Fatalf("applied %d, %v after a crash; %d was flushed", applied, err, flushed)
	}
	return after, db
}

// transplant moves the shard to a new database by Save and Load.
func transplant(t *testing.T, s *Shard, db *DB) (*vfs.MemFS, *DB) {
	t.Helper()
	var stream bytes.Buffer
	applied, err := s.Save(&stream)
	must(t, err)
	fs := vfs.NewCrashableMem()
	other := tiny(openTest(t, fs))
	must(t, other.Shard(5).Load(&stream))
	if got := other.Shard(5).Flushed(); got != applied || stream.Len() != 0 {
		t.Fatalf("flushed %d after load of %d, %d bytes left", got, applied, stream.Len())
	}
	closeTest(t, db)
	return fs, other
}
