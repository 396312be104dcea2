package relocate

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// half is one of the two shards of a move, without Raft.
type half struct {
	machine *mailbox.Machine
	store   *index.Shard
	next    uint64
}

func newHalf(t *testing.T) *half {
	t.Helper()
	db, err := index.Open(vfs.NewMem(), "index", index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &half{machine: mailbox.NewMachine(func([]mailbox.Event) {}), store: db.Shard(1)}
}

func (h *half) apply(t *testing.T, body []byte) []byte {
	t.Helper()
	h.next++
	txn := h.store.Begin()
	txn.SetIndex(h.next)
	result, err := h.machine.Apply(txn, 1_700_000_000, body)
	if err == nil {
		err = txn.Commit(h.next)
	}
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (h *half) take(t *testing.T, c mailbox.Command) error {
	t.Helper()
	_, _, err := c.Commit(func(body []byte) ([]byte, uint64, error) { return h.apply(t, body), h.next, nil })
	return err
}

func (h *half) place(t *testing.T, account uint64) index.Place {
	t.Helper()
	v := h.store.View()
	p, err := v.Place(account)
	if err == nil {
		err = v.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whoever worked on a move before, and wakes up in the middle of its being called off, cannot have the account end in neither shard: it is in one when all have done
// what they can, whichever step came between which.
func TestCalledOffBesideAnEarlierRun(t *testing.T) {
	const account, from, to = 9, 1, 2
	for release := range 3 {
		for activate := release; activate < 3; activate++ {
			shards := map[uint32]*half{from: newHalf(t), to: newHalf(t)}
			do := func(number uint32, c mailbox.Move) error {
				c.Account = account
				return shards[number].take(t, mailbox.Command{Move: &c})
			}
			if err := shards[from].take(t, mailbox.Command{Ensure: &mailbox.Ensure{Account: account}}); err != nil {
				t.Fatal(err)
			}
			for number, step := range map[uint32]mailbox.Move{to: {Step: mailbox.MoveArrive, Fence: 5, Shard: from}, from: {Step: mailbox.MoveFreeze, Fence: 5, Shard: to}} {
				if err := do(number, step); err != nil {
					t.Fatal(err)
				}
			}
			var released error
			earlier := func(n int) {
				if n == release {
					released = do(from, mailbox.Move{Step: mailbox.MoveRelease, Fence: 5, Shard: to, At: 1})
				}
				if n == activate && released == nil {
					_ = do(to, mailbox.Move{Step: mailbox.MoveActivate, Fence: 5}) // refused where the later run was faster
				}
			}
			n := 0
			c := &convoy{commit: func(tasks []*task) {
				for _, one := range tasks {
					earlier(n)
					n++
					one.result, one.at = shards[one.shard].apply(t, one.body), shards[one.shard].next
					close(one.done)
				}
			}}
			r, m := &Relocator{}, &move{Relocation: directory.Relocation{Account: account, From: from, To: to, Fence: 6}, with: c.join()}
			err := r.keep(t.Context(), m)
			for ; n < 3; n++ {
				earlier(n)
			}
			if place := shards[from].place(t, account); place.State == index.Gone { // the next run goes on from 6
				if err == nil {
					t.Errorf("release before step %d, activate before %d: the account is said to stay", release, activate)
				}
				if err := do(to, mailbox.Move{Step: mailbox.MoveActivate, Fence: 7}); err != nil {
					t.Errorf("release before step %d, activate before %d: in neither shard: %v", release, activate, err)
				}
			} else if err != nil || place.State != index.Here || shards[to].place(t, account).State != index.Gone {
				t.Errorf("release before step %d, activate before %d: %+v and %+v: %v", release, activate, place, shards[to].place(t, account), err)
			}
		}
	}
}

// An account that is to stay goes on at once, also if it was frozen and the shard that it was to go to does not answer.
func TestCalledOffWithoutTheOtherShard(t *testing.T) {
	const account, from, to = 9, 1, 2
	old, lost := newHalf(t), errors.New("no leader answered")
	for _, c := range []mailbox.Command{
		{Ensure: &mailbox.Ensure{Account: account}},
		{Move: &mailbox.Move{Account: account, Step: mailbox.MoveFreeze, Fence: 5, Shard: to}},
	} {
		if err := old.take(t, c); err != nil {
			t.Fatal(err)
		}
	}
	c := &convoy{commit: func(tasks []*task) {
		for _, one := range tasks {
			if one.shard == to {
				one.err = lost
			} else {
				one.result, one.at = old.apply(t, one.body), old.next
			}
			close(one.done)
		}
	}}
	r, m := &Relocator{}, &move{Relocation: directory.Relocation{Account: account, From: from, To: to, Fence: 6}, with: c.join()}
	if err := r.keep(t.Context(), m); !errors.Is(err, lost) {
		t.Error(err)
	}
	if p := old.place(t, account); p.State != index.Here {
		t.Errorf("%+v", p)
	}
}
