package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// due is step 1: whether this node is to turn the volume cold now.
func (m *Manager) due(e replica.Entry, now time.Time) bool {
	p := m.cfg.Policy
	if p.After <= 0 || e.Cold != nil || e.State != replica.Sealed || e.Length < max(p.Least, 1) || m.cfg.Clock.At(now).Sub(time.Unix(e.SealedAt, 0)) < p.After {
		return false
	}
	i := slices.IndexFunc(e.Copies, m.up)
	return i >= 0 && e.Copies[i] == m.cfg.ID
}

// convert makes the fragments of a volume and freezes it: steps 1 to 5.
func (m *Manager) convert(e replica.Entry) error {
	began := time.Now()
	vol, err := m.source(e)
	if err != nil {
		return err
	}
	c := replica.Cold{Data: uint8(m.cfg.Policy.Data), Parity: uint8(m.cfg.Policy.Parity), Seed: vol.Seed()}
	if c.Nodes, err = m.place(e); err != nil {
		return err
	}
	frozen := e
	frozen.Cold = &c
	if err := m.attachAll(frozen); err != nil {
		return err
	}
	if err := m.encode(frozen, vol); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(m.ctx, directoryTTL)
	defer stop()
	if _, err := m.cfg.Directory.FreezeVolume(ctx, e, c); err != nil {
		return fmt.Errorf("enter the fragments: %w", err)
	}
	m.stats.conversions.Add(1)
	m.stats.convertedBytes.Add(uint64(e.Length))
	m.log.Info("volume is cold", "volume", e.ID, "bytes", e.Length, "fragments", c.Nodes, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// source gives this node's copy, verified.
func (m *Manager) source(e replica.Entry) (*volume.Volume, error) {
	checked, err := m.cfg.Volumes.Verify(e.ID, volume.Check{Pace: func(n int) error { return m.wait(int64(n)) }})
	if err != nil {
		return nil, fmt.Errorf("verify the copy: %w", err)
	}
	if checked.Damaged > 0 || checked.Length != e.Length || checked.Generation != e.Generation {
		return nil, fmt.Errorf("the copy is not whole: %d damaged records, generation %d, %d bytes; expected none, %d, %d",
			checked.Damaged, checked.Generation, checked.Length, e.Generation, e.Length)
	}
	return m.cfg.Volumes.Get(e.ID)
}

func (m *Manager) wait(n int64) error {
	if m.pace == nil {
		return m.ctx.Err()
	}
	return m.pace(m.ctx, n)
}

// place is step 2, with the nodes that are up. The primary's region gets data fragments.
func (m *Manager) place(e replica.Entry) ([]string, error) {
	entries, err := m.entries()
	if err != nil {
		return nil, err
	}
	var home policy.Place
	var nodes []replica.Peer
	for _, p := range m.cfg.Peers() {
		if p.ID == e.Primary {
			home = p.Place()
		}
		if p.Takes() && m.up(p.ID) {
			nodes = append(nodes, p)
		}
	}
	return place(e.ID, policy.Of(e.Policy), m.cfg.Policy.Data, m.cfg.Policy.Parity, home, nodes, load(entries))
}

// load counts the fragments of each node.
func load(entries []replica.Entry) map[string]int {
	out := make(map[string]int)
	for _, e := range entries {
		if e.Cold == nil {
			continue
		}
		for _, node := range e.Cold.Nodes {
			out[node]++
		}
	}
	return out
}

// attachAll has every node of the fragments keep the record index and the keys.
func (m *Manager) attachAll(e replica.Entry) error {
	index, err := m.cfg.Volumes.IndexFile(e.ID)
	if err != nil {
		return err
	}
	secret, err := m.cfg.Volumes.Secret(e.ID)
	if err != nil {
		return err
	}
	a := &attachment{Volume: e.ID, Generation: e.Generation, Index: index, Keys: secret}
	for _, node := range e.Sources() {
		ctx, stop := context.WithTimeout(m.ctx, callTimeout)
		err := m.cfg.Net.Call(ctx, node, methodAttach, a, &attachReply{})
		stop()
		if err != nil {
			return fmt.Errorf("attach index and keys on %s: %w", node, err)
		}
	}
	return nil
}

// encode is steps 3 and 4.
func (m *Manager) encode(e replica.Entry, vol *volume.Volume) (err error) {
	ctx, stop := context.WithCancel(m.ctx)
	defer stop()
	l := layout(e)
	makers := make([]*maker, len(e.Cold.Nodes))
	defer func() {
		for _, k := range makers {
			if k != nil {
				hangUp(k.s)
			}
		}
	}()
	targets := make([]cold.Target, len(makers))
	for i, node := range e.Cold.Nodes {
		if makers[i], err = m.maker(ctx, node, l, i); err != nil {
			return err
		}
		if !makers[i].done {
			targets[i] = cold.Target{Sink: makers[i], From: makers[i].next}
		}
	}
	if err := cold.Encode(ctx, raw{vol}, l, targets, m.pace); err != nil {
		return err
	}
	var group errgroup.Group
	for _, k := range makers {
		group.Go(k.finish)
	}
	return group.Wait()
}

// raw is a volume's file.
type raw struct{ v *volume.Volume }

func (r raw) ReadAt(p []byte, off int64) (int, error) { return r.v.ReadRaw(off, p) }

// maker is a fragment that is being made on a node.
type maker struct {
	node  string
	index int
	s     *transport.Stream
	next  int64
	done  bool
}

func (m *Manager) maker(ctx context.Context, node string, l cold.Layout, index int) (*maker, error) {
	k := &maker{node: node, index: index}
	var err error
	if k.s, err = m.cfg.Net.Open(ctx, node, methodMake); err != nil {
		return nil, err
	}
	err = k.s.SendValue(makeRequest{Layout: l, Index: uint8(index)})
	if err == nil {
		err = k.hear()
	}
	if err != nil {
		hangUp(k.s)
		return nil, fmt.Errorf("begin fragment %d on %s: %w", index, node, err)
	}
	return k, nil
}

// hear waits for the node's word.
func (k *maker) hear() error {
	silent := time.AfterFunc(streamIdle, func() { hangUp(k.s) })
	defer silent.Stop()
	var reply makeReply
	if err := k.s.RecvValue(&reply); err != nil {
		return err
	}
	k.next, k.done = reply.Next, reply.Done
	return nil
}

// Append implements cold.Sink.
func (k *maker) Append(_ context.Context, stored []byte) error {
	silent := time.AfterFunc(streamIdle, func() { hangUp(k.s) })
	defer silent.Stop()
	for len(stored) > 0 {
		n := min(len(stored), piece*cold.BlockSize)
		if err := k.s.Send(stored[:n]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("to %s: %w", k.node, err)
		}
		stored = stored[n:]
	}
	return nil
}

func (k *maker) finish() error {
	if k.done {
		return nil
	}
	err := k.s.CloseSend()
	if err == nil {
		err = k.hear()
	}
	if err == nil && !k.done {
		err = errors.New("the node did not say that it is whole")
	}
	if err != nil {
		return fmt.Errorf("finish fragment %d on %s: %w", k.index, k.node, err)
	}
	return nil
}
