package shard

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// fullTransport is what a group needs of its transport.
type fullTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	// HandRaft gives this replica's raft a request through its main loop; the answer is for nobody.
	HandRaft(ctx context.Context, request any) error
}

// handTime is how long a heartbeat waits for raft's main loop; the next one comes soon.
const handTime = time.Second

// errNotFollowing answers a heartbeat that changes the replica's term or state: the next one will find it following.
var errNotFollowing = errors.New("not a follower in that term yet")

// beats keeps heartbeats from changing a replica's term or state beside raft's main loop, where raft takes them. A leader that takes a proposal up at the moment in which a
// heartbeat brings a later term gives its entry that term, in which another leads: then two entries have the same index and term, which Raft takes for the same
// entry, and the replicas differ for good. So only those heartbeats come through that change nothing; the others go to the main loop.
type beats struct {
	fullTransport
	raft    atomic.Pointer[raft.Raft] // nil while it starts
	handing atomic.Bool               // one at a time: the main loop may be waiting for a disk
}

// SetHeartbeatHandler implements raft.Transport.
func (b *beats) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		b.fullTransport.SetHeartbeatHandler(nil)
		return
	}
	b.fullTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		a, ok := rpc.Command.(*raft.AppendEntriesRequest)
		r := b.raft.Load()
		switch {
		case !ok || r == nil:
		case a.Term < r.CurrentTerm(), a.Term == r.CurrentTerm() && r.State() == raft.Follower:
			handle(rpc)
			return
		default:
			b.hand(*a)
		}
		rpc.Respond(nil, errNotFollowing)
	})
}

// hand has raft's main loop take a heartbeat, if none waits for that.
func (b *beats) hand(beat raft.AppendEntriesRequest) {
	if !b.handing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer b.handing.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), handTime)
		defer cancel()
		_ = b.HandRaft(ctx, &beat) // else the next heartbeat
	}()
}
