package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

func without(peers []transport.Peer, node string) []transport.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p transport.Peer) bool { return p.ID == node })
}

func setPeers(t *testing.T, n *transport.Net, peers []transport.Peer) {
	t.Helper()
	if err := n.SetPeers(peers); err != nil {
		t.Fatal(err)
	}
}

// history notes what a node is told of the others.
type history struct {
	mu   sync.Mutex // guards told
	told map[string][]bool
}

func (h *history) note(node string, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.told == nil {
		h.told = make(map[string][]bool)
	}
	h.told[node] = append(h.told[node], good)
}

func (h *history) of(node string) []bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.told[node])
}

// alternates fails unless good and bad news of a node took turns, beginning with good.
func (h *history) alternates(t *testing.T, node string) {
	t.Helper()
	for i, good := range h.of(node) {
		if good != (i%2 == 0) {
			t.Fatalf("told of %s: %v", node, h.of(node))
		}
	}
}

// hanging are handlers that begin and end only with their context.
func hanging(n *transport.Net, begun chan<- string) {
	transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
	transport.HandleUnary(n, "wait", func(ctx context.Context, from string, _ *text) (*text, error) {
		begun <- from
		<-ctx.Done()
		return nil, ctx.Err()
	})
	n.Handle("hang", func(ctx context.Context, from string, _ *transport.Stream) error {
		begun <- from
		<-ctx.Done()
		return ctx.Err()
	})
}

