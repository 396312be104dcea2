package index

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/volume"
)

// Each refused command says why, and leaves the Txn as it was: what commits is what an empty entry would have.
func TestRefusedCommandsChangeNothing(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	many := make([]string, MaxKeywords)
	for i := range many {
		many[i] = fmt.Sprint("k", i)
	}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 10))
		for _, name := range []string{"p/c", "full", "deep/" + strings.Repeat("x", 900)} {
			_, err := tx.CreateMailbox(1, name, "", 10)
			must(t, err)
		}
		must(t, tx.DeleteMailbox(1, "p"))
		full, err := tx.MailboxByName(1, "full")
		must(t, err)
		_, _, err = tx.AddMessages(1, full.ID, []NewMessage{{Ref: testRef(1), Flags: Flags{Keywords: many}}})
		must(t, err)
		_, _, err = tx.AddMessages(1, 1, []NewMessage{{Ref: testRef(2), Flags: Flags{Keywords: []string{"other"}}}})
		must(t, err)
	})
	before := dump(t, s)
	tx := s.Begin()
	tx.SetIndex(2)
	full, err := tx.MailboxByName(1, "full")
	must(t, err)
	p, err := tx.MailboxByName(1, "p")
	must(t, err)
	if !p.NoSelect {
		t.Fatalf("%+v", p)
	}
	one := []NewMessage{{Ref: testRef(3)}}
	limit := &LimitError{}
	for name, c := range map[string]struct {
		want error
		do   func() error
	}{
		"no account":          {ErrNoAccount, func() error { _, err := tx.CreateMailbox(2, "a", "", 1); return err }},
		"no such mailbox":     {ErrNoMailbox, func() error { _, _, err := tx.AddMessages(1, 99, one); return err }},
		"add to a mere name":  {ErrNoMailbox, func() error { _, _, err := tx.AddMessages(1, p.ID, one); return err }},
		"delete INBOX":        {ErrInvalidName, func() error { return tx.DeleteMailbox(1, "inbox") }},
		"delete a mere name":  {ErrHasChildren, func() error { return tx.DeleteMailbox(1, "p") }},
		"delete what is not":  {ErrNoMailbox, func() error { return tx.DeleteMailbox(1, "q") }},
		"create INBOX":        {ErrExists, func() error { _, err := tx.CreateMailbox(1, "Inbox", "", 1); return err }},
		"create bad name":     {ErrInvalidName, func() error { _, err := tx.CreateMailbox(1, "a//b", "", 1); return err }},
		"create bad use":      {ErrInvalidName, func() error { _, err := tx.CreateMailbox(1, "u", `\Inbox`, 1); return err }},
		"rename onto another": {ErrExists, func() error { return tx.RenameMailbox(1, "full", "INBOX", 1) }},
		"rename into itself":  {ErrInvalidName, func() error { return tx.RenameMailbox(1, "p", "p/d", 1) }},
		"rename what is not":  {ErrNoMailbox, func() error { return tx.RenameMailbox(1, "q", "r", 1) }},
		"rename, child's name too long": {ErrInvalidName, func() error {
			return tx.RenameMailbox(1, "deep", strings.Repeat("y", 200), 1)
		}},
		"rename INBOX onto one": {ErrExists, func() error { return tx.RenameMailbox(1, "INBOX", "full", 1) }},
		"subscribe bad name":    {ErrInvalidName, func() error { return tx.Subscribe(1, "", true) }},
		"keyword too many": {limit, func() error {
			_, _, err := tx.SetFlags(1, full.ID, roaring.BitmapOf(1), OpAdd, Flags{System: FlagSeen, Keywords: []string{"K0", "more"}}, 0)
			return err
		}},
		"keyword bad": {ErrInvalidName, func() error {
			_, _, err := tx.AddMessages(1, 1, []NewMessage{{Ref: testRef(3)}, {Flags: Flags{Keywords: []string{"fresh", "a b"}}}})
			return err
		}},
		"system flag unknown": {ErrInvalidName, func() error {
			_, _, err := tx.SetFlags(1, 1, nil, OpSet, Flags{System: 0x40}, 0)
			return err
		}},
		"copy a keyword too many": {limit, func() error { _, _, err := tx.CopyMessages(1, 1, nil, full.ID, true, 0); return err }},
		"copy to a mere name":     {ErrNoMailbox, func() error { _, _, err := tx.CopyMessages(1, 1, nil, p.ID, true, 0); return err }},
		"too many messages":       {limit, func() error { _, _, err := tx.AddMessages(1, 1, make([]NewMessage, MaxChange+1)); return err }},
		"summary too large": {limit, func() error {
			_, _, err := tx.AddMessages(1, 1, []NewMessage{{Summary: make([]byte, MaxSummaryBytes+1)}})
			return err
		}},
		"result too large": {limit, func() error { return tx.Remember([16]byte{1}, make([]byte, MaxResultBytes+1)) }},
		"record too large": {limit, func() error { return tx.Put([]byte("k"), make([]byte, MaxRecordBytes+1)) }},
		"key too large":    {limit, func() error { return tx.Put(make([]byte, MaxRecordKey+1), nil) }},
	} {
		err := c.do()
		var got *LimitError
		asLimit := c.want == error(limit) && errors.As(err, &got)
		if !asLimit && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, tx.Commit(1))
	if !bytes.Equal(before, dump(t, s)) {
		t.Errorf("something changed:\n%s", describe(t, s))
	}
}

