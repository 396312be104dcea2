package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

type digestRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
}

type digestReply struct {
	Digest  []byte `cbor:"1,keyasint,omitempty"` // SHA-256 of the file; absent if this copy was not verified yet, or is damaged
	Checked int64  `cbor:"2,keyasint,omitempty"` // unix seconds
}

type rangesRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
}

// compare is step 4. Whoever verifies last compares.
func (s *Scrubber) compare(ctx context.Context, e replica.Entry, nodes []string, digest [32]byte) {
	for _, node := range nodes {
		var reply digestReply
		try, stop := context.WithTimeout(ctx, reportWait)
		err := s.cfg.Net.Call(try, node, methodDigest, &digestRequest{Volume: e.ID, Generation: e.Generation}, &reply)
		stop()
		if err != nil {
			s.log.Info("copies not compared", "volume", e.ID, "node", node, "err", err)
			continue
		}
		if len(reply.Digest) == 0 {
			continue
		}
		same := bytes.Equal(reply.Digest, digest[:])
		s.mu.Lock()
		s.totals.Compared++
		if !same {
			s.totals.Mismatches++
		}
		s.mu.Unlock()
		if !same {
			s.differ(ctx, e, node)
		}
	}
}

// differ finds out where two copies differ although each is whole by itself.
func (s *Scrubber) differ(ctx context.Context, e replica.Entry, node string) {
	where, err := s.differences(ctx, e, node)
	s.log.Error("two whole copies of a volume differ; remove the file of the one that is wrong, and it is made anew",
		"volume", e.ID, "node", node, "ranges", len(where), "err", err)
	if len(where) == 0 {
		s.note(Finding{Volume: e.ID, End: e.Length, What: "another whole copy differs", From: node, Differs: true})
	}
	for _, off := range where {
		s.note(Finding{Volume: e.ID, Start: off, End: min(off+volume.RangeSize, e.Length), What: "another whole copy differs", From: node, Differs: true})
	}
}

// differences reads both copies, a range at a time.
func (s *Scrubber) differences(ctx context.Context, e replica.Entry, node string) (where []int64, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := s.cfg.Net.Open(ctx, node, methodRanges)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }() // its outcome is known by then
	if err := stream.SendValue(rangesRequest{Volume: e.ID, Generation: e.Generation}); err != nil {
		return nil, err
	}
	off := int64(0)
	_, err = s.cfg.Volumes.Verify(e.ID, volume.Check{Pace: s.pace, Range: func(sum [32]byte) error {
		other, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("digest of %s at %d: %w", node, off, err)
		}
		if !bytes.Equal(other, sum[:]) && len(where) < maxFindings/2 {
			where = append(where, off)
		}
		off += volume.RangeSize
		return nil
	}})
	if err != nil {
		return where, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return where, fmt.Errorf("more digests of %s than ranges, or an error: %w", node, err)
	}
	return where, nil
}

// serveDigest says what the last check of this node's copy found.
func (s *Scrubber) serveDigest(_ context.Context, _ string, req *digestRequest) (*digestReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.marks[req.Volume]
	if k == nil || k.Generation != req.Generation {
		return &digestReply{}, nil
	}
	return &digestReply{Digest: k.Digest, Checked: k.Checked}, nil
}

// serveRanges reads this node's copy for another node's comparison, one at a time and at the rate of all scrubbing.
func (s *Scrubber) serveRanges(ctx context.Context, from string, stream *transport.Stream) error {
	var req rangesRequest
	if err := stream.RecvValue(&req); err != nil {
		return fmt.Errorf("ranges for %s: %w", from, err)
	}
	if s.cfg.Volumes == nil {
		return wire.Errorf(wire.NotFound, "%s stores no volumes", s.cfg.ID)
	}
	select {
	case s.asked <- struct{}{}:
		defer func() { <-s.asked }()
	default:
		return wire.Errorf(wire.Unavailable, "%s reads ranges for another node", s.cfg.ID)
	}
	out, err := s.cfg.Volumes.Verify(req.Volume, volume.Check{
		Pace:  func(n int) error { return s.limit.WaitN(ctx, min(n, burst)) },
		Range: func(sum [32]byte) error { return stream.Send(sum[:]) },
	})
	if err != nil {
		return wire.Errorf(wire.Internal, "ranges of volume %s for %s: %v", req.Volume, from, err)
	}
	if out.Generation != req.Generation {
		return wire.Errorf(wire.Invalid, "volume %s is in generation %d here, asked for %d", req.Volume, out.Generation, req.Generation)
	}
	return nil
}
