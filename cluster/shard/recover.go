package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// A replica whose index was lost or damaged, while its log is there, takes the state of another one. Steps:
//
//  1. Start finds that the index lacks entries which the log no longer has, and refuses (LostError).
//  2. Recover asks the other replicas in turn for a state at or behind the entry that had been flushed here, and puts
//     it in place (index.Shard.Load: all or nothing).
//  3. Start again. The state may be ahead of the log, as after a snapshot's installation; the log's further entries are applied.
//
// The log, the term and the vote are untouched, so the replica keeps every promise that it made as a voter; a state
// holds only entries that were committed, which nobody can take back. A crash before the end of step 2 leaves step 1 to be done.

// LostError says that a replica's state lacks entries that its log no longer has.
type LostError struct {
	Shard uint32
	Has   uint64 // entries that the index holds
	Least uint64 // entry up to which it had been flushed
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the index of shard %d stands at entry %d, but had been flushed up to %d when the log was cut: it is lost, an older one, or another's",
		e.Shard, e.Has, e.Least)
}

// MethodState is the stream on which a replica gives its state.
const MethodState = "shard.state"

// How a state travels.
const (
	stateChunk   = 128 << 10
	statePause   = time.Second      // between two rounds through the replicas
	sayEvery     = 60               // rounds between two log lines; the first after a few, for connections are only being made
	stateSilence = 20 * time.Second // of a replica that sends
)

// StateRequest asks for a state that holds at least an entry. The saved state follows, in pieces.
type StateRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
	Least uint64 `cbor:"2,keyasint"`
}

// Network is the part of transport.Net that recovery needs.
type Network interface {
	Up(node string) bool
	Peers() []transport.Peer
	Open(ctx context.Context, node, method string) (*transport.Stream, error)
}

// Recover is step 2: it returns when a state is in place, or ctx ends.
func Recover(ctx context.Context, cfg Config, net Network, lost *LostError) error {
	for round := 1; ; round++ {
		var failed error
		for _, node := range net.Peers() { // who has a replica is in the log, which nobody reads before the index is there
			if !net.Up(node.ID) {
				failed = errors.Join(failed, fmt.Errorf("%s is down", node.ID))
				continue
			}
			err := fetchState(ctx, cfg.Store, net, node.ID, &StateRequest{Shard: lost.Shard, Least: lost.Least})
			if err == nil {
				cfg.Log.Info("index of a shard fetched from another node", "shard", lost.Shard, "from", node.ID)
				return nil
			}
			failed = errors.Join(failed, fmt.Errorf("from %s: %w", node.ID, err))
		}
		if round%sayEvery == sayEvery/10 {
			cfg.Log.Warn("index of a shard is lost, and no other node gives it now", "shard", lost.Shard, "err", failed)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("recover shard %d: %w", lost.Shard, ctx.Err())
		case <-time.After(statePause):
		}
	}
}

func fetchState(ctx context.Context, store *index.Shard, net Network, node string, req *StateRequest) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := net.Open(ctx, node, MethodState)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.SendValue(req); err != nil {
		return err
	}
	silent := time.AfterFunc(stateSilence, cancel)
	defer silent.Stop()
	at, whole, err := index.SavedAt(&pieces{s: s, heard: func() { silent.Reset(stateSilence) }})
	if err != nil {
		return err
	}
	if at < req.Least {
		return wire.Errorf(wire.Unavailable, "its state is of entry %d", at)
	}
	return store.Load(whole)
}

// pieces reads a stream's messages as one run of bytes.
type pieces struct {
	s     *transport.Stream
	heard func()
	rest  []byte
}

func (r *pieces) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		piece, err := r.s.Recv()
		if err != nil {
			return 0, err
		}
		r.heard()
		r.rest = piece
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// serveState gives another replica the state of this one.
func (h *Host) serveState(_ context.Context, from string, s *transport.Stream) error {
	var req StateRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("state for %s: %w", from, err)
	}
	g, err := h.find(req.Shard)
	if err != nil {
		return err
	}
	if err := g.Err(); err != nil {
		return wire.Errorf(wire.Unavailable, "shard %d: %v", req.Shard, err)
	}
	if at := g.Applied(); at < req.Least {
		return wire.Errorf(wire.Unavailable, "shard %d: at entry %d", req.Shard, at)
	}
	g.cfg.Log.Info("gives a shard's state to another node", "shard", req.Shard, "to", from)
	_, err = g.Save(&pieceWriter{s: s})
	return err
}

// pieceWriter sends what it is given in messages of a bounded size.
type pieceWriter struct{ s *transport.Stream }

func (w *pieceWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), stateChunk)
		if err := w.s.Send(p[:k]); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}
