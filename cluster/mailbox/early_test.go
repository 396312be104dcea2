package mailbox

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/index"
	"hongyan/engine/volume"
)

func (r *replica) run(t *testing.T, c Command) *Result {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	result, err := DecodeResult(r.apply(t, b)[0])
	if err != nil || result.Code != OK {
		t.Fatalf("%+v, %v", result, err)
	}
	return result
}

// messages lists a folder of account 1: UID, volume and record of each message.
func (r *replica) messages(t *testing.T, box uint32) (out string) {
	t.Helper()
	v := r.store.View()
	defer v.Close()
	err := v.Messages(1, box, nil, index.WantImmutable, func(m *index.Message) error {
		out += fmt.Sprintf("%d:%d.%d ", m.UID, m.Ref.Volume, m.Ref.Record)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func messageAt(id volume.ID, record uint64) Message {
	return Message{Ref: volume.Ref{Volume: id, Record: record, Length: 9}, Summary: []byte{1}}
}

func uidSet(t *testing.T, uids ...uint32) []byte {
	t.Helper()
	b, err := EncodeUIDs(roaring.BitmapOf(uids...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Step 5, whatever became of the early entry meanwhile: the message is there once, with its new place, and the result says where.
func TestRebind(t *testing.T) {
	early := Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: messageAt(7, 5), Early: true}}
	safe := Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: messageAt(8, 1)}}
	other := Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: messageAt(7, 1), Early: true}}
	for _, c := range []struct {
		name string
		log  []Command // what was applied before the rebind
		uid  uint32
		want string // INBOX
	}{
		{"the early entry was applied", []Command{early}, 2, "1:7.1 2:8.1 "},
		{"it was settled away", []Command{early, {Settle: &Settle{Volume: 7, Last: 1}}}, 3, "1:7.1 3:8.1 "},
		{"the safe one was first", []Command{safe}, 2, "1:7.1 2:8.1 "},
		{"it was within the seal", []Command{early, {Settle: &Settle{Volume: 7, Last: 5}}}, 2, "1:7.1 2:8.1 "},
		{"it was rebound before", []Command{early, {Rebind: &Rebind{Accounts: []uint64{1}, Mailbox: "INBOX", Old: messageAt(7, 5).Ref, Message: messageAt(8, 1)}}},
			2, "1:7.1 2:8.1 "},
		{"it was moved", []Command{early, {Copy: &Copy{Account: 1, Mailbox: 1, UIDs: uidSet(t, 2), To: "Archive", Move: true}}}, 0, "1:7.1 "},
	} {
		r := newReplica(t)
		r.run(t, other)
		for _, command := range c.log {
			r.run(t, command)
		}
		result := r.run(t, Command{Rebind: &Rebind{Accounts: []uint64{1}, Mailbox: "INBOX", Old: messageAt(7, 5).Ref, Message: messageAt(8, 1)}})
		if got := r.messages(t, 1); got != c.want || result.FirstUID != c.uid || result.UIDValidity == 0 {
			t.Errorf("%s: INBOX has %q, want %q; the result says UID %d of %d, want %d", c.name, got, c.want, result.FirstUID, result.UIDValidity, c.uid)
		}
	}
}

// needs describes what readers wait for.
func needs(e *Early, account uint64, mailbox uint32) string {
	list, known, _ := e.Needs(account, mailbox)
	var b strings.Builder
	for _, n := range list {
		fmt.Fprintf(&b, "%d.%d ", uint64(n.Volume), n.Record)
	}
	return fmt.Sprint(b.String(), known)
}

func expectNeeds(t *testing.T, what string, e *Early, account uint64, mailbox uint32, want string) {
	t.Helper()
	if got := needs(e, account, mailbox); got != want {
		t.Errorf("%s: account %d, folder %d waits for %s, want %s", what, account, mailbox, got, want)
	}
}

