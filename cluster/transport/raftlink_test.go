package transport_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

func appendRequest(from string, entry uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(from), Addr: []byte(from)},
		Term:      1, PrevLogEntry: entry, Entries: []*raft.Log{{Index: entry + 1, Term: 1, Data: []byte("x")}},
	}
}

func heartbeat(from string) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte(from), Addr: []byte(from)}, Term: 1}
}

// answer serves a group's requests: appends succeed and say which they were.
func answer(t *testing.T, g raft.Transport) {
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-g.Consumer():
				if m, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
					rpc.Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: m.PrevLogEntry + 1, Success: true}, nil)
				} else {
					rpc.Respond(nil, errors.New("not now"))
				}
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func group(t *testing.T, n *transport.Net, shard uint32) raft.Transport {
	g := n.RaftGroup(shard)
	t.Cleanup(func() { g.(raft.WithClose).Close() })
	return g
}

func take(t *testing.T, p raft.AppendPipeline) raft.AppendFuture {
	t.Helper()
	select {
	case f := <-p.Consumer():
		return f
	case <-time.After(10 * time.Second):
		t.Fatal("no future came")
		return nil
	}
}

func TestPipelineInOrder(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from, to := group(t, a, 1), group(t, b, 1)
	answer(t, to)
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	go func() {
		for i := range uint64(1000) {
			if _, err := p.AppendEntries(appendRequest("a", i+1), new(raft.AppendEntriesResponse)); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range uint64(1000) {
		f := take(t, p)
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
		if f.Request().PrevLogEntry != i+1 || f.Response().LastLog != i+2 || !f.Response().Success || f.Start().IsZero() {
			t.Fatalf("future %d is for entry %d with response %+v", i, f.Request().PrevLogEntry, f.Response())
		}
	}
}

// Many requests may be under way; when the connection breaks all of them fail at once, without success.
func TestPipelineBreaks(t *testing.T) {
	nets, relays := relayed(t, nil, "a", "b")
	for _, n := range nets {
		n.Serve()
	}
	eventually(t, "b is up", func() bool { return nets[0].Up("b") })
	from := group(t, nets[0], 1)
	group(t, nets[1], 1) // never answers
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(128) {
		if _, err := p.AppendEntries(appendRequest("a", i+1), new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	relays["ab"].set(true, false)
	for range 128 {
		f := take(t, p)
		if err := f.Error(); err == nil || f.Response().Success {
			t.Fatalf("got %+v, %v", f.Response(), err)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("failing took %v", d)
	}
	if _, err := p.AppendEntries(appendRequest("a", 1), new(raft.AppendEntriesResponse)); err == nil {
		t.Error("a broken pipeline took another request")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestPipelineCloseUnblocks(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from := group(t, a, 1)
	group(t, b, 1) // never answers
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for i := uint64(1); ; i++ {
			if _, err := p.AppendEntries(appendRequest("a", i), new(raft.AppendEntriesResponse)); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond) // let it fill; harmless when it does not
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Fatal("no error")
	}
}

// A shard whose raft does not move holds up neither its own heartbeats nor other shards, and is told off when too far behind.
func TestSlowShard(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	slow, fast := group(t, a, 1), group(t, a, 2)
	answer(t, group(t, b, 2))
	stuck := group(t, b, 1)
	stuck.SetHeartbeatHandler(func(rpc raft.RPC) {
		rpc.Respond(&raft.AppendEntriesResponse{Term: 9, Success: true}, nil)
	})
	for range 4 {
		p, err := slow.AppendEntriesPipeline("b", "b")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for i := range uint64(100) {
			if _, err := p.AppendEntries(appendRequest("a", i+1), new(raft.AppendEntriesResponse)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range uint64(100) {
		var resp raft.AppendEntriesResponse
		if err := fast.AppendEntries("b", "b", appendRequest("a", i+1), &resp); err != nil || !resp.Success {
			t.Fatalf("the other shard: %+v, %v", resp, err)
		}
		if i%20 != 0 {
			continue
		}
		if err := slow.AppendEntries("b", "b", heartbeat("a"), &resp); err != nil || resp.Term != 9 {
			t.Fatalf("the slow shard's heartbeat: %+v, %v", resp, err)
		}
	}
	var resp raft.AppendEntriesResponse
	if err := slow.AppendEntries("b", "b", appendRequest("a", 1), &resp); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("a shard hundreds of requests behind took another: %v", err)
	}
}

func TestRaftRefusals(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from := group(t, a, 1)
	cases := []struct {
		name   string
		target raft.ServerAddress
		req    *raft.AppendEntriesRequest
		setup  func()
		want   error
		text   string
	}{
		{"unknown node", "z", heartbeat("a"), nil, wire.ErrUnavailable, "not in the peer table"},
		{"unregistered shard", "b", appendRequest("a", 1), nil, wire.ErrUnavailable, "shard 1 is not on node b"},
		{"impostor", "b", appendRequest("c", 1), func() { answer(t, group(t, b, 1)) }, wire.ErrDenied, `speaks for "c"`},
	}
	for _, c := range cases {
		if c.setup != nil {
			c.setup()
		}
		err := from.AppendEntries("", c.target, c.req, new(raft.AppendEntriesResponse))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := from.(raft.WithPreVote).RequestPreVote("b", "b", &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{Addr: []byte("a")}}, new(raft.RequestPreVoteResponse))
	if err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("raft's own error became %v", err)
	}
}

// Closing a group ends what waits in it, on both sides, and frees its number.
func TestRaftGroupClose(t *testing.T) {
	a, b := pair(t, func(*transport.Net) {})
	from := a.RaftGroup(1)
	g := b.RaftGroup(1) // never answers
	if b.RaftGroup(1) != g {
		t.Fatal("asked twice, got two groups")
	}
	errs := make(chan error, 1)
	go func() {
		errs <- from.AppendEntries("b", "b", appendRequest("a", 1), new(raft.AppendEntriesResponse))
	}()
	<-g.Consumer()
	g.(raft.WithClose).Close()
	if err := <-errs; !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	b.Close()
	go func() {
		errs <- from.AppendEntries("b", "b", appendRequest("a", 1), new(raft.AppendEntriesResponse)) // waits for b
	}()
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	from.(raft.WithClose).Close()
	if err := <-errs; err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if a.RaftGroup(1) == from {
		t.Error("a closed group came back")
	}
	a.RaftGroup(1).(raft.WithClose).Close()
}

func TestSnapshotOutcomes(t *testing.T) {
	const size = 1 << 20
	cases := []struct {
		name   string
		sent   int // bytes that the leader has
		follow func(rpc raft.RPC)
		want   string // in the error
	}{
		{"taken", size, func(rpc raft.RPC) {
			n, err := io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{Term: uint64(n), Success: true}, err)
		}, ""},
		{"taken slowly", size, func(rpc raft.RPC) {
			n, err := io.Copy(io.Discard, rpc.Reader)
			time.Sleep(time.Second) // far more than may pass without progress
			rpc.Respond(&raft.InstallSnapshotResponse{Term: uint64(n), Success: true}, err)
		}, ""},
		{"refused", size, func(rpc raft.RPC) { rpc.Respond(nil, errors.New("disk full")) }, "disk full"},
		{"leader's copy is short", size - 1, func(rpc raft.RPC) {
			_, err := io.Copy(io.Discard, rpc.Reader)
			if err == nil {
				err = errors.New("a short snapshot looked whole")
			}
			rpc.Respond(nil, err)
		}, "65536 of 1048576 bytes left"},
		{"no such shard", size, nil, "shard 1 is not on node b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			nets, _ := relayed(t, transport.Hasten, "a", "b")
			nets[0].Serve()
			nets[1].Serve()
			eventually(t, "b is up", func() bool { return nets[0].Up("b") })
			from := group(t, nets[0], 1)
			if c.follow != nil {
				to := group(t, nets[1], 1)
				go func() { c.follow(<-to.Consumer()) }()
			}
			req := &raft.InstallSnapshotRequest{RPCHeader: raft.RPCHeader{Addr: []byte("a")}, Size: size}
			var resp raft.InstallSnapshotResponse
			err := from.InstallSnapshot("b", "b", req, &resp, bytes.NewReader(make([]byte, c.sent)))
			if c.want == "" && (err != nil || resp.Term != size || !resp.Success) {
				t.Errorf("got %+v, %v", resp, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}
