package transport_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// Requests that may wait do so for a peer's entry in the table, and end when a peer that is down is taken out of it.
func TestAppendAwaitsTheTable(t *testing.T) {
	nets, relays := relayed(t, nil, "a", "b")
	a, b := nets[0], nets[1]
	all := a.Peers()
	setPeers(t, a, nil)
	for _, n := range nets {
		n.Serve()
	}
	from, to := group(t, a, 1), group(t, b, 1)
	answer(t, to)
	ended := make(chan error, 1)
	send := func() {
		ended <- from.AppendEntries("b", "b", appendRequest("a", 1), new(raft.AppendEntriesResponse))
	}
	go send()
	eventually(t, "the request waits", func() bool { return waitsIn("(*Net).awaitPeer") })
	setPeers(t, a, all)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	relays["ab"].set(true, false)
	eventually(t, "b is down", func() bool { return !a.Up("b") })
	go send()
	eventually(t, "the request waits", func() bool { return waitsIn(").await(") })
	setPeers(t, a, nil)
	if err := <-ended; !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "taken out of the peer table") {
		t.Errorf("got %v", err)
	}
}

// waitsIn finds a function in the stack of a goroutine that waits.
func waitsIn(function string) bool {
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, function) && strings.Contains(stack, "[select") {
			return true
		}
	}
	return false
}

// A follower and then the leader are taken out of the others' tables, while entries are committed, and come back under their ids.
func TestRaftGoesOnAsPeersComeAndGo(t *testing.T) {
	replicas, nets, _ := threeReplicas(t)
	tables := make([][]transport.Peer, len(nets))
	for i, n := range nets {
		tables[i] = n.Peers()
	}
	apply(t, 200, replicas...)
	same(t, replicas...)
	for _, leads := range []bool{false, true} {
		l, out := leader(t, replicas...), 0
		for (replicas[out] == l) != leads {
			out++
		}
		var rest []*replica
		for i, n := range nets {
			if i != out {
				rest = append(rest, replicas[i])
				setPeers(t, n, without(tables[i], nets[out].ID()))
			}
		}
		apply(t, 200, rest...)
		same(t, rest...)
		if had, _ := replicas[out].fsm.state(); had >= count(rest[0]) {
			t.Errorf("%s, taken out, has %d entries", nets[out].ID(), had)
		}
		for i, n := range nets {
			setPeers(t, n, tables[i])
		}
		same(t, replicas...)
	}
}

func count(r *replica) uint64 {
	n, _ := r.fsm.state()
	return n
}

// The table changes again and again, from several sides, under calls, streams and Raft requests to all of its nodes. Each of them
// ends as it should or with Unavailable; what is told of a node keeps its order; at the end all is as the last table says.
func TestSetPeersUnderTraffic(t *testing.T) {
	nets, _ := relayed(t, nil, "a", "b", "c")
	var up, sound history
	a := nets[0]
	a.OnChange(up.note)
	a.OnDoubt(func(node string, in bool) { sound.note(node, !in) })
	for _, n := range nets {
		transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
		n.Handle("echo stream", echoStream)
		answer(t, group(t, n, 1))
		n.Serve()
	}
	eventually(t, "all are up", func() bool { return a.Up("b") && a.Up("c") && nets[1].Up("a") && nets[2].Up("a") })
	all := a.Peers()
	moved := without(all, "c")
	moved = append(moved, transport.Peer{ID: "c", Addr: newRelay(t, nets[2].Addr().String()).listener.Addr().String()})
	tables := [][]transport.Peer{all, without(all, "c"), moved, without(all, "b"), nil, moved}

	var traffic, changes sync.WaitGroup
	var stop atomic.Bool
	var did atomic.Int64
	for _, work := range trafficOf(t, a, nets[1], nets[2]) {
		traffic.Go(func() {
			for !stop.Load() {
				if err := work(); err == nil {
					did.Add(1)
				} else if !errors.Is(err, wire.ErrUnavailable) && !errors.Is(err, wire.ErrCanceled) {
					t.Errorf("got %v", err)
					return
				}
			}
		})
	}
	for i := range 2 {
		changes.Go(func() {
			for k := range 30 {
				setPeers(t, a, tables[(k+i*3)%len(tables)])
				before := did.Load() // let some through in between, if any can
				for wait := time.Now().Add(40 * time.Millisecond); did.Load() < before+5 && time.Now().Before(wait); {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	changes.Wait()
	setPeers(t, a, all)
	stop.Store(true)
	traffic.Wait()
	eventually(t, "all are up again", func() bool { return a.Up("b") && a.Up("c") && nets[1].Up("a") && nets[2].Up("a") })
	for _, node := range []string{"b", "c"} {
		if err := a.Call(shortly(t), node, "echo", &text{}, nil); err != nil {
			t.Error(err)
		}
		up.alternates(t, node)
		sound.alternates(t, node)
	}
	t.Logf("%d requests done, b was up or down %d times", did.Load(), len(up.of("b")))
	var closing sync.WaitGroup // races with Close change nothing any more, or are undone by it
	for i := range 4 {
		closing.Go(func() { _ = a.SetPeers(tables[i]) })
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	closing.Wait()
}

// trafficOf gives requests of each kind between a and the others.
func trafficOf(t *testing.T, a *transport.Net, others ...*transport.Net) (work []func() error) {
	g := a.RaftGroup(1)
	for _, o := range others {
		target := raft.ServerAddress(o.ID())
		work = append(work,
			func() error { return callIn(a, o.ID()) },
			func() error { return callIn(o, a.ID()) },
			func() error {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				s, err := a.Open(ctx, o.ID(), "echo stream")
				if err != nil {
					return err
				}
				defer s.Close()
				if err := s.Send([]byte("x")); err != nil {
					return err
				}
				_, err = s.Recv()
				return err
			},
			func() error {
				return g.AppendEntries("", target, appendRequest("a", 1), new(raft.AppendEntriesResponse))
			},
			func() error {
				a.Gossip().Send(o.ID(), []byte("x"))
				return g.AppendEntries("", target, heartbeat("a"), new(raft.AppendEntriesResponse)) // an error at best: no raft is there
			},
			func() error {
				ctx, cancel := a.Sound(context.Background(), o.ID())
				defer cancel()
				_, _ = a.RTT(o.ID())
				return a.CallSound(ctx, o.ID(), "echo", &text{}, nil)
			})
	}
	return work
}

func callIn(n *transport.Net, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.Call(ctx, to, "echo", &text{}, nil)
}
