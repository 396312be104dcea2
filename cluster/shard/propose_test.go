package shard

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"hongyan/cluster/wire"
)

// A request that is asked for again while its entry is on the way is in the log once.
func TestImpatientRetriesShareAnEntry(t *testing.T) {
	members := startGroup(t, 1)
	m := leaderOf(t, members)
	before := m.group.raft.LastIndex()
	gate := m.machine.close()
	c := commandEntry("x", 1)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, _, err := m.group.Propose(ctx, c, ForPeople); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("before it was applied: %v", err)
		}
		cancel()
	}
	close(gate)
	b, _, err := m.group.Propose(t.Context(), c, ForPeople)
	must(t, err)
	if n := m.group.raft.LastIndex() - before; count(b) != 1 || n > 2 { // the last one may have come after the others' end
		t.Errorf("counted %d, %d entries", count(b), n)
	}
}

// Proposals that wait when a replica stops get an answer.
func TestStopAnswersProposals(t *testing.T) {
	members := startGroup(t, 3)
	m := leaderOf(t, members)
	for _, o := range others(members, m) {
		o.stop(t)
	}
	answers := make(chan error)
	for i := range 10 {
		go func() {
			_, _, err := m.group.Propose(context.Background(), commandEntry("x", byte(i)), ForPeople)
			answers <- err
		}()
	}
	group := m.group
	m.stop(t)
	for range 10 {
		if err := <-answers; err == nil {
			t.Error("committed without a majority")
		}
	}
	if _, _, err := group.Propose(t.Context(), commandEntry("x", 99), ForPeople); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("proposed to a group that has stopped: %v", err)
	}
}

func TestLargeCommandIsRefused(t *testing.T) {
	members := startGroup(t, 1)
	m := leaderOf(t, members)
	c := Command{ID: NewRequestID(), Body: make([]byte, MaxCommand+1)}
	if _, _, err := m.group.Propose(t.Context(), c, ForPeople); !errors.Is(err, wire.ErrLimit) {
		t.Errorf("got %v", err)
	}
}

// In an overload the least important is refused first, at once, and what is asked for again joins what waits.
func TestOverloadShedsBulkFirst(t *testing.T) {
	p := proposals{waiting: make(map[RequestID]*proposal)}
	fill := func(class Class) (n int) {
		for {
			var id RequestID
			binary.BigEndian.PutUint32(id[:], uint32(len(p.waiting)))
			w, first := p.join(id, class)
			if w == nil {
				return n
			}
			if !first {
				t.Fatal("a new request joined an old one")
			}
			n++
		}
	}
	background, bulk, people := fill(Background), fill(Bulk), fill(ForPeople)
	if background == 0 || bulk == 0 || people == 0 || background+bulk+people != maxWaiting {
		t.Errorf("let in %d, then %d and %d", background, bulk, people)
	}
	if w, first := p.join(RequestID{}, Background); w == nil || first {
		t.Error("a request that waits was refused")
	}
}

// A leader that is overloaded says so, and is not asked again.
func TestOverloadIsAnsweredAtOnce(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	leader.group.proposals.mu.Lock()
	leader.group.proposals.waiting = make(map[RequestID]*proposal)
	for i := range maxWaiting {
		var id RequestID
		binary.BigEndian.PutUint32(id[:], uint32(i))
		leader.group.proposals.waiting[id] = &proposal{done: make(chan struct{})}
	}
	leader.group.proposals.mu.Unlock()
	_, _, err := others(members, leader)[0].router.Propose(t.Context(), testShard, []byte("x"), Bulk)
	if !errors.Is(err, wire.ErrOverloaded) {
		t.Errorf("got %v", err)
	}
}
