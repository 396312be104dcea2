package index

import (
	"errors"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A message comes in, is read, flagged, moved and expunged; each step is seen through a View.
func TestOneMessagesLife(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(7)
	const account = 42
	msg := NewMessage{Date: 1700000000, Zone: -90, Size: 123, Ref: testRef(1), Summary: []byte("summary"), SaveDate: 1700000001,
		Flags: Flags{System: FlagFlagged, Keywords: []string{"$Work"}}}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(account, 1000))
		must(t, tx.EnsureAccount(account, 2000))
		uids, validity, err := tx.AddMessages(account, 1, []NewMessage{msg, msg})
		if err != nil || !slices.Equal(uids, []uint32{1, 2}) || validity != 1000 {
			t.Fatal(uids, validity, err)
		}
	})
	v := s.View()
	in, err := v.MailboxByName(account, "inbox")
	must(t, err)
	if in.ID != 1 || in.Messages != 2 || in.Unseen != 2 || in.Size != 246 || in.UIDNext != 3 || in.HighestModSeq != 1 || !in.Subscribed || !slices.Equal(in.Keywords, []string{"$Work"}) {
		t.Fatalf("%+v", in)
	}
	list, err := v.Mailboxes(account)
	must(t, err)
	var names []string
	for _, mb := range list {
		names = append(names, mb.Name+mb.SpecialUse)
	}
	if want := []string{`Archive\Archive`, `Drafts\Drafts`, "INBOX", `Junk\Junk`, `Sent\Sent`, `Trash\Trash`}; !slices.Equal(names, want) {
		t.Fatal(names)
	}
	n := 0
	must(t, v.Messages(account, 1, nil, WantFlags|WantImmutable|WantSummary, func(m *Message) error {
		n++
		if m.Date != msg.Date || m.Zone != -90 || m.Size != 123 || m.Ref != msg.Ref || string(m.Summary) != "summary" || m.SaveDate != msg.SaveDate ||
			m.Flags.System != FlagFlagged || !slices.Equal(m.Flags.Keywords, msg.Flags.Keywords) || m.ModSeq != 1 {
			t.Errorf("%+v", m)
		}
		return nil
	}))
	if n != 2 {
		t.Fatal(n)
	}
	must(t, v.Close())

	entry(t, s, 5, func(tx *Txn) {
		changed, failed, err := tx.SetFlags(account, 1, roaring.BitmapOf(1, 9), OpAdd, Flags{System: FlagSeen, Keywords: []string{"$WORK", "new"}}, 0)
		if err != nil || !failed.IsEmpty() || len(changed) != 1 || changed[0].ModSeq != 5 || !slices.Equal(changed[0].Flags.Keywords, []string{"$Work", "new"}) {
			t.Fatal(changed, failed, err)
		}
	})
	entry(t, s, 6, func(tx *Txn) {
		changed, failed, err := tx.SetFlags(account, 1, roaring.BitmapOf(1, 2), OpSet, Flags{System: FlagDeleted}, 1)
		if err != nil || len(changed) != 1 || changed[0].UID != 2 || !failed.Contains(1) {
			t.Fatal(changed, failed, err)
		}
		from, to, err := tx.CopyMessages(account, 1, roaring.BitmapOf(1), 5, true, 0)
		if err != nil || !slices.Equal(from, []uint32{1}) || !slices.Equal(to, []uint32{1}) {
			t.Fatal(from, to, err)
		}
		gone, err := tx.Expunge(account, 1, nil, true)
		if err != nil || gone.GetCardinality() != 1 || !gone.Contains(2) {
			t.Fatal(gone, err)
		}
		if _, _, err := tx.AddMessages(account, 99, nil); !errors.Is(err, ErrNoMailbox) {
			t.Fatal(err)
		}
		if _, _, err := tx.AddMessages(43, 1, nil); !errors.Is(err, ErrNoAccount) {
			t.Fatal(err)
		}
	})
	v = s.View()
	c, err := v.Changes(account, 1, 1, 0)
	must(t, err)
	if len(c.Changed) != 0 || !c.Vanished.Equals(roaring.BitmapOf(1, 2)) || c.HighestModSeq != 6 {
		t.Fatalf("%+v", c)
	}
	trash, err := v.Mailbox(account, 5)
	must(t, err)
	if trash.Messages != 1 || trash.Unseen != 0 || trash.HighestModSeq != 6 {
		t.Fatalf("%+v", trash)
	}
	must(t, v.Close())
}
