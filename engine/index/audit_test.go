package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// enterMany gives account 1 messages in INBOX, with some flags, of which a few are gone again. UIDs reach into the second block.
func enterMany(t *testing.T, s *Shard) {
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		for n := range uint64(3) {
			list := make([]NewMessage, 2000)
			for i := range list {
				m := &list[i]
				m.Ref, m.Size, m.Date, m.Summary = testRef(n*2000+uint64(i)), uint64(100+i), int64(i), []byte("s")
				if i%3 == 0 {
					m.Flags.System = FlagSeen
				}
			}
			_, _, err := tx.AddMessages(1, 1, list)
			must(t, err)
		}
	})
	entry(t, s, 2, func(tx *Txn) {
		_, _, err := tx.SetFlags(1, 1, roaring.BitmapOf(5, 4097, 5999), OpAdd, Flags{System: FlagDeleted}, 0)
		must(t, err)
	})
	entry(t, s, 3, func(tx *Txn) {
		_, err := tx.Expunge(1, 1, roaring.BitmapOf(7, 4500), false)
		must(t, err)
	})
}

func audit(t *testing.T, s *Shard) *Audit {
	t.Helper()
	v := s.View()
	a, err := v.Audit(1, 1)
	must(t, errors.Join(err, v.Close()))
	return a
}

// damage writes past everything that keeps a mailbox in order.
func damage(t *testing.T, s *Shard, at uint64, do func(tx *Txn)) {
	t.Helper()
	entry(t, s, at, do)
	s.forget()
}

