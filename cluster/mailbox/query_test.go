package mailbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// ask gives the frames of an answer; each must fit in a message between nodes with room to spare.
func (r *replica) ask(t *testing.T, q *Query) []Frame {
	t.Helper()
	v := r.store.View()
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out []Frame
	err := Answer(v, q, func(f *Frame) error {
		b, err := codec.Marshal(f)
		if err != nil {
			return err
		}
		if len(b) > 4*frameBytes || f.Applied != r.next-1 {
			t.Errorf("a frame of %d bytes, at entry %d of %d", len(b), f.Applied, r.next-1)
		}
		out = append(out, *f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Long lists come in several frames, in order and whole, and an empty list in one.
func TestAnswersInParts(t *testing.T) {
	r := newReplica(t)
	const folders = 1200
	for i := range folders {
		name := fmt.Sprintf("%04d%s", i, strings.Repeat("n", 800))
		r.do(t, Command{Create: &Create{Account: 1, Name: name}})
		r.do(t, Command{Subscribe: &Subscribe{Account: 1, Name: name, On: true}})
	}
	var keywords []string
	for i := range index.MaxKeywords {
		keywords = append(keywords, fmt.Sprintf("k%03d%s", i, strings.Repeat("x", index.MaxKeywordBytes-4)))
	}
	const messages = 100
	for i := range messages {
		m := Message{Ref: volume.Ref{Volume: 1, Record: uint64(i)}, Summary: []byte{1}, Keywords: keywords}
		r.do(t, Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: m}})
	}

	boxes, names, changed := 0, 0, uint32(0)
	for i, f := range r.ask(t, &Query{Kind: QueryMailboxes, Account: 1}) {
		if len(f.Mailboxes) == 0 {
			t.Errorf("frame %d is empty", i)
		}
		boxes += len(f.Mailboxes)
	}
	for _, f := range r.ask(t, &Query{Kind: QuerySubscriptions, Account: 1}) {
		names += len(f.Names)
	}
	parts := r.ask(t, &Query{Kind: QueryChanges, Account: 1, Mailbox: 1})
	for _, f := range parts {
		for _, c := range f.Changed {
			if changed++; c.UID != changed {
				t.Fatalf("UID %d in place %d", c.UID, changed)
			}
		}
		if f.UIDNext != messages+1 || f.More {
			t.Errorf("a part says that the next UID is %d", f.UIDNext)
		}
	}
	if boxes != folders+6 || names != folders+6 || changed != messages || len(parts) < 3 {
		t.Errorf("%d folders, %d names, %d changes in %d parts", boxes, names, changed, len(parts))
	}
	if f := r.ask(t, &Query{Kind: QueryChanges, Account: 1, Mailbox: 2}); len(f) != 1 || len(f[0].Changed) != 0 {
		t.Errorf("%d frames for no change", len(f))
	}
}

// What cannot be answered is refused in a frame of its own, at an entry like any other.
func TestRefusedQueries(t *testing.T) {
	r := newReplica(t)
	r.do(t, Command{Ensure: &Ensure{Account: 1}})
	for want, q := range map[Code]*Query{
		NoMailbox: {Kind: QueryStatus, Account: 1, Name: "nowhere"},
		Invalid:   {Kind: 99, Account: 1},
	} {
		if f := r.ask(t, q); len(f) != 1 || f[0].Code != want {
			t.Errorf("%+v: %+v", q, f)
		}
	}
	if f := r.ask(t, &Query{Kind: QuerySelect, Account: 2, Name: "INBOX"}); len(f) != 1 || f[0].Code != NoMailbox {
		t.Errorf("of an account that nobody used: %+v", f)
	}
	if f := r.ask(t, &Query{Kind: QueryMessages, Account: 1, Mailbox: 1, UIDs: []byte("junk")}); len(f) != 1 || f[0].Code != Invalid {
		t.Errorf("with a broken UID set: %+v", f)
	}
	v := r.store.View()
	mine := errors.New("the stream broke")
	if err := errors.Join(Answer(v, &Query{Kind: QueryMailboxes, Account: 1}, func(*Frame) error { return mine }), v.Close()); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
}

func FuzzQuery(f *testing.F) {
	for _, q := range []*Query{{Kind: QueryMailboxes, Account: 1}, {Kind: QuerySelect, Account: 1, Name: "INBOX"}, {Kind: QueryChanges, Account: 1, Mailbox: 1, Since: 1}} {
		b, err := codec.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Query
		if codec.Unmarshal(b, &q) != nil {
			return
		}
		r := newReplica(t)
		r.do(t, Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: Message{Summary: []byte{1}}}})
		r.ask(t, &q)
	})
}
