package index

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// given is what an account gives, and who shares something with it, as text.
func given(t *testing.T, s *Shard, account uint64) (out string) {
	t.Helper()
	v := s.View()
	err := v.q.eachGrant(v.q.k.account(account, tagGrant), func(g Grant) error {
		out += fmt.Sprintf("%d to %d %s: %b; ", g.Mailbox, g.User, g.Address, g.Rights)
		return nil
	})
	list, errSharers := v.Sharers(account)
	for _, s := range list {
		out += fmt.Sprintf("by %d %s %d; ", s.Owner, s.Address, s.Seq)
	}
	must(t, errors.Join(err, errSharers, v.Close()))
	return out
}

// Grants follow their mailbox through everything that happens to it, and an account takes them and its sharers along to another shard.
func TestGrants(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	const bo, cy = 8, 9
	entry(t, s, 5, func(tx *Txn) {
		must(t, tx.EnsureAccount(7, 1000))
		must(t, tx.Grant(7, Grant{Mailbox: 6, User: bo, Rights: RightLookup | RightRead, Address: "bo@x"})) // Archive
		must(t, tx.Grant(7, Grant{Mailbox: 6, User: cy, Rights: RightLookup, Address: "cy@x"}))
		must(t, tx.Grant(7, Grant{Mailbox: 6, User: bo, Rights: RightLookup, Address: "bo@x"}))
		must(t, tx.Grant(7, Grant{Mailbox: 2, User: cy, Rights: RightRead, Address: "cy@x"}))
		must(t, tx.Grant(7, Grant{Mailbox: 2, User: cy}))
		must(t, tx.Grant(7, Grant{Mailbox: 2, User: bo}))
		must(t, tx.NoteSharer(7, Sharer{Owner: 20, Address: "o@x"}))
		for i, g := range []Grant{{Mailbox: 6}, {Mailbox: 6, User: 7, Rights: 1}, {Mailbox: 6, User: bo, Rights: RightsAll + 1}, {Mailbox: 6, User: bo, Rights: 1, Address: string(make([]byte, MaxAddressBytes+1))}} {
			if err := tx.Grant(7, g); !errors.Is(err, ErrInvalidName) {
				t.Errorf("case %d: %v", i, err)
			}
		}
		if err := tx.Grant(7, Grant{Mailbox: 99, User: bo, Rights: 1}); !errors.Is(err, ErrNoMailbox) {
			t.Error(err)
		}
	})
	check := func(s *Shard, want string) {
		t.Helper()
		if got := given(t, s, 7); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	sharer := "by 20 o@x 5; "
	check(s, "6 to 8 bo@x: 1; 6 to 9 cy@x: 1; "+sharer)
	entry(t, s, 6, func(tx *Txn) {
		must(t, tx.RenameMailbox(7, "Archive", "Old", 1000)) // keeps them
		mb, err := tx.CreateMailbox(7, "Old/a/b", "", 1000)  // both inherit
		must(t, err)
		must(t, tx.Grant(7, Grant{Mailbox: mb.ID, User: cy}))
		r, err := tx.Rights(7, mb.ID, bo)
		must(t, err)
		up, err := tx.Parent(7, "old/x")
		if !errors.Is(err, ErrNoMailbox) {
			t.Error(up, err)
		}
		up, err = tx.Parent(7, "Old/x/y")
		if must(t, err); up.ID != 6 || r != RightLookup {
			t.Error(up, r)
		}
	})
	check(s, "6 to 8 bo@x: 1; 6 to 9 cy@x: 1; 7 to 8 bo@x: 1; 7 to 9 cy@x: 1; 8 to 8 bo@x: 1; "+sharer)
	entry(t, s, 7, func(tx *Txn) {
		must(t, tx.DeleteMailbox(7, "Old/a/b"))              // gone with it
		must(t, tx.DeleteMailbox(7, "Old"))                  // the name stays for its children, 9, and keeps them
		must(t, tx.RenameMailbox(7, "INBOX", "Old/m", 1000)) // 10 inherits; INBOX gave none
	})
	kept := "7 to 8 bo@x: 1; 7 to 9 cy@x: 1; 9 to 8 bo@x: 1; 9 to 9 cy@x: 1; 10 to 8 bo@x: 1; 10 to 9 cy@x: 1; " + sharer
	check(s, kept)
	v := s.View()
	to, err := v.GrantsTo(7, cy)
	must(t, err)
	if len(to) != 3 || to[10] != RightLookup {
		t.Error(to)
	}
	var pairs, few []Pair
	pair := func(list *[]Pair) func(key, value []byte) error {
		return func(key, value []byte) error {
			*list = append(*list, Pair{bytes.Clone(key), bytes.Clone(value)})
			return nil
		}
	}
	must(t, errors.Join(v.Account(7, pair(&pairs)), v.AccountSmall(7, pair(&few)), v.Close()))
	there := db.Shard(2)
	entry(t, there, 1, func(tx *Txn) { must(t, tx.Adopt(7, pairs)) })
	check(there, kept)
	small := db.Shard(3) // an account that is frozen is told in parts
	entry(t, small, 1, func(tx *Txn) { must(t, tx.Adopt(7, few)) })
	check(small, kept)
	var saved bytes.Buffer
	_, err = s.Save(&saved)
	must(t, err)
	other := openTest(t, vfs.NewMem())
	defer closeTest(t, other)
	must(t, other.Shard(1).Load(&saved))
	check(other.Shard(1), kept)
	entry(t, s, 8, func(tx *Txn) { must(t, tx.Expel(7)) })
	check(s, "")
}

func TestGrantLimits(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	limit := (*LimitError)(nil)
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(7, 1000))
		top, err := tx.CreateMailbox(7, "top", "", 1000)
		must(t, err)
		give := func(box uint32, n int) error {
			return tx.Grant(7, Grant{Mailbox: box, User: uint64(100 + n), Rights: RightLookup, Address: "a@x"})
		}
		for i := range MaxGrants {
			must(t, give(top.ID, i))
		}
		if err := give(top.ID, MaxGrants); !errors.As(err, &limit) || limit.Limit != MaxGrants {
			t.Error(err)
		}
		must(t, give(top.ID, 0)) // in place of the one that is there
		var last Mailbox
		for i := range MaxAccountGrants / MaxGrants {
			last, err = tx.CreateMailbox(7, fmt.Sprint("top/", i), "", 1000)
			must(t, err)
		}
		if r, err := tx.Rights(7, last.ID, 100); err != nil || r != 0 { // no room: it is its owner's alone
			t.Error(r, err)
		}
		if err := give(1, 0); !errors.As(err, &limit) || limit.Limit != MaxAccountGrants {
			t.Error(err)
		}
		for i := range MaxSharers {
			must(t, tx.NoteSharer(7, Sharer{Owner: uint64(100 + i), Address: "a@x"}))
		}
		if err := tx.NoteSharer(7, Sharer{Owner: 9, Address: "a@x"}); !errors.As(err, &limit) || limit.Limit != MaxSharers {
			t.Error(err)
		}
		must(t, tx.NoteSharer(7, Sharer{Owner: 100, Address: "a@x"}))
		for _, sharer := range []Sharer{{Owner: 7, Address: "a@x"}, {Address: "a@x"}, {Owner: 9}, {Owner: 9, Address: string(make([]byte, MaxAddressBytes+1))}} {
			if err := tx.NoteSharer(7, sharer); !errors.Is(err, ErrInvalidName) {
				t.Error(sharer, err)
			}
		}
	})
}