// Whatever of what follows from the messages is wrong is noticed, and is as it was after a Recount, which is the same on every replica; a second one changes nothing.
func TestRecount(t *testing.T) {
	m := mailboxKey{1, 1}
	meta := func(change func(mb *Mailbox)) func(t *testing.T, tx *Txn) {
		return func(t *testing.T, tx *Txn) {
			var open block
			mb, _, err := tx.q.meta(m, &open)
			must(t, err)
			change(&mb)
			must(t, tx.put(tx.k.mailbox(m, tagMailbox), encodeMeta(&mb, &open)))
		}
	}
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterMany(t, s)
	if a := audit(t, s); a.Contradicts() || len(a.Broken)+len(a.Unreferenced) > 0 {
		t.Fatalf("before: %+v", a)
	}
	entry(t, s, 4, func(tx *Txn) { must(t, tx.Allow(1, Limits{Messages: 1 << 40}, Usage{})) }) // what the account holds is counted
	want := describe(t, s)
	for name, spoil := range map[string]func(t *testing.T, tx *Txn){
		"messages": meta(func(mb *Mailbox) { mb.Messages += 5 }),
		"unseen":   meta(func(mb *Mailbox) { mb.Unseen = 0 }),
		"deleted":  meta(func(mb *Mailbox) { mb.Deleted = 77 }),
		"size":     meta(func(mb *Mailbox) { mb.Size = 1 }),
		"size of the account too": func(t *testing.T, tx *Txn) {
			meta(func(mb *Mailbox) { mb.Size -= 9 })(t, tx)
			c, _, err := tx.q.counters(1)
			must(t, err)
			c.used.Bytes -= 9
			must(t, tx.put(tx.k.account(1, tagCounters), c.encode()))
		},
		"next UID":       meta(func(mb *Mailbox) { mb.UIDNext = 5990 }),
		"highest modseq": meta(func(mb *Mailbox) { mb.HighestModSeq = 1 }),
		"list": func(t *testing.T, tx *Txn) {
			must(t, tx.remove(tx.k.block(m, kindUIDs, 0)))
		},
		"flags": func(t *testing.T, tx *Txn) {
			must(t, tx.removePrefix(tx.k.kind(m, kindFlag(FlagSeen))))
		},
		"flag too many": func(t *testing.T, tx *Txn) {
			var b block
			b.set(9)
			must(t, tx.put(tx.k.block(m, kindFlag(FlagAnswered), 0), b.encode()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			damage(t, s, 4, func(tx *Txn) { spoil(t, tx) })
			if a := audit(t, s); !a.Contradicts() {
				t.Errorf("not noticed: %+v", a)
			}
			for _, changes := range []bool{true, false} {
				entry(t, s, 4, func(tx *Txn) {
					changed, err := tx.Recount(1, 1)
					if must(t, err); changed != changes {
						t.Errorf("changed %v", changed)
					}
				})
			}
			if got := describe(t, s); got != want {
				t.Errorf("after:\n%.2000s\nwas:\n%.2000s", got, want)
			}
		})
	}
	entry(t, s, 5, func(tx *Txn) { // and it goes on as before
		uids, _, err := tx.AddMessages(1, 1, []NewMessage{{Ref: testRef(9), Summary: []byte("s")}})
		if must(t, err); uids[0] != 6001 {
			t.Errorf("next UID %d", uids[0])
		}
	})
	if a := audit(t, s); a.Contradicts() {
		t.Errorf("in the end: %+v", a)
	}
}

// A message with half of its entry is told of, and stays.
func TestAuditBroken(t *testing.T) {
	m := mailboxKey{1, 1}
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterMany(t, s)
	damage(t, s, 4, func(tx *Txn) {
		must(t, tx.remove(tx.k.uid(m, tagFlags, 20)))
		must(t, tx.remove(tx.k.ref(testRef(40), m, 41)))
	})
	a := audit(t, s)
	if !slices.Equal(a.Broken, []uint32{20}) || !slices.Equal(a.Unreferenced, []uint32{41}) {
		t.Errorf("broken %v, unreferenced %v", a.Broken, a.Unreferenced)
	}
	entry(t, s, 5, func(tx *Txn) {
		_, err := tx.Recount(1, 1)
		must(t, err)
	})
	if got := uids(t, s, 1, 1); len(got) != 5998 || got[19] != 21 && got[18] != 20 {
		t.Errorf("%d messages are listed", len(got))
	}
	damage(t, s, 6, func(tx *Txn) { must(t, tx.put(tx.k.uid(m, tagFlags, 30), []byte{99})) })
	entry(t, s, 7, func(tx *Txn) { // rows that cannot be read end no shard
		changed, err := tx.Recount(1, 1)
		if must(t, err); changed {
			t.Error("counted what cannot be read")
		}
		changed, err = tx.Amend(1, 1, &Amendment{UID: 30, Seen: testRef(29), Ref: testRef(5)})
		if must(t, err); changed {
			t.Error("amended what cannot be read")
		}
	})
}

// An entry is amended only if it is as it was seen; its reference goes with it, and counts stay right. What a volume that is being collected has gets no new one.
func TestAmend(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	enterMany(t, s)
	a := Amendment{UID: 10, Seen: testRef(9), Ref: testRef(7777), Size: 5, Date: 6, Zone: 60, Summary: []byte("new")}
	condemned := a
	condemned.Ref.Volume++
	entry(t, s, 4, func(tx *Txn) {
		must(t, tx.Condemn(condemned.Ref.Volume, 1))
		for _, x := range []struct {
			what    string
			a       Amendment
			changed bool
			err     error
		}{
			{"seen otherwise", Amendment{UID: 10, Seen: testRef(8), Ref: testRef(7777)}, false, nil},
			{"gone", Amendment{UID: 7, Seen: testRef(6), Ref: testRef(7777)}, false, nil},
			{"condemned", condemned, false, ErrCondemned},
			{"as seen", a, true, nil},
			{"a second time", a, false, nil},
			{"as it is", Amendment{UID: 10, Seen: a.Ref, Ref: a.Ref, Size: 5, Date: 6, Zone: 60, Summary: []byte("new")}, false, nil},
		} {
			changed, err := tx.Amend(1, 1, &x.a)
			if changed != x.changed || !errors.Is(err, x.err) {
				t.Errorf("%s: %v, %v", x.what, changed, err)
			}
		}
		if _, err := tx.Amend(1, 99, &a); !errors.Is(err, ErrNoMailbox) {
			t.Errorf("a folder that is gone: %v", err)
		}
	})
	v := s.View()
	must(t, v.Messages(1, 1, roaring.BitmapOf(10), WantImmutable, func(m *Message) error {
		if m.Ref != a.Ref || m.Size != 5 || m.Date != 6 || m.Zone != 60 || string(m.Summary) != "new" || m.ModSeq != 4 {
			t.Errorf("the message is %+v", m)
		}
		return nil
	}))
	must(t, v.Close())
	if x := audit(t, s); x.Contradicts() || len(x.Unreferenced) > 0 {
		t.Errorf("%+v", x)
	}
	base := []Base{{Mailbox: 1, ModSeq: 3, UIDNext: 6001}}
	var passed []string
	v = s.View()
	must(t, v.AccountSince(1, base, func(key, _ []byte) error {
		if key[0] == tagMessage && bytes.HasSuffix(key, []byte{0, 0, 0, 10}) {
			passed = append(passed, fmt.Sprintf("%x", key))
		}
		return nil
	}, func([]byte) error { return nil }))
	must(t, v.Close())
	if len(passed) != 1 {
		t.Errorf("a move of the account takes %v of the amended row with it", passed)
	}
	damage(t, s, 5, func(tx *Txn) { must(t, tx.remove(tx.k.ref(a.Ref, mailboxKey{1, 1}, 10))) })
	entry(t, s, 6, func(tx *Txn) {
		again := a
		again.Seen = a.Ref
		if changed, err := tx.Amend(1, 1, &again); err != nil || !changed {
			t.Errorf("an entry without its reference: %v, %v", changed, err)
		}
	})
	if x := audit(t, s); len(x.Unreferenced) > 0 {
		t.Errorf("%+v", x)
	}
}
