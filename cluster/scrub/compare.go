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

// differ finds out where two copies differ although each is whole by itself, and takes the other's records in place of those whose
// content is not what their hash says. The other node is asked to look as well: perhaps it is the one that is wrong.
func (s *Scrubber) differ(ctx context.Context, e replica.Entry, node string) {
	where, err := s.differences(ctx, e, node)
	mended, unsound := 0, error(nil)
	for _, off := range where {
		n, err := s.settle(ctx, e, off, min(off+volume.RangeSize, e.Length))
		mended += n
		unsound = errors.Join(unsound, err)
	}
	if mended > 0 {
		s.log.Warn("records replaced whose checksums were right and whose content was not", "volume", e.ID, "records", mended, "err", unsound)
		s.StartNow(e.ID)
		return
	}
	s.log.Error("two whole copies of a volume differ; remove the file of the one that is wrong, and it is made anew",
		"volume", e.ID, "node", node, "ranges", len(where), "err", errors.Join(err, unsound))
	if err != nil || unsound != nil { // it could not be looked at, or not be settled: again soon
		s.mu.Lock()
		s.putOff(e.ID)
		s.mu.Unlock()
	}
	fresh := false
	if len(where) == 0 {
		fresh = s.note(Finding{Volume: e.ID, End: e.Length, What: "another whole copy differs", From: node, Differs: true})
	}
	for _, off := range where {
		end := min(off+volume.RangeSize, e.Length)
		fresh = s.note(Finding{Volume: e.ID, Start: off, End: end, What: "another whole copy differs", From: node, Differs: true}) || fresh
	}
	if !fresh {
		return // the other node was asked before
	}
	var reply startReply
	try, stop := context.WithTimeout(ctx, reportWait)
	defer stop()
	if err := s.cfg.Net.Call(try, node, methodStart, &startRequest{Volume: e.ID}, &reply); err != nil {
		s.log.Info("the other copy's node was not asked", "volume", e.ID, "node", node, "err", err)
	}
}

// settle looks at the content of the records in a range that differs.
func (s *Scrubber) settle(ctx context.Context, e replica.Entry, start, end int64) (mended int, err error) {
	vol, err := s.cfg.Volumes.Get(e.ID)
	if err != nil {
		return 0, err
	}
	records, err := vol.Within(start, end)
	if err != nil {
		return 0, err
	}
	for _, record := range records {
		n, settleErr := s.replaceUnsound(ctx, e, vol, record)
		mended += n
		err = errors.Join(err, settleErr)
	}
	return mended, err
}

// replaceUnsound takes another copy's bytes for a record whose content is not what its hash says.
func (s *Scrubber) replaceUnsound(ctx context.Context, e replica.Entry, vol *volume.Volume, record uint64) (int, error) {
	var corrupt *volume.CorruptError
	if err := vol.Sound(record); !errors.As(err, &corrupt) {
		return 0, nil // sound, or nobody can tell: its key is gone
	}
	nodes, files := s.cfg.Copies.Others(ctx, e)
	out, err := s.cfg.Volumes.Mend(e.ID, record, volume.Check{Pace: s.pace, Others: files, Distrust: true})
	s.book(e, nodes, out)
	if err == nil {
		err = vol.Sound(record)
	}
	if err != nil {
		return 0, fmt.Errorf("record %d: %w", record, err)
	}
	return 1, nil
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
	case <-ctx.Done():
		return fmt.Errorf("ranges for %s: %w", from, ctx.Err())
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
