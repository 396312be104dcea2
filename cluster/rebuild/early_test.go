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
func (w *world) early(in volume.ID, record uint64, to directory.Account, stored bool) (o *mailbox.Origin, body []byte) {
	w.serial++
	body = []byte(fmt.Sprintf("Subject: early %d\r\n\r\n", w.serial))
	scanner := message.NewScanner()
	_, err := scanner.Write(body)
	must(w.t, err)
	summary, err := scanner.Finish().Encode()
	must(w.t, err)
	o = &mailbox.Origin{Delivery: w.randomID(), Date: w.now, Arrived: w.now, Targets: []mailbox.Target{{Account: to.ID, Mailbox: "INBOX"}}}
	ref := volume.Ref{Length: uint64(len(body))}
	if stored {
		ref = w.put(volume.KindMessage, o, body)
	}
	ref.Volume, ref.Record = in, record
	w.command(to.Shard, mailbox.Request(o.Delivery, to.Shard), &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: []uint64{to.ID},
		Message: mailbox.Message{Ref: ref, Summary: summary, Date: o.Date}, Early: true}}, false)
	return o, body
}

// TestEarly: of messages that were entered early when the checkpoint was taken, one was put again since: it comes back. Another is in a volume that the directory's
// checkpoint does not know, since it is older or that directory had not heard of it, and of which no copy can be opened: it stays, also once the cluster has started.
func TestEarly(t *testing.T) {
	t.Run("opened later", func(t *testing.T) { testEarly(t, newWorld(t, 1)) })
	t.Run("of a recovered directory", func(t *testing.T) {
		w := newWorld(t, 1)
		w.directory(&directory.Command{Recover: &directory.Recover{Behind: true}})
		w.directory(&directory.Command{NoteRecovery: &directory.NoteRecovery{Notes: []directory.RecoveryNote{{Until: w.now}}}})
		testEarly(t, w)
	})
}

func testEarly(t *testing.T, w *world) {
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

// TestBehindTheEnd: a message that was entered early and put again has its first record still, on a copy that is longer than the directory says that the volume is: it gets the other one.
func TestBehindTheEnd(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		w := newWorld(t, 1)
		a, all := w.accounts[0], w.open
		w.open = all[:1]
		w.put(volume.KindMessage, &mailbox.Origin{Arrived: w.now}, []byte("Subject: of nobody\r\n\r\n"))
		w.open = all[1:2]
		o, body := w.early(1, 2, a, true)
		w.open = all[:1]
		w.put(volume.KindMessage, o, body)
		w.open = all[1:]
		w.directory(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: "n1", Copies: []string{"n1", "n2"}}})
		if sealed {
			w.directory(&directory.Command{SealVolume: &directory.SealVolume{ID: 1, Length: 4500, Last: 1}})
		}
		w.checkpoint()
		db, _ := w.rebuild("/rebuilt", Options{DropMissing: true})
		w.apply(db, 1<<60, a.Shard, w.randomID(), &mailbox.Command{Settle: &mailbox.Settle{Volume: 1, Last: 1}})
		w.compare(db)
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
