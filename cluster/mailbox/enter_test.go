package mailbox

import (
	"errors"
	"testing"

	"hongyan/cluster/feature"
	"hongyan/engine/index"
)

// command applies one command and gives its result.
func (r *replica) command(t *testing.T, c Command) *Result {
	t.Helper()
	body, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	result, err := DecodeResult(r.apply(t, body)[0])
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// immutable lists a folder with what never changes of its messages.
func (r *replica) immutable(t *testing.T, account uint64, folder uint32) (list []index.Message) {
	t.Helper()
	v := r.store.View()
	err := v.Messages(account, folder, nil, index.WantImmutable, func(m *index.Message) error {
		list = append(list, *m)
		return nil
	})
	if err := errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAppendAll(t *testing.T) {
	r := newReplica(t)
	list := []Entering{{Message: messageAt(7, 1), Request: [16]byte{1}}, {Message: messageAt(7, 2), Request: [16]byte{2}}, {Message: messageAt(7, 3), Request: [16]byte{3}}}
	all := Command{AppendAll: &AppendAll{Account: 1, Mailbox: "INBOX", List: list}}
	if all.Level() != feature.Sharing {
		t.Error("older programs would be given it")
	}
	got := r.command(t, all)
	if got.Code != OK || got.FirstUID != 1 || got.UIDValidity == 0 {
		t.Fatalf("%+v", got)
	}
	if in := r.immutable(t, 1, 1); len(in) != 3 || in[1].UID != 2 || in[1].Ref.Record != 2 {
		t.Fatalf("%+v", in)
	}
	txn := r.store.Begin()
	for i := range list {
		if _, known, err := txn.Recall(list[i].Request); err != nil || !known {
			t.Errorf("the request of message %d is not remembered: %v", i, err)
		}
	}
	txn.Discard()

	tooLong := list[2]
	tooLong.Message.Summary = make([]byte, index.MaxSummaryBytes+1)
	for _, c := range []struct {
		name string
		all  AppendAll
		want Code
	}{
		{"one cannot be entered", AppendAll{Account: 1, Mailbox: "INBOX", List: []Entering{list[0], list[1], tooLong}}, Limit},
		{"no folder", AppendAll{Account: 1, Mailbox: "nowhere", List: list}, NoMailbox},
		{"none", AppendAll{Account: 1, Mailbox: "INBOX"}, Invalid},
		{"too many", AppendAll{Account: 1, Mailbox: "INBOX", List: make([]Entering, MaxAppends+1)}, Invalid},
	} {
		if got := r.command(t, Command{AppendAll: &c.all}); got.Code != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
		if in := r.immutable(t, 1, 1); len(in) != 3 {
			t.Errorf("%s: %d messages", c.name, len(in))
		}
	}
	r.command(t, Command{Condemn: &Condemn{Volume: 7, Generation: 1}})
	if got := r.command(t, all); got.Code != Condemned || len(r.immutable(t, 1, 1)) != 3 {
		t.Errorf("into a condemned volume: %+v", got)
	}
}

func TestReplace(t *testing.T) {
	r := newReplica(t)
	r.command(t, Command{AppendAll: &AppendAll{Account: 1, Mailbox: "Drafts", List: []Entering{{Message: messageAt(7, 1)}, {Message: messageAt(7, 2)}}}})
	here := Replace{Account: 1, Mailbox: "Drafts", Message: messageAt(7, 3), From: 2, UID: 1}
	if got := r.command(t, Command{Replace: &here}); got.Code != OK || got.FirstUID != 3 {
		t.Fatalf("%+v", got)
	}
	if in := r.immutable(t, 1, 2); len(in) != 2 || in[0].UID != 2 || in[1].Ref.Record != 3 {
		t.Fatalf("%+v", in)
	}
	if got := r.command(t, Command{Replace: &here}); got.Code != NoMessage || len(r.immutable(t, 1, 2)) != 2 {
		t.Fatalf("the message is gone: %+v", got)
	}
	sent := Replace{Account: 1, Mailbox: "Sent", Message: messageAt(7, 4), From: 2, UID: 3}
	if got := r.command(t, Command{Replace: &sent}); got.Code != OK || len(r.immutable(t, 1, 2)) != 1 || len(r.immutable(t, 1, 3)) != 1 {
		t.Fatalf("%+v", got)
	}
	nowhere := Replace{Account: 1, Mailbox: "nowhere", Message: messageAt(7, 5), From: 2, UID: 2}
	if got := r.command(t, Command{Replace: &nowhere}); got.Code != NoMailbox || len(r.immutable(t, 1, 2)) != 1 {
		t.Fatalf("%+v", got)
	}
}

// A copy is saved when it is made; what is copied or moved by an older cluster keeps the date that it has.
func TestCopyDates(t *testing.T) {
	r := newReplica(t)
	r.command(t, Command{AppendAll: &AppendAll{Account: 1, Mailbox: "INBOX", List: []Entering{{Message: messageAt(7, 1)}, {Message: messageAt(7, 2)}}}})
	first := r.immutable(t, 1, 1)[0].Saved()
	old, dated := Copy{Account: 1, Mailbox: 1, UIDs: uidSet(t, 1), To: "Archive"}, Copy{Account: 1, Mailbox: 1, UIDs: uidSet(t, 1, 2), To: "Archive", Move: true, Dated: true}
	oldCommand, datedCommand := Command{Copy: &old}, Command{Copy: &dated}
	if oldCommand.Level() != feature.Base || datedCommand.Level() != feature.Sharing {
		t.Error("levels", oldCommand.Level(), datedCommand.Level())
	}
	r.command(t, oldCommand)
	r.command(t, datedCommand)
	in := r.immutable(t, 1, 6)
	if len(in) != 3 || in[0].Saved() != first || in[1].Saved() != first+2 || in[2].Saved() != first+2 {
		t.Errorf("%+v, the first was saved at %d", in, first)
	}
	if in[1].SaveDate != first {
		t.Errorf("what came into the account at %d counts as if at %d", first, in[1].SaveDate)
	}
}
