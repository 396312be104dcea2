package mailbox

import (
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/feature"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

func (r *replica) count(t *testing.T, account uint64, name string) uint32 {
	t.Helper()
	v := r.store.View()
	defer v.Close()
	box, err := v.MailboxByName(account, name)
	if err != nil {
		t.Fatal(err)
	}
	return box.Messages
}

func mail(record, length uint64) Message {
	return Message{Ref: volume.Ref{Volume: 1, Record: record, Length: length}, Summary: []byte{1}}
}

// Every way in is held to the quota, to the byte and the message; what is moved within an account, and what leaves it, is not.
func TestQuotaOfEveryWayIn(t *testing.T) {
	r := newReplica(t)
	limits := &index.Limits{Bytes: 1000, Messages: 4}
	set, err := EncodeUIDs(roaring.BitmapOf(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	code := func(c Command) Code {
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeResult(r.apply(t, b)[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Refused) > 0 {
			return got.Refused[0].Code
		}
		return got.Code
	}
	deliver := func(n uint64) Command {
		c := Command{Deliver: &Deliver{Message: mail(n, n)}}
		c.Deliver.Add(1, Terms{Limits: limits})
		return c
	}
	for i, step := range []struct {
		c    Command
		want Code
	}{
		{deliver(400), OK},
		{deliver(601), OverQuota},
		{deliver(300), OK},
		{Command{Append: &Append{Account: 1, Mailbox: "Sent", Message: mail(2, 301), Limits: limits}}, OverQuota},
		{Command{Append: &Append{Account: 1, Mailbox: "Nowhere", Message: mail(2, 301), Limits: limits}}, NoMailbox},
		{Command{Append: &Append{Account: 1, Mailbox: "Sent", Message: mail(2, 300), Limits: limits}}, OK}, // 1000 bytes of 1000
		{Command{Copy: &Copy{Account: 1, Mailbox: 1, UIDs: set, To: "Archive", Limits: limits}}, OverQuota},
		{Command{Copy: &Copy{Account: 1, Mailbox: 1, UIDs: set, To: "Archive", Move: true}}, OK},
		{Command{Rebind: &Rebind{Accounts: []uint64{1}, Mailbox: "INBOX", Message: mail(9, 1), Terms: []Terms{{Limits: limits}}}}, OverQuota},
		{Command{Rename: &Rename{Account: 1, From: "INBOX", To: "Old"}}, OK},
		{Command{Expunge: &Expunge{Account: 1, Mailbox: 6, UIDs: set}}, OK}, // of Archive: 300 bytes are left
		{deliver(700), OK},
		{deliver(1), OverQuota},
		{Command{Delete: &Delete{Account: 1, Name: "Sent"}}, OK}, // with 300 bytes, which count no more at once
		{deliver(300), OK},
		{Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: mail(3, 5000)}}, OK}, // nobody has set a limit
		{deliver(1), OverQuota},
	} {
		if got := code(step.c); got != step.want {
			t.Fatalf("step %d: code %d, want %d", i, got, step.want)
		}
	}
}

// A detail means a folder that is there, else INBOX; it never makes one.
func TestDetails(t *testing.T) {
	r := newReplica(t)
	for _, name := range []string{"Lists/Go", "work", "Work", "工作", "parent/child"} {
		if got := r.run(t, Command{Create: &Create{Account: 1, Name: name}}); got.Code != OK {
			t.Fatalf("%s: %+v", name, got)
		}
	}
	r.run(t, Command{Delete: &Delete{Account: 1, Name: "parent"}}) // a name that only has children
	for detail, want := range map[string]string{
		"": "INBOX", "work": "work", "Work": "Work", "WORK": "Work", "lists/go": "Lists/Go", "工作": "工作", "nothing": "INBOX",
		"parent": "INBOX", "a//b": "INBOX", "inbox": "INBOX", "trash": "Trash", "../x": "INBOX",
	} {
		for _, early := range []bool{false, true} {
			before := r.count(t, 1, want)
			c := Command{Deliver: &Deliver{Message: mail(uint64(before+1), 10), Early: early}}
			c.Deliver.Add(2, Terms{})
			c.Deliver.Add(1, Terms{Detail: detail})
			if got := r.run(t, c); len(got.Refused) > 0 {
				t.Errorf("%q: %+v", detail, got)
			}
			if after := r.count(t, 1, want); after != before+1 {
				t.Errorf("%q: not in %s", detail, want)
			}
		}
	}
	v := r.store.View()
	defer v.Close()
	boxes, err := v.Mailboxes(1)
	if err != nil || slices.ContainsFunc(boxes, func(b index.Mailbox) bool { return b.Name == "nothing" }) {
		t.Errorf("a folder was made, or %v", err)
	}
}

// A rebound message that was removed meanwhile comes back where its detail says.
func TestRebindKeepsDetail(t *testing.T) {
	r := newReplica(t)
	c := &Rebind{Accounts: []uint64{1}, Mailbox: Inbox, Old: volume.Ref{Volume: 6, Record: 1}, Message: mail(1, 10), Terms: []Terms{{Detail: "archive"}}}
	if got := r.run(t, Command{Rebind: c}); got.Code != OK || got.FirstUID != 1 {
		t.Fatalf("%+v", got)
	}
	if n := r.count(t, 1, "Archive"); n != 1 {
		t.Errorf("%d in Archive", n)
	}
	c.Old, c.Message = c.Message.Ref, mail(2, 10)
	if got := r.run(t, Command{Rebind: c}); got.FirstUID != 1 || r.count(t, 1, "Archive") != 1 {
		t.Errorf("bound again: %+v", got)
	}
}

// What means something else than it always did is for programs that know it.
func TestLevels(t *testing.T) {
	var plain, detailed Deliver
	plain.Add(1, Terms{})
	plain.Add(2, Terms{})
	detailed.Add(1, Terms{})
	detailed.Add(2, Terms{Detail: "x"})
	if len(plain.Terms) != 0 || len(detailed.Terms) != 2 {
		t.Errorf("terms %v, %v", plain.Terms, detailed.Terms)
	}
	for _, c := range []struct {
		c    Command
		want feature.Level
	}{
		{Command{Deliver: &plain}, feature.Base},
		{Command{Deliver: &detailed}, feature.Sharing},
		{Command{Rebind: &Rebind{}}, feature.Base},
		{Command{Rebind: &Rebind{Terms: detailed.Terms}}, feature.Sharing},
		{Command{Append: &Append{}}, feature.Base},
		{Command{Append: &Append{Limits: &index.Limits{}}}, feature.Sharing},
		{Command{Copy: &Copy{}}, feature.Base},
		{Command{Copy: &Copy{Limits: &index.Limits{}}}, feature.Sharing},
		{Command{Recount: &Recount{}}, feature.Moves},
	} {
		if got := c.c.Level(); got != c.want {
			t.Errorf("%+v: level %v, want %v", c.c, got, c.want)
		}
	}
}
