package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
)

// A copy of which nobody knows what became is asked for again under its id: its caller learns of the copy that there is, and there is no other.
func TestDecided(t *testing.T) {
	uids, err := mailbox.EncodeUIDs(roaring.BitmapOf(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, late := range []bool{false, true} {
		w := newWorld(t)
		w.apply(shard.NewRequestID(), &mailbox.Command{Append: &mailbox.Append{Account: 1, Mailbox: mailbox.Inbox, Message: at(7, 5)}})
		w.fate = func(n int, _ *mailbox.Command) (bool, bool) { return n == 1 && !late, n == 1 && late }
		r, err := decided(w.propose)(t.Context(), testShard, shard.NewRequestID(), &mailbox.Command{Copy: &mailbox.Copy{Account: 1, Mailbox: 1, UIDs: uids, To: mailbox.Inbox}})
		for _, f := range w.late {
			f()
		}
		if err != nil || r.FirstUID != 2 || w.asked != 2 || w.inboxes(1) != "1:7.5 2:7.5" {
			t.Errorf("asked %d times: %+v, %v; INBOX has %q", w.asked, r, err, w.inboxes(1))
		}
	}
	// A refusal is an answer, and whose time is over is told what he knows.
	w := newWorld(t)
	nowhere := &mailbox.Command{Copy: &mailbox.Copy{Account: 1, Mailbox: 1, UIDs: uids, To: "nowhere"}}
	if _, err := decided(w.propose)(t.Context(), testShard, shard.NewRequestID(), nowhere); !errors.Is(err, ErrNoMailbox) || w.asked != 1 {
		t.Errorf("asked %d times: %v", w.asked, err)
	}
	w.fate = func(int, *mailbox.Command) (bool, bool) { return true, false }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := decided(w.propose)(ctx, testShard, shard.NewRequestID(), nowhere); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
