package shard

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// heard keeps the handler that raft's heartbeats would come to.
type heard struct {
	*raft.InmemTransport
	handle func(raft.RPC)
	handed chan any
}

func (h *heard) HandRaft(_ context.Context, request any) error {
	h.handed <- request
	return nil
}

func (h *heard) SetHeartbeatHandler(handle func(raft.RPC)) { h.handle = handle }

// TestHeartbeatOfALaterTerm: it reaches a leader beside raft's main loop, which may be about to write an entry, and changes nothing. Found by the virtual schedules: two
// entries of one index and term.
func TestHeartbeatOfALaterTerm(t *testing.T) {
	addr, in := raft.NewInmemTransport("a")
	link := &heard{InmemTransport: in, handed: make(chan any)}
	through := &beats{fullTransport: link}
	store := raft.NewInmemStore()
	conf := raft.DefaultConfig()
	conf.LocalID = "a"
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	conf.LogOutput = t.Output()
	must(t, raft.BootstrapCluster(conf, store, store, raft.NewInmemSnapshotStore(), through, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: addr}}}))
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), through)
	must(t, err)
	beat := func(term uint64) error {
		answer := make(chan raft.RPCResponse, 1)
		link.handle(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte("b"), Addr: []byte("b")}, Term: term}, RespChan: answer})
		return (<-answer).Error
	}
	if err := beat(0); !errors.Is(err, errNotFollowing) {
		t.Errorf("before raft has started: %v", err)
	}
	through.raft.Store(r)
	eventually(t, "it leads", func() bool { return r.State() == raft.Leader })
	term := r.CurrentTerm()
	for _, of := range []uint64{term, term + 7} {
		if err := beat(of); !errors.Is(err, errNotFollowing) {
			t.Errorf("a heartbeat of term %d to a leader in %d: %v", of, term, err)
		}
		if a, ok := (<-link.handed).(*raft.AppendEntriesRequest); !ok || a.Term != of {
			t.Errorf("raft's main loop gets %+v", a)
		}
		eventually(t, "the next may be handed over", func() bool { return !through.handing.Load() })
	}
	if r.State() != raft.Leader || r.CurrentTerm() != term {
		t.Errorf("%v in term %d, led in %d", r.State(), r.CurrentTerm(), term)
	}
	must(t, r.Shutdown().Error())
}
