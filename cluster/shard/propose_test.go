package shard

import (
	"context"
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
		if _, _, err := m.group.Propose(ctx, c); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("before it was applied: %v", err)
		}
		cancel()
	}
	close(gate)
	b, _, err := m.group.Propose(t.Context(), c)
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
			_, _, err := m.group.Propose(context.Background(), commandEntry("x", byte(i)))
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
	if _, _, err := group.Propose(t.Context(), commandEntry("x", 99)); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("proposed to a group that has stopped: %v", err)
	}
}

func TestLargeCommandIsRefused(t *testing.T) {
	members := startGroup(t, 1)
	m := leaderOf(t, members)
	c := Command{ID: NewRequestID(), Body: make([]byte, maxCommand+1)}
	if _, _, err := m.group.Propose(t.Context(), c); !errors.Is(err, wire.ErrLimit) {
		t.Errorf("got %v", err)
	}
}
