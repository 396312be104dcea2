package transport_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
)

type aheadSender interface {
	Ahead(before *raft.Log, committed uint64, entries []*raft.Log)
}

// aheadStore is a leader's log that followers are sent beforehand, and that then takes its time.
type aheadStore struct {
	*raft.InmemStore
	group aheadSender
	raft  atomic.Pointer[raft.Raft]
	slow  time.Duration
}

func (s *aheadStore) StoreLogs(entries []*raft.Log) error {
	if r := s.raft.Load(); r != nil && r.State() == raft.Leader {
		var before raft.Log
		if s.GetLog(entries[0].Index-1, &before) == nil {
			s.group.Ahead(&before, r.CommitIndex(), entries)
			time.Sleep(s.slow)
		}
	}
	return s.InmemStore.StoreLogs(entries)
}

// heard is a follower that accepts what it is sent and keeps it.
type heard chan *raft.AppendEntriesRequest

func hearAll(t *testing.T, g raft.Transport) heard {
	h, stop, done := make(heard, 100), make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-g.Consumer():
				m := rpc.Command.(*raft.AppendEntriesRequest)
				h <- m
				rpc.Respond(&raft.AppendEntriesResponse{Term: m.Term, LastLog: m.PrevLogEntry + uint64(len(m.Entries)), Success: true}, nil)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return h
}

// next checks which entries the follower got next.
func (h heard) next(t *testing.T, after uint64, n int) {
	t.Helper()
	select {
	case m := <-h:
		if m.PrevLogEntry != after || len(m.Entries) != n {
			t.Fatalf("%d entries after %d came, expected %d after %d", len(m.Entries), m.PrevLogEntry, n, after)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("entries after %d did not come", after)
	}
}

func entries(term, from uint64, n int) (list []*raft.Log) {
	for i := range uint64(n) {
		list = append(list, &raft.Log{Index: from + i, Term: term, Data: []byte("x")})
	}
	return list
}

func TestAhead(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from, to := group(t, a, 1), group(t, b, 1)
	h := hearAll(t, to)
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ahead := func(term, after uint64, n int) {
		from.(aheadSender).Ahead(&raft.Log{Index: after, Term: 1}, after, entries(term, after+1, n))
	}
	ask := func(after uint64, n int) {
		t.Helper()
		m := appendRequest("a", after)
		m.Entries = entries(1, after+1, n)
		if _, err := p.AppendEntries(m, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		f := take(t, p)
		if err := f.Error(); err != nil || f.Request() != m || !f.Response().Success || f.Response().LastLog < after+uint64(n) {
			t.Fatalf("%d entries after %d: %+v, %v", n, after, f.Response(), err)
		}
	}

	ahead(1, 1, 1) // nothing is known of the follower
	ask(1, 1)
	h.next(t, 1, 1)
	ahead(1, 3, 1) // not the next
	ahead(2, 2, 1) // of another term
	ahead(1, 2, 1)
	h.next(t, 2, 1) // before raft asks
	ask(2, 1)
	ahead(1, 3, 3)
	h.next(t, 3, 3)
	ahead(1, 6, 1)
	h.next(t, 6, 1)
	ask(3, 2) // in other pieces
	ask(5, 2)
	ahead(1, 7, 1)
	h.next(t, 7, 1)
	ask(7, 2) // with one more, which was not sent
	h.next(t, 7, 2)
	ask(9, 1)
	h.next(t, 9, 1)
	if len(h) > 0 {
		t.Errorf("%d requests were sent twice", len(h))
	}
}

// An early request that fails fails raft's, which begins anew; what was never asked for is forgotten with its pipeline.
func TestAheadFails(t *testing.T) {
	nets, relays := relayed(t, nil, "a", "b")
	for _, n := range nets {
		n.Serve()
	}
	eventually(t, "b is up", func() bool { return nets[0].Up("b") })
	from := group(t, nets[0], 1)
	h := hearAll(t, group(t, nets[1], 1))
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.AppendEntries(appendRequest("a", 1), new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	h.next(t, 1, 1)
	if err := take(t, p).Error(); err != nil {
		t.Fatal(err)
	}
	relays["ab"].set(false, true) // what is sent is held
	from.(aheadSender).Ahead(&raft.Log{Index: 2, Term: 1}, 2, entries(1, 3, 1))
	from.(aheadSender).Ahead(&raft.Log{Index: 3, Term: 1}, 2, entries(1, 4, 1))
	if _, err := p.AppendEntries(appendRequest("a", 2), new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	relays["ab"].set(true, false)
	if f := take(t, p); f.Error() == nil || f.Response().Success {
		t.Fatalf("got %+v, %v", f.Response(), f.Error())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	from.(aheadSender).Ahead(&raft.Log{Index: 4, Term: 1}, 2, entries(1, 5, 1)) // to nobody
}