// A name that comes again gets a new id and a higher UIDVALIDITY, whatever the clock says; at the end of the numbers it is refused.
func TestUIDValidityAndIDsOnlyGrow(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	var validities, ids []uint32
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 100))
		for _, now := range []int64{50, 50, 500, 0, -7, 501} {
			mb, err := tx.CreateMailbox(1, "again", "", now)
			must(t, err)
			validities, ids = append(validities, mb.UIDValidity), append(ids, mb.ID)
			must(t, tx.DeleteMailbox(1, "again"))
		}
	})
	if !slices.Equal(validities, []uint32{106, 107, 500, 501, 502, 503}) || !slices.Equal(ids, []uint32{7, 8, 9, 10, 11, 12}) {
		t.Fatal(validities, ids)
	}
	tx := s.Begin()
	defer tx.Discard()
	tx.SetIndex(2)
	if _, err := tx.CreateMailbox(1, "last", "", math.MaxUint32); err != nil {
		t.Fatal(err)
	}
	var limit *LimitError
	if _, err := tx.CreateMailbox(1, "none", "", 1); !errors.As(err, &limit) {
		t.Fatal(err)
	}
}

// A deleted mailbox's references go over several entries, first deleted first.
func TestGravesAreSwept(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	db.sweep = 10
	s := db.Shard(1)
	count := func() (n int) {
		v := s.View()
		for id := volume.ID(1); id <= 3; id++ {
			must(t, v.q.scanPrefix(v.q.k.volume(id), func(_, _ []byte) error { n++; return nil }))
		}
		must(t, v.Close())
		return n
	}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		for id := range uint32(2) {
			list := make([]NewMessage, 25)
			for i := range list {
				list[i].Ref = testRef(uint64(id)*100 + uint64(i))
			}
			_, _, err := tx.AddMessages(1, 4+id, list)
			must(t, err)
		}
	})
	entry(t, s, 2, func(tx *Txn) {
		must(t, tx.DeleteMailbox(1, "Junk"))
		must(t, tx.DeleteMailbox(1, "Trash"))
	})
	var left []int
	for index := uint64(3); index < 8; index++ {
		left = append(left, count())
		entry(t, s, index, func(*Txn) {})
	}
	if !slices.Equal(left, []int{30, 20, 10, 0, 0}) {
		t.Fatal(left)
	}
}

// Results are remembered for the window and then gone, with their lists.
func TestDedupWindow(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	db.window = 64
	s := db.Shard(1)
	id := func(i uint64) [16]byte { return [16]byte{byte(i), byte(i >> 8), 7} }
	for index := uint64(1); index <= 1000; index++ {
		entry(t, s, index, func(tx *Txn) {
			must(t, tx.Remember(id(index), fmt.Append(nil, index)))
			must(t, tx.Remember(id(index), []byte("not again")))
			for age, want := range map[uint64]bool{0: true, 63: index > 63, 64 + 16: false} {
				result, known, err := tx.Recall(id(index - age))
				if err != nil || known != want || known && string(result) != fmt.Sprint(index-age) {
					t.Fatalf("at %d, age %d: %q %v %v", index, age, result, known, err)
				}
			}
		})
	}
	v := s.View()
	defer func() { must(t, v.Close()) }()
	n := 0
	must(t, v.q.scan(s.k.root(tagDedup), s.k.root(tagExpiry+1), func(_, _ []byte) error { n++; return nil }))
	if n > 64+16+7 {
		t.Fatalf("%d keys are left", n)
	}
}
