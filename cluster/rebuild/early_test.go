package rebuild

import (
	"fmt"
	"testing"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// early enters a message as one of a volume that its bytes never got to. They are stored in another one, or nowhere.
func (w *world) early(in volume.ID, record uint64, to directory.Account, stored bool) {
	w.serial++
	body := []byte(fmt.Sprintf("Subject: early %d\r\n\r\n", w.serial))
	scanner := message.NewScanner()
	_, err := scanner.Write(body)
	must(w.t, err)
	summary, err := scanner.Finish().Encode()
	must(w.t, err)
	o := &mailbox.Origin{Delivery: w.randomID(), Date: w.now, Arrived: w.now, Targets: []mailbox.Target{{Account: to.ID, Mailbox: "INBOX"}}}
	ref := volume.Ref{Length: uint64(len(body))}
	if stored {
		ref = w.put(volume.KindMessage, o, body)
	}
	ref.Volume, ref.Record = in, record
	w.command(to.Shard, mailbox.Request(o.Delivery, to.Shard), &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: []uint64{to.ID},
		Message: mailbox.Message{Ref: ref, Summary: summary, Date: o.Date}, Early: true}}, false)
}

// TestEarly: of messages that were entered early when the checkpoint was taken, one was put again since: it comes back. Another is in a volume that the directory's
// checkpoint does not know and of which no copy can be opened: it stays, also once the cluster has started.
func TestEarly(t *testing.T) {
	w := newWorld(t, 1)
	a := w.accounts[0]
	w.early(1, 1000, a, true)
	w.early(77, 3, a, false)
	w.checkpoint()
	db, report := w.rebuild("/rebuilt", Options{DropMissing: true, Closed: []volume.ID{77}})
	w.compare(db)
	moved := uint64(0)
	for _, s := range report.Shards {
		moved += s.Rehoused
		if s.Missing+s.Entered > 0 {
			t.Errorf("%+v", s)
		}
	}
	v := db.Shard(a.Shard).View()
	defer func() { must(t, v.Close()) }()
	early, err := v.EarlyVolumes()
	if err != nil || moved != 1 || len(early) != 1 || early[0].Volume != 1 || early[0].Last != 0 && early[0].Last >= 1000 {
		t.Errorf("%d entries were put elsewhere; markers %+v, %v", moved, early, err)
	}
}

// TestShortCopy: of a volume one copy cannot be opened and the other one is short: what refers to records behind its end stays.
func TestShortCopy(t *testing.T) {
	w := newWorld(t, 1)
	a := w.accounts[0]
	w.early(1, 1000, a, false)
	w.checkpoint()
	for dropped, closed := range [][]volume.ID{{1}, nil} {
		_, report := w.rebuild(fmt.Sprint("/rebuilt-", dropped), Options{DropMissing: true, Closed: closed})
		got := uint64(0)
		for _, s := range report.Shards {
			got += s.Dropped
		}
		if got != uint64(dropped) {
			t.Errorf("left out %v: %d messages were dropped", closed, got)
		}
	}
}
