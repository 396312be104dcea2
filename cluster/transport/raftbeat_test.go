package transport_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// beatAll sends one heartbeat of each group at once and gives the answers and errors by group.
func beatAll(groups []raft.Transport) ([]raft.AppendEntriesResponse, []error) {
	answers, errs := make([]raft.AppendEntriesResponse, len(groups)), make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g.AppendEntries("b", "b", heartbeat("a"), &answers[i]) })
	}
	wg.Wait()
	return answers, errs
}

// More shards than fit in a frame send a heartbeat each at once: each gets its own shard's answer, or its own shard's error.
func TestHeartbeatsTogether(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	const shards = 600
	var from []raft.Transport
	for i := range uint32(shards) {
		from = append(from, group(t, a, i))
		if i%3 == 0 {
			continue // not on b
		}
		group(t, b, i).SetHeartbeatHandler(func(rpc raft.RPC) {
			m := rpc.Command.(*raft.AppendEntriesRequest)
			switch {
			case string(m.Addr) != "a" || string(m.ID) != "a" || m.Term != 1 || !wire.IsHeartbeat(m):
				t.Errorf("shard %d was sent %+v", i, m)
			case i%3 == 1:
				rpc.Respond(nil, errors.New("not now"))
				return
			}
			rpc.Respond(&raft.AppendEntriesResponse{Term: uint64(i), LastLog: uint64(i) + 1, Success: true}, nil)
		})
	}
	answers, errs := beatAll(from)
	for i, r := range answers {
		switch err := errs[i]; i % 3 {
		case 0:
			if !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "is not on node b") {
				t.Fatalf("shard %d: %v", i, err)
			}
		case 1:
			if err == nil || !strings.Contains(err.Error(), "not now") {
				t.Fatalf("shard %d: %v", i, err)
			}
		default:
			if err != nil || r.Term != uint64(i) || r.LastLog != uint64(i)+1 || !r.Success || string(r.Addr) != "b" {
				t.Fatalf("shard %d: %+v, %v", i, r, err)
			}
		}
	}
}

// A replica that hangs in its heartbeat, as on a disk that does, holds up the others of its frame for a moment and those of later frames
// not at all; the heartbeat is not given to it twice. Closing the group waits for raft to come back.
func TestHangingHeartbeat(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	var from, to []raft.Transport
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo) // before the nodes close, which wait for it
	var entered atomic.Int64
	for i := range uint32(3) {
		from, to = append(from, group(t, a, i)), append(to, b.RaftGroup(i))
		to[i].SetHeartbeatHandler(func(rpc raft.RPC) {
			if i == 1 {
				entered.Add(1)
				<-release
			}
			rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
		})
	}
	for range 3 {
		eventually(t, "the others' heartbeats are answered", func() bool { // each has a second, which is little on a busy machine
			_, errs := beatAll(from)
			if !errors.Is(errs[1], wire.ErrUnavailable) {
				t.Fatalf("the one that hangs: %v", errs[1])
			}
			return errs[0] == nil && errs[2] == nil
		})
	}
	if n := entered.Load(); n != 1 {
		t.Errorf("raft was given %d heartbeats at once", n)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		to[1].(raft.WithClose).Close()
	}()
	eventually(t, "the group is off the network", func() bool {
		_, errs := beatAll(from[1:2])
		return errs[0] != nil && strings.Contains(errs[0].Error(), "is not on node b")
	})
	select {
	case <-closed:
		t.Error("the group closed while raft was at work")
	default:
	}
	letGo()
	<-closed
}

// A heartbeat to a node that is down fails at once, and one that waits fails with its group.
func TestHeartbeatFails(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	g := a.RaftGroup(1)
	group(t, b, 1).SetHeartbeatHandler(func(raft.RPC) {}) // as raft does when it has shut down
	_, errs := beatAll([]raft.Transport{g})
	if !errors.Is(errs[0], wire.ErrUnavailable) {
		t.Errorf("raft had shut down: %v", errs[0])
	}
	b.Close()
	eventually(t, "b is down", func() bool { return !a.Up("b") })
	if _, errs = beatAll([]raft.Transport{g}); !errors.Is(errs[0], wire.ErrUnavailable) {
		t.Errorf("the node was down: %v", errs[0])
	}
	g.(raft.WithClose).Close()
	if _, errs = beatAll([]raft.Transport{g}); !errors.Is(errs[0], wire.ErrUnavailable) {
		t.Errorf("the group was closed: %v", errs[0])
	}
}

// What raft repeats at its timer travels only while the follower does not know it.
func TestIdleAppendsStayHome(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from := group(t, a, 1)
	last, seen := uint64(2), make(chan uint64, 16)
	serve := func() raft.Transport {
		to := b.RaftGroup(1)
		to.SetHeartbeatHandler(func(rpc raft.RPC) {
			rpc.Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: last, Success: true}, nil)
		})
		go func() {
			for {
				select {
				case rpc := <-to.Consumer():
					seen <- rpc.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
					rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
				case <-t.Context().Done():
					return
				}
			}
		}()
		return to
	}
	to := serve()
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	send := func(commit uint64, entries ...*raft.Log) {
		t.Helper()
		m := appendRequest("a", 2-uint64(len(entries)))
		m.Entries, m.LeaderCommitIndex, m.PrevLogTerm = entries, commit, 1
		if _, err := p.AppendEntries(m, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	beat := func() {
		t.Helper()
		if _, errs := beatAll([]raft.Transport{from}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	arrives := func(want uint64) {
		t.Helper()
		if got := <-seen; got != want {
			t.Fatalf("commit index %d arrived, want %d", got, want)
		}
		take(t, p)
	}
	send(1, &raft.Log{Index: 2, Term: 1})
	arrives(1)
	send(1) // nobody knows yet what the follower knows
	arrives(1)
	beat()
	send(1)
	send(2) // a new commit index
	arrives(2)
	beat()
	send(2)
	to.(raft.WithClose).Close() // it restarts and forgets
	if _, errs := beatAll([]raft.Transport{from}); errs[0] == nil {
		t.Fatal("a closed group answered")
	}
	to = serve()
	send(2)
	arrives(2)
	beat()
	send(2)
	last = 1 // it has lost its last entry
	beat()
	send(2)
	arrives(2)
	to.(raft.WithClose).Close()
}

// A follower that was told of a commit and forgets, or never heard, is told again when its answer to a heartbeat shows it.
func TestToldAgain(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from := group(t, a, 1)
	seen := make(chan uint64, 16)
	serve := func() raft.Transport {
		to := b.RaftGroup(1)
		to.SetHeartbeatHandler(func(rpc raft.RPC) {
			rpc.Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: 2, Success: true}, nil)
		})
		go func() {
			for {
				select {
				case rpc := <-to.Consumer():
					seen <- rpc.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
					rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
				case <-t.Context().Done():
					return
				}
			}
		}()
		return to
	}
	to := serve()
	m := appendRequest("a", 1)
	m.PrevLogTerm = 1
	if err := from.AppendEntries("b", "b", m, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	<-seen
	from.(interface{ Committed(uint64) }).Committed(2)
	if got := <-seen; got != 2 {
		t.Fatalf("told of %d", got)
	}
	to.(raft.WithClose).Close()
	to = serve()
	eventually(t, "it is told again", func() bool {
		_, errs := beatAll([]raft.Transport{from})
		return errs[0] == nil && len(seen) > 0
	})
	if got := <-seen; got != 2 {
		t.Fatalf("told again of %d", got)
	}
	to.(raft.WithClose).Close()
}
