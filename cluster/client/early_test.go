package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// world is a shard with one replica, a volume 7 whose last record is sealed where a test says, and volumes from 8 on that take what is put
// again. Proposals get lost as a test says.
type world struct {
	t       *testing.T
	machine *mailbox.Machine
	store   *index.Shard
	copies  error                                             // that the other copies' wait ends with
	fate    func(n int, c *mailbox.Command) (lost, late bool) // of the nth proposal: its answer, or first itself; nil: none

	mu    sync.Mutex // guards what follows
	next  uint64
	asked int
	late  []func() // proposals that are still on their way
	puts  int
}

func newWorld(t *testing.T) *world {
	db, err := index.Open(vfs.NewMem(), "index", index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &world{t: t, machine: mailbox.NewMachine(func([]mailbox.Event) {}), store: db.Shard(1), next: 1}
}

// apply is what a log does with an entry: under one id, one command.
func (w *world) apply(id shard.RequestID, c *mailbox.Command) []byte {
	body, err := c.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	txn := w.store.Begin()
	txn.SetIndex(w.next)
	result, known, err := txn.Recall(id)
	if err == nil && !known {
		if result, err = w.machine.Apply(txn, 1_700_000_000, body); err == nil {
			err = txn.Remember(id, result)
		}
	}
	if err == nil {
		err = txn.Commit(w.next)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.machine.Committed()
	w.next++
	return result
}

func (w *world) propose(_ context.Context, _ uint32, id shard.RequestID, c *mailbox.Command) (*mailbox.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	lost, late := false, false
	if w.fate != nil {
		lost, late = w.fate(w.asked, c)
	}
	if late {
		w.late = append(w.late, func() { w.apply(id, c) })
		return nil, unavailable(errors.New("lost on the way"))
	}
	b := w.apply(id, c)
	if lost {
		return nil, unavailable(errors.New("the answer was lost"))
	}
	r, err := mailbox.DecodeResult(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return r, refusalOf(r.Code, r.Message, r.Shard, r.At)
}

func (w *world) settle(last uint64) {
	w.apply(shard.NewRequestID(), &mailbox.Command{Settle: &mailbox.Settle{Volume: 7, Last: last}})
}

func at(id volume.ID, record uint64) mailbox.Message {
	return mailbox.Message{Ref: volume.Ref{Volume: id, Record: record, Length: 3}, Summary: []byte{1}}
}

func (w *world) entering() *entering {
	return &entering{
		message: at(7, 5), propose: w.propose,
		copies: func(context.Context) error { return w.copies },
		put: func(context.Context) (mailbox.Message, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.puts++
			return at(volume.ID(7+w.puts), 1), nil
		},
	}
}

// inboxes lists the messages of the accounts' INBOXes: UID, volume and record.
func (w *world) inboxes(accounts ...uint64) string {
	v := w.store.View()
	defer v.Close()
	var out []string
	for _, a := range accounts {
		line := ""
		err := v.Messages(a, 1, nil, index.WantImmutable, func(m *index.Message) error {
			line += fmt.Sprintf("%d:%d.%d ", m.UID, m.Ref.Volume, m.Ref.Record)
			return nil
		})
		if err != nil && !errors.Is(err, index.ErrNoAccount) {
			w.t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(line))
	}
	return strings.Join(out, ", ")
}

// What steps 3 to 6 leave when one of the parties fails at each of them. Who was told of success has the message once, with bytes
// that are on every copy; nobody has a message whose bytes are nowhere, once the volume is settled.
func TestEnter(t *testing.T) {
	cut := errors.New("the copy's node is gone")
	first := func(n int, _ *mailbox.Command) bool { return n == 1 }
	for _, c := range []struct {
		name   string
		copies error
		fate   func(n int, c *mailbox.Command) (lost, late bool)
		sealed uint64 // the last record of volume 7 as it is sealed at last
		ok     bool   // what the caller is told
		uid    uint32
		want   string // at last
	}{
		{"all goes well", nil, nil, 5, true, 1, "1:7.5"},
		{"the leader answers nobody", nil, func(n int, c *mailbox.Command) (bool, bool) { return first(n, c), false }, 5, false, 0, "1:7.5"},
		{"the leader dies with the proposal", nil, func(n int, c *mailbox.Command) (bool, bool) { return false, first(n, c) }, 5, false, 0, "1:7.5"},
		{"and the primary with the bytes", nil, func(n int, c *mailbox.Command) (bool, bool) { return false, first(n, c) }, 4, false, 0, ""},
		{"the copy fails", cut, nil, 4, true, 1, "1:8.1"},
		{"the copy is only slow", cut, nil, 5, true, 1, "1:8.1"},
		{"the copy fails, and the leader answers nobody", cut, func(n int, c *mailbox.Command) (bool, bool) { return first(n, c), false }, 4, true, 1, "1:8.1"},
		{"the copy fails, and the proposal is late", cut, func(n int, c *mailbox.Command) (bool, bool) { return false, first(n, c) }, 4, true, 1, "1:8.1"},
		{"late, and the volume is sealed behind it", cut, func(n int, c *mailbox.Command) (bool, bool) { return false, first(n, c) }, 5, true, 1, "1:8.1"},
		{"the second proposal is lost too", cut, func(n int, c *mailbox.Command) (bool, bool) { return false, n <= 2 }, 4, false, 0, ""},
		{"the rebind is late", cut, func(_ int, c *mailbox.Command) (bool, bool) { return false, c.Rebind != nil }, 4, false, 0, "2:8.1"},
		{"the rebind's answer is lost", cut, func(_ int, c *mailbox.Command) (bool, bool) { return c.Rebind != nil, false }, 4, false, 0, "1:8.1"},
		{"the frontend dies before the rebind", cut, func(_ int, c *mailbox.Command) (bool, bool) {
			if c.Rebind != nil {
				c.Rebind.Accounts = nil
			}
			return c.Rebind != nil, false
		}, 4, false, 0, ""},
	} {
		for _, appends := range []bool{false, true} {
			w := newWorld(t)
			w.copies, w.fate = c.copies, c.fate
			e := &entry{shard: 1, id: shard.NewRequestID(), name: mailbox.Inbox, to: mailbox.Deliver{Accounts: []uint64{1}}, appends: appends}
			w.entering().run(t.Context(), []*entry{e})
			if err := e.errorOf(1); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: the caller is told %v", c.name, err)
			}
			if c.ok && appends && (e.uid != c.uid || e.uidValidity == 0) {
				t.Errorf("%s: the caller is told UID %d of %d, want %d", c.name, e.uid, e.uidValidity, c.uid)
			}
			w.settle(c.sealed)
			for _, f := range w.late {
				f()
			}
			w.settle(c.sealed)
			if got := w.inboxes(1); got != c.want {
				t.Errorf("%s: INBOX has %q, want %q", c.name, got, c.want)
			}
		}
	}
}

// Between the early entry and its rebind the volume is settled: the message comes back under a new UID, which an APPEND is told.
func TestSettledMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.copies = errors.New("the copy's node is gone")
	m := w.entering()
	put := m.put
	m.put = func(ctx context.Context) (mailbox.Message, error) {
		w.settle(4)
		return put(ctx)
	}
	e := &entry{shard: 1, id: shard.NewRequestID(), name: mailbox.Inbox, to: mailbox.Deliver{Accounts: []uint64{1}}, appends: true}
	m.run(t.Context(), []*entry{e})
	if err := e.errorOf(1); err != nil || e.uid != 2 || w.inboxes(1) != "2:8.1" {
		t.Errorf("UID %d, %v; INBOX has %q", e.uid, err, w.inboxes(1))
	}
}

// Accounts that refused the message get it neither way, and the others once. A volume that is condemned meanwhile is left for another.
func TestAgainForThoseThatAccepted(t *testing.T) {
	w := newWorld(t)
	w.copies = errors.New("the copy's node is gone")
	w.apply(shard.NewRequestID(), &mailbox.Command{Condemn: &mailbox.Condemn{Volume: 8, Generation: 1}})
	e := &entry{shard: 1, id: shard.NewRequestID(), name: mailbox.Inbox, to: mailbox.Deliver{Accounts: []uint64{1, 2, 3}}}
	e.take(&mailbox.Result{Refused: []mailbox.Refusal{{Account: 2, Code: mailbox.Limit}}}, nil)
	w.entering().run(t.Context(), []*entry{e})
	if got := w.inboxes(1, 3); got != "1:9.1, 1:9.1" || w.puts != 2 {
		t.Errorf("INBOXes have %q after %d puts", got, w.puts)
	}
	for account, want := range map[uint64]error{1: nil, 2: ErrLimit, 3: nil} {
		if err := e.errorOf(account); !errors.Is(err, want) {
			t.Errorf("account %d is told %v, want %v", account, err, want)
		}
	}
}
