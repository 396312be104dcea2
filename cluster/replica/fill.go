package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// A copy that is too short is filled from the others, the nearest first. Where one has nothing, or bytes that do not verify, the next goes on from
// there, and the first is asked again behind that: two copies that are damaged in different places make a whole one.

// lacking is why a copy cannot be filled: every copy that gave an answer has not what follows off, or it does not verify.
type lacking struct {
	off   int64
	nodes []string // that gave that answer
	err   error    // of these nodes, and of those that gave none
}

func (l *lacking) Error() string {
	return fmt.Sprintf("no copy that answers gives what follows %d: %v", l.off, l.err)
}

func (l *lacking) Unwrap() error { return l.err }

// lacks says that an error is an answer: the copy has not the bytes, or not the right ones. Of a node that broke off nothing is known.
func lacks(err error) bool {
	var corrupt *volume.CorruptError
	return errors.As(err, &corrupt) || errors.Is(err, wire.ErrDamaged) || errors.Is(err, wire.ErrNotFound)
}

// complete fetches what a copy lacks. Volume.Extend checks each byte's place in a record.
func (m *Manager) complete(ctx context.Context, vol *volume.Volume, e Entry) error {
	first, began := vol.Durable(), time.Now()
	pace := func(off int64) {
		due := time.Duration(float64(off-first) / float64(m.cfg.RepairRate) * float64(time.Second))
		pause.For(ctx, due-time.Since(began))
	}
	silent := make(map[string]bool) // nodes that broke off: for the next attempt
	for {
		l := lacking{off: vol.Durable()}
		for _, node := range m.holders(ctx, e.ID) {
			if silent[node] {
				continue
			}
			err := m.completeFrom(ctx, node, vol, e, pace)
			if err == nil {
				return nil
			}
			l.err = errors.Join(l.err, fmt.Errorf("%s: %w", node, err))
			if ctx.Err() != nil || vol.Stats().Failed != nil {
				return fmt.Errorf("fill volume %s up to %d: %w", e.ID, e.Length, l.err)
			}
			if !lacks(err) {
				silent[node] = true
				continue
			}
			l.nodes = append(l.nodes, node)
			if !errors.Is(err, wire.ErrNotFound) {
				m.askWhole(node, e, wholeRequest{Rotten: true}) // so that it is verified, and mended from whoever has that
			}
		}
		if vol.Durable() == l.off {
			return fmt.Errorf("fill volume %s up to %d: %w", e.ID, e.Length, &l)
		}
	}
}

// completeFrom takes what a copy lacks from one node. What came whole stays, whatever comes of the rest.
func (m *Manager) completeFrom(ctx context.Context, node string, vol *volume.Volume, e Entry, pace func(off int64)) error {
	off := vol.Durable()
	synced := off
	take := func(p []byte) error {
		if err := vol.Extend(off, p); err != nil {
			return err
		}
		off += int64(len(p))
		m.stats.repairedBytes.Add(uint64(len(p)))
		if off-synced < commitEvery && off < e.Length {
			return nil
		}
		synced = off
		if _, err := vol.Commit(); err != nil {
			return err
		}
		pace(off)
		return ctx.Err()
	}
	_, err := m.fetchFrom(ctx, node, rawRequest{Volume: e.ID, Off: off, End: e.Length, Generation: e.Generation}, take)
	got, commitErr := vol.Commit()
	if err = errors.Join(err, commitErr); err == nil && got != e.Length {
		err = &volume.CorruptError{Volume: e.ID, Offset: got, Reason: fmt.Sprintf("no whole record from here to the end at %d", e.Length)}
	}
	return err
}

// fetchHead gives the header block of another copy, and the keys if they are wanted, of the nearest that has a block which verifies.
func (m *Manager) fetchHead(ctx context.Context, e Entry, keys bool) (rawHead, error) {
	var reasons error
	for _, node := range m.holders(ctx, e.ID) {
		head, err := m.fetchFrom(ctx, node, rawRequest{Volume: e.ID, Keys: keys, Generation: e.Generation}, nil)
		if err == nil {
			var h volume.Header
			if h, err = volume.DecodeHeader(head.Block); err == nil && (h.ID != e.ID || h.Generation != e.Generation) {
				err = fmt.Errorf("header block of volume %s, generation %d", h.ID, h.Generation)
			}
		}
		if err == nil {
			return head, nil
		}
		reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
	}
	return rawHead{}, fmt.Errorf("fetch header block of volume %s, generation %d: %w", e.ID, e.Generation, reasons)
}

// fetchFrom reads a stretch of another copy's file from one node and gives it to take in pieces. It returns what precedes the bytes.
func (m *Manager) fetchFrom(ctx context.Context, node string, req rawRequest, take func([]byte) error) (head rawHead, err error) {
	s, err := m.cfg.Net.Open(ctx, node, methodRaw)
	if err != nil {
		return head, err
	}
	defer hangUp(s)
	silent := time.AfterFunc(idleTimeout, func() { hangUp(s) })
	defer silent.Stop()
	if err := s.SendValue(req); err != nil {
		return head, err
	}
	if err := s.RecvValue(&head); err != nil {
		return head, err
	}
	for off := req.Off; off < req.End; {
		silent.Reset(idleTimeout)
		p, err := s.Recv()
		if err != nil {
			return head, fmt.Errorf("at %d: %w", off, err)
		}
		silent.Stop()
		if off+int64(len(p)) > req.End {
			return head, fmt.Errorf("bytes behind %d, where the volume ends", req.End)
		}
		if err := take(p); err != nil {
			return head, err
		}
		off += int64(len(p))
	}
	return head, nil
}