// A sharer is forgotten only by who knew its last note.
func TestForgetSharer(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	for i := range uint64(2) {
		entry(t, s, 5+i, func(tx *Txn) {
			must(t, tx.EnsureAccount(7, 1000))
			must(t, tx.NoteSharer(7, Sharer{Owner: 20, Address: "o@x"}))
		})
	}
	entry(t, s, 7, func(tx *Txn) {
		for _, c := range []struct {
			owner, seq uint64
			gone       bool
		}{{20, 5, false}, {21, 6, false}, {20, 6, true}, {20, 6, false}} {
			done, err := tx.ForgetSharer(7, c.owner, c.seq)
			if must(t, err); done != c.gone {
				t.Error(c, done)
			}
		}
	})
	if got := given(t, s, 7); got != "" {
		t.Error(got)
	}
}

// Of flags outside the scope nothing changes, whatever the operation.
func TestFlagScope(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	was := Flags{System: FlagSeen | FlagFlagged, Keywords: []string{"a"}}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(7, 1000))
		seen, words := FlagScope{System: FlagSeen}, FlagScope{System: FlagAnswered | FlagFlagged | FlagDraft, Keywords: true}
		for i, c := range []struct {
			scope FlagScope
			op    FlagOp
			f     Flags
			want  string
		}{
			{seen, OpSet, Flags{System: FlagDeleted, Keywords: []string{"b"}}, "{4 [a]}"},
			{seen, OpSet, Flags{System: FlagSeen | FlagDeleted}, ""},
			{seen, OpRemove, Flags{System: FlagSeen | FlagFlagged, Keywords: []string{"a"}}, "{4 [a]}"},
			{words, OpSet, Flags{System: FlagDeleted | FlagDraft, Keywords: []string{"b"}}, "{17 [b]}"},
			{words, OpAdd, Flags{System: FlagDeleted | FlagDraft, Keywords: []string{"b"}}, "{21 [a b]}"},
			{words, OpRemove, Flags{System: FlagSeen, Keywords: []string{"A"}}, "{5 []}"},
			{words.Others(), OpSet, Flags{}, "{4 [a]}"},
			{AllFlags(), OpSet, Flags{}, "{0 []}"},
			{AllFlags().Others(), OpSet, Flags{}, ""},
		} {
			uids, _, err := tx.AddMessages(7, 1, []NewMessage{{Flags: was}})
			must(t, err)
			changed, _, err := tx.SetFlagsOf(c.scope, 7, 1, roaring.BitmapOf(uids[0]), c.op, c.f, 0)
			must(t, err)
			got := ""
			for _, ch := range changed {
				got = fmt.Sprint(ch.Flags)
			}
			if got != c.want {
				t.Errorf("case %d: got %s, want %s", i, got, c.want)
			}
		}
	})
}