// everything begins work of each kind between two nodes that only their connections' end will end, and delivers how it ended.
func everything(t *testing.T, a, c *transport.Net, begun <-chan string) (count int, ended chan error) {
	t.Helper()
	ended = make(chan error, 16)
	run := func(f func() error) {
		count++
		go func() { ended <- f() }()
	}
	run(func() error { return a.Call(shortly(t), c.ID(), "wait", &text{}, nil) })
	run(func() error { return a.CallSound(shortly(t), c.ID(), "wait", &text{}, nil) })
	run(func() error { return c.Call(shortly(t), a.ID(), "wait", &text{}, nil) })
	s, back := open(t, shortly(t), a, c.ID(), "hang"), open(t, shortly(t), c, a.ID(), "hang")
	run(func() error { _, err := s.Recv(); return err })
	run(func() error { _, err := back.Recv(); return err })
	run(func() error { // fills every buffer on the way
		for {
			if err := s.Send(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	for range 5 {
		<-begun
	}
	from, to, silent := group(t, a, 1), group(t, c, 1), group(t, c, 2)
	pipe, err := from.AppendEntriesPipeline("", raft.ServerAddress(c.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.AppendEntries(appendRequest(a.ID(), 1), new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	<-to.Consumer() // and no answer
	run(func() error { defer pipe.Close(); return (<-pipe.Consumer()).Error() })
	on := group(t, a, 2)
	run(func() error {
		return on.AppendEntries("", raft.ServerAddress(c.ID()), appendRequest(a.ID(), 1), new(raft.AppendEntriesResponse))
	})
	<-silent.Consumer()
	bulk, taker := group(t, a, 3), group(t, c, 3)
	run(func() error {
		request := &raft.InstallSnapshotRequest{RPCHeader: raft.RPCHeader{Addr: []byte(a.ID())}, Size: 1}
		return bulk.InstallSnapshot("", raft.ServerAddress(c.ID()), request, new(raft.InstallSnapshotResponse), bytes.NewReader([]byte{1}))
	})
	<-taker.Consumer()
	t.Cleanup(func() { s.Close(); back.Close() })
	return count, ended
}

// leastGoroutines looks a few times: refused handshakes come and go.
func leastGoroutines() int {
	least := runtime.NumGoroutine()
	for range 50 {
		least = min(least, runtime.NumGoroutine())
		time.Sleep(time.Millisecond)
	}
	return least
}

// A node enters the table, works in every way, is taken out amid all of it, and comes back as if new.
func TestPeersComeAndGo(t *testing.T) {
	begun := make(chan string, 16)
	nets, _ := relayed(t, nil, "a", "b", "c")
	for _, n := range nets {
		hanging(n, begun)
	}
	a, b, c := nets[0], nets[1], nets[2]
	all := a.Peers()
	var up, sound history
	a.OnChange(up.note)
	a.OnDoubt(func(node string, in bool) { sound.note(node, !in) })
	setPeers(t, a, without(all, "c"))
	for _, n := range nets {
		n.Serve()
	}
	eventually(t, "a and b are up", func() bool { return a.Up("b") && b.Up("a") && b.Up("c") && c.Up("b") })
	for range 2 {
		before := leastGoroutines()
		checkAbsent(t, a, c)
		setPeers(t, a, all)
		setPeers(t, a, all)
		eventually(t, "a and c are up", func() bool { return a.Up("c") && c.Up("a") && !a.InDoubt("c") && !c.InDoubt("a") })
		if err := a.Call(shortly(t), "c", "echo", &text{}, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := a.Sound(shortly(t), "c")
		doubted := a.Doubted("c")
		count, ended := everything(t, a, c, begun)
		start := time.Now()
		setPeers(t, a, without(all, "c"))
		for range count {
			if err := <-ended; !errors.Is(err, wire.ErrUnavailable) && !errors.Is(err, wire.ErrCanceled) { // canceled says a handler that could
				t.Errorf("got %v", err)
			}
		}
		<-ctx.Done()
		<-doubted
		cancel()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("all of it ended after %v", d)
		}
		checkAbsent(t, a, c)
		eventually(t, "c misses a", func() bool { return !c.Up("a") })
		for _, n := range []*transport.Net{a, c} {
			for shard := range uint32(3) {
				n.RaftGroup(shard + 1).(raft.WithClose).Close()
			}
		}
		eventually(t, "what the peer needed is gone", func() bool { return runtime.NumGoroutine() <= before })
	}
	if !a.Up("b") {
		t.Error("b suffered")
	}
	for _, h := range []*history{&up, &sound} {
		eventually(t, "all is told", func() bool { told := h.of("c"); return len(told) >= 4 && !told[len(told)-1] })
		h.alternates(t, "c")
		h.alternates(t, "b")
	}
}

// checkAbsent asks a for everything of a node that is not in its table, and has that node knock.
func checkAbsent(t *testing.T, a, c *transport.Net) {
	t.Helper()
	select {
	case <-a.Doubted("c"):
	default:
		t.Error("c is not doubted")
	}
	if _, ok := a.RTT("c"); a.Up("c") || !a.InDoubt("c") || ok || a.Knows("c") {
		t.Error("a knows of c")
	}
	if err := a.Call(shortly(t), "c", "echo", &text{}, nil); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Open(shortly(t), "c", "hang"); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := transport.Dial(c, "a", "hongyan-raft/1"); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("a lets c in: %v", err)
	}
}

// A peer that moves keeps its connection while that works, and is then found at the new address, at once if it was lost at the old one.
func TestPeerMoves(t *testing.T) {
	nets, relays := relayed(t, nil, "a", "b")
	var up history
	a, b := nets[0], nets[1]
	a.OnChange(up.note)
	for _, n := range nets {
		transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
		n.Serve()
	}
	eventually(t, "b is up", func() bool { return a.Up("b") })
	first, second, third := relays["ab"], newRelay(t, b.Addr().String()), newRelay(t, b.Addr().String())
	moved := transport.Peer{ID: "b", Region: "elsewhere", Addr: second.listener.Addr().String(), Roles: []string{"storage"}}
	setPeers(t, a, []transport.Peer{moved})
	moved.Roles[0] = "changed by the caller"
	if p := a.Peers(); len(p) != 1 || p[0].Region != "elsewhere" || p[0].Addr != moved.Addr || p[0].Roles[0] != "storage" {
		t.Errorf("the table is %+v", p)
	}
	call := func() {
		t.Helper()
		if err := a.Call(shortly(t), "b", "echo", &text{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	call()
	if told := up.of("b"); len(told) != 1 || !told[0] {
		t.Fatalf("moving was told: %v", told)
	}
	first.set(true, false)
	eventually(t, "b is up at the second address", func() bool { return len(up.of("b")) == 3 && a.Up("b") })
	call()
	second.set(true, false)
	eventually(t, "b is down", func() bool { return len(up.of("b")) == 4 })
	moved.Addr = third.listener.Addr().String()
	setPeers(t, a, []transport.Peer{moved})
	eventually(t, "b is up at the third address", func() bool { return a.Up("b") })
	call()
	up.alternates(t, "b")
}

func TestSetPeersRefuses(t *testing.T) {
	a, _ := pair(t, func(*transport.Net) {})
	before := a.Peers()
	b := before[0]
	changes := 0
	a.OnPeers(func() { changes++ })
	for want, list := range map[string][]transport.Peer{
		"listed twice": {b, b},
		"is empty":     {b, {Addr: "127.0.0.1:1"}},
		"of peer c":    {{ID: "c", Addr: "nowhere"}},
	} {
		if err := a.SetPeers(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	setPeers(t, a, []transport.Peer{{ID: "a"}, b}) // itself is ignored, so this is what was
	if fmt.Sprint(a.Peers()) != fmt.Sprint(before) || !a.Up("b") || changes != 0 {
		t.Errorf("%d changes, to %v", changes, a.Peers())
	}
	setPeers(t, a, nil)
	if changes != 1 {
		t.Errorf("told %d times", changes)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.SetPeers(before); err == nil {
		t.Error("a closed transport took peers")
	}
}

// While all that are left ail, nobody is in doubt.
func TestDoubtFollowsTheTable(t *testing.T) {
	nets, _ := relayed(t, nil, "a", "b", "c")
	for _, n := range nets {
		n.Serve()
	}
	a := nets[0]
	all := a.Peers()
	nets[1].Ail("its disk hangs")
	eventually(t, "b ails and c does not", func() bool { return a.Up("b") && a.InDoubt("b") && !a.InDoubt("c") })
	a.Ail("its disk hangs")
	if !a.InDoubt("a") {
		t.Fatal("a is not in doubt of itself")
	}
	setPeers(t, a, without(all, "c"))
	if a.InDoubt("a") {
		t.Error("a doubts itself for a node that is gone")
	}
	setPeers(t, a, all)
	eventually(t, "c is well", func() bool { return a.InDoubt("a") })
	setPeers(t, a, nil)
	if a.InDoubt("a") {
		t.Error("alone, a doubts itself")
	}
}