// Who is to wait for what, through the life of a few messages.
func TestNeeds(t *testing.T) {
	r := newReplica(t)
	e, err := r.machine.Track(r.store)
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{1, 2}, Message: messageAt(7, 4), Early: true}})
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: messageAt(7, 3), Early: true}})
	r.run(t, Command{Append: &Append{Account: 2, Mailbox: "Archive", Message: messageAt(7, 6), Early: true}})
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{3}, Message: messageAt(7, 5)}})
	expectNeeds(t, "delivered", e, 1, 1, "7.4 true")
	expectNeeds(t, "nothing there", e, 1, 2, "true")
	expectNeeds(t, "all folders", e, 2, 0, "7.6 true")
	expectNeeds(t, "not early", e, 3, 0, "true")
	e.Durable(7, 3)
	expectNeeds(t, "one is durable", e, 1, 1, "7.4 true")
	r.run(t, Command{Copy: &Copy{Account: 1, Mailbox: 1, UIDs: uidSet(t, 1), To: "Archive", Move: true}})
	expectNeeds(t, "moved", e, 1, 2, "7.4 true")
	expectNeeds(t, "of another account", e, 2, 1, "7.4 true")
	e.Durable(7, 5)
	expectNeeds(t, "both are durable", e, 1, 0, "true")
	_, _, changed := e.Needs(2, 0)
	r.run(t, Command{Settle: &Settle{Volume: 7, Last: 5}})
	select {
	case <-changed:
	default:
		t.Error("who waits for the settling is not woken")
	}
	expectNeeds(t, "settled", e, 2, 0, "true")
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: messageAt(7, 9), Early: true}})
	expectNeeds(t, "too late", e, 1, 1, "7.9 true")
	r.run(t, Command{Settle: &Settle{Volume: 7, Last: 5}})
	expectNeeds(t, "settled again", e, 1, 1, "true")
	if got := len(e.Open()); got != 0 {
		t.Errorf("%d volumes are open", got)
	}
}

// A replica that starts, and one that gets a snapshot, knows from the markers what it may have to wait for. What the snapshot has
// settled is waited for no longer.
func TestNeedsAfterStart(t *testing.T) {
	r, late := newReplica(t), newReplica(t)
	e, err := late.machine.Track(late.store)
	if err != nil {
		t.Fatal(err)
	}
	first := Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: messageAt(6, 2), Early: true}}
	r.run(t, first)
	late.run(t, first)
	r.run(t, Command{Settle: &Settle{Volume: 6, Last: 1}})
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: messageAt(7, 4), Early: true}})

	again := NewMachine(func([]Event) {})
	started, err := again.Track(r.store)
	if err != nil {
		t.Fatal(err)
	}
	expectNeeds(t, "started", started, 99, 1, "7.4 true")

	late.machine.Replacing()
	before := e.Changed()
	expectNeeds(t, "while a snapshot is installed", e, 1, 1, "6.2 false")
	if err := late.store.Load(bytes.NewReader(r.dump(t))); err != nil {
		t.Fatal(err)
	}
	if err := late.machine.Replaced(); err != nil {
		t.Fatal(err)
	}
	expectNeeds(t, "and after", e, 1, 1, "7.4 true")
	if e.Changed() == before {
		t.Error("who waits is not woken")
	}
}

// After a start everybody waits, until the volume's end is known: then only who refers to what lies behind it.
func TestNeedsOfTheLost(t *testing.T) {
	r := newReplica(t)
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: messageAt(7, 4), Early: true}})
	r.run(t, Command{Deliver: &Deliver{Accounts: []uint64{2}, Message: messageAt(7, 9), Early: true}})
	e, err := NewMachine(func([]Event) {}).Track(r.store)
	if err != nil {
		t.Fatal(err)
	}
	v := r.store.View()
	defer v.Close()
	_, _, changed := e.Needs(1, 0)
	for _, of := range []<-chan struct{}{make(chan struct{}), changed} {
		expectNeeds(t, "started", e, 1, 0, "7.9 true")
		if err := e.Ended(v, of, 7, 5); err != nil {
			t.Fatal(err)
		}
	}
	expectNeeds(t, "what it has is there", e, 1, 0, "true")
	expectNeeds(t, "what it has is lost", e, 2, 1, "7.9 true")
	select {
	case <-changed:
	default:
		t.Error("who waits is not woken")
	}
}

// Memory is bounded: of very many messages only the last record is kept, and then everybody waits for it.
func TestNeedsAreBounded(t *testing.T) {
	e := newEarly()
	for n := range uint64(maxUnsure) + 10 {
		e.add(volume.Ref{Volume: 7, Record: n + 1}, 1, 1)
	}
	expectNeeds(t, "very many", e, 2, 1, fmt.Sprintf("7.%d true", maxUnsure+1))
	expectNeeds(t, "very many", e, 1, 1, fmt.Sprintf("7.%d true", maxUnsure+10))
	e.Durable(7, maxUnsure+1)
	expectNeeds(t, "durable", e, 2, 1, "true")
	expectNeeds(t, "durable", e, 1, 1, fmt.Sprintf("7.%d true", maxUnsure+10))
}
