package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// tend looks after a cold volume: the copy that this node still has, its fragments, and those of nodes that are gone.
func (m *Manager) tend(e replica.Entry, now time.Time) {
	for i, node := range e.Cold.Nodes {
		n := cold.Name{Volume: e.ID, Generation: e.Generation, Index: i}
		switch {
		case node == m.cfg.ID && m.leaves(node, now) && m.first(e, now) && !m.cfg.Paused():
			m.try(task{"move", e.ID, i}, func() error { return m.move(e.ID, i, node) })
		case node == m.cfg.ID:
			m.try(task{"rebuild", e.ID, i}, func() error { return m.rebuild(e, n) })
		case m.leaves(node, now) && m.first(e, now) && !m.cfg.Paused():
			m.try(task{"move", e.ID, i}, func() error { return m.move(e.ID, i, node) })
		}
	}
	m.dropCopy(e, now)
}

// first says that of the nodes with fragments which are up, and stay if any does, this one comes first.
func (m *Manager) first(e replica.Entry, now time.Time) bool {
	i := slices.IndexFunc(e.Cold.Nodes, func(node string) bool { return m.up(node) && !m.leaves(node, now) })
	if i < 0 {
		i = slices.IndexFunc(e.Cold.Nodes, m.up)
	}
	return i >= 0 && e.Cold.Nodes[i] == m.cfg.ID
}

// leaves says that a node is drained, lost, gone from the cluster, or has been down for long.
func (m *Manager) leaves(node string, now time.Time) bool {
	peers := m.cfg.Peers()
	if i := slices.IndexFunc(peers, func(p replica.Peer) bool { return p.ID == node }); i < 0 || peers[i].Leaving {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	since, down := m.down[node]
	return down && now.Sub(since) >= goneAfter
}

// move has another node hold a fragment of one that leaves: it is made there first, so that no fragment is missing meanwhile but one that is
// lost anyway. Where it may go depends on where the others are, so the directory is asked before and behind the making: of two that move
// at once one begins anew. A crash leaves a draft or an unnamed fragment, which the next attempt goes on with, or the sweep removes.
func (m *Manager) move(id volume.ID, index int, from string) error {
	e, err := m.present(id)
	if err != nil {
		return err
	}
	if e.Cold == nil || index >= len(e.Cold.Nodes) || e.Cold.Nodes[index] != from {
		return nil // somebody has moved it, or the volume is cold no more
	}
	entries, err := m.entries()
	if err != nil {
		return err
	}
	takes := func(p replica.Peer) bool { return p.Takes() && m.up(p.ID) }
	to, ok := replacement(e.ID, policy.Of(e.Policy), e.Cold, index, m.cfg.Peers(), takes, load(entries))
	if !ok {
		return fmt.Errorf("fragment %d is on %s, which leaves or is gone, and no other node may hold it", index, from)
	}
	if err := m.makeOn(e, index, to); err != nil {
		return fmt.Errorf("make fragment %d of %s on %s: %w", index, from, to, err)
	}
	now, err := m.present(id)
	if err != nil {
		return err
	}
	if now.Epoch != e.Epoch {
		return fmt.Errorf("fragment %d is made on %s, and the volume's entry has changed meanwhile: where it may go is looked at again", index, to)
	}
	ctx, stop := context.WithTimeout(m.ctx, directoryTTL)
	defer stop()
	if _, err := m.cfg.Directory.MoveFragment(ctx, e.ID, index, from, to); err != nil {
		return fmt.Errorf("move fragment %d from %s to %s: %w", index, from, to, err)
	}
	m.stats.moves.Add(1)
	m.log.Info("fragment has moved", "volume", e.ID, "fragment", index, "from", from, "to", to)
	return nil
}

// present gives the entry of a volume as it is now, one without fragments if there is none.
func (m *Manager) present(id volume.ID) (replica.Entry, error) {
	ctx, stop := context.WithTimeout(m.ctx, directoryTTL)
	defer stop()
	e, _, err := m.cfg.Directory.Volume(ctx, id)
	if err != nil {
		return e, fmt.Errorf("ask the directory for the volume: %w", err)
	}
	return e, nil
}

// makeOn computes a fragment from others into a file of another node, with what belongs to it.
func (m *Manager) makeOn(e replica.Entry, index int, to string) error {
	a, err := m.attached(m.ctx, e)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(m.ctx, callTimeout)
	defer stop()
	if err := m.cfg.Net.Call(ctx, to, methodAttach, a, &attachReply{}); err != nil {
		return fmt.Errorf("attach index and keys: %w", err)
	}
	k, err := m.maker(m.ctx, to, layout(e), index)
	if err != nil {
		return err
	}
	defer hangUp(k.s)
	if k.done {
		return nil
	}
	r, err := m.reader(e, bulkSilence)
	if err != nil {
		return err
	}
	if err := r.Rebuild(m.ctx, index, cold.Target{Sink: k, From: k.next}, m.pace); err != nil {
		return err
	}
	return k.finish()
}

// rebuild makes a fragment of this node anew if it is lost, and what belongs to it.
func (m *Manager) rebuild(e replica.Entry, n cold.Name) error {
	if err := m.rebuildAttached(e); err != nil {
		return err
	}
	lost, err := m.cfg.Fragments.Lost(layout(e), n.Index)
	if err != nil || !lost {
		return err
	}
	return m.remake(e, n)
}

// remake computes a fragment of this node from others, into a new file.
func (m *Manager) remake(e replica.Entry, n cold.Name) error {
	began := time.Now()
	r, err := m.reader(e, bulkSilence)
	if err != nil {
		return err
	}
	d, err := m.cfg.Fragments.Make(m.ctx, layout(e), n.Index)
	if err != nil {
		return err
	}
	from := d.Next()
	err = r.Rebuild(m.ctx, n.Index, cold.Target{Sink: d, From: from}, m.pace)
	if err == nil {
		err = d.Finish(m.ctx)
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	m.stats.rebuilds.Add(1)
	m.stats.rebuiltBytes.Add(uint64(layout(e).FileSize()))
	m.log.Info("fragment rebuilt", "volume", e.ID, "fragment", n.Index, "bytes", layout(e).FileSize(), "resumed_at", from,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// copyOf stands for the whole copy of a cold volume where fragments have names.
func copyOf(id volume.ID) cold.Name { return cold.Name{Volume: id, Index: -1} }

// dropCopy is step 6.
func (m *Manager) dropCopy(e replica.Entry, now time.Time) {
	key := copyOf(e.ID)
	if !slices.Contains(m.cfg.Volumes.List(), e.ID) {
		return
	}
	m.mu.Lock()
	since, seen := m.since[key]
	_, thawing := m.thawing[e.ID]
	if !seen || thawing {
		m.since[key] = now
	}
	m.mu.Unlock()
	if !seen || thawing || now.Sub(since) < dropAfter {
		return
	}
	m.try(task{"drop", e.ID, 0}, func() error {
		if err := m.confirm(e); err != nil {
			return err
		}
		if err := m.cfg.Volumes.Remove(e.ID); err != nil && !errors.Is(err, volume.ErrNotFound) {
			return fmt.Errorf("remove the copy: %w", err)
		}
		m.mu.Lock()
		delete(m.since, key)
		m.mu.Unlock()
		m.stats.dropped.Add(1)
		m.log.Info("copy of cold volume removed", "volume", e.ID)
		return nil
	})
}

// confirm asks every node whether its fragment is whole, and has it destroy the keys that are destroyed here (I1, I3).
func (m *Manager) confirm(e replica.Entry) error {
	var destroyed []uint64
	secret, err := m.cfg.Volumes.Secret(e.ID)
	if err != nil {
		return err
	}
	if secret != nil {
		destroyed = cold.Destroyed(secret, cmp.Or(e.Last, math.MaxUint64))
	}
	for i := range e.Cold.Nodes {
		if err := m.confirmOne(e, i, destroyed, secret != nil); err != nil {
			return err
		}
	}
	return nil
}

// confirmOne does it for one fragment.
func (m *Manager) confirmOne(e replica.Entry, index int, destroyed []uint64, encrypted bool) error {
	ctx, stop := context.WithTimeout(m.ctx, callTimeout)
	defer stop()
	l, node := layout(e), e.Cold.Nodes[index]
	req := &haveRequest{Fragment: fragmentID{Volume: e.ID, Generation: e.Generation, Index: uint8(index)}, Layout: &l, Destroyed: destroyed, Encrypted: encrypted}
	var reply haveReply
	if err := m.cfg.Net.Call(ctx, node, methodHave, req, &reply); err != nil {
		return fmt.Errorf("confirm fragment %d on %s: %w", index, node, err)
	}
	if !reply.Whole {
		return fmt.Errorf("fragment %d on %s is not whole: what is here stays until it is", index, node)
	}
	return nil
}

// sweep removes fragments that no entry names and that nobody is about to name, and index and keys with the last of them (I2).
func (m *Manager) sweep(entries []replica.Entry, now time.Time) {
	known := make(map[volume.ID]replica.Entry, len(entries))
	for _, e := range entries {
		known[e.ID] = e
	}
	drafts, err := m.cfg.Fragments.Drafts()
	if err != nil {
		m.log.Warn("drafts of fragments not listed", "err", err)
	}
	unnamed := make(map[cold.Name]struct{})
	for _, n := range append(m.cfg.Fragments.List(), drafts...) {
		if !m.names(known[n.Volume], n) {
			unnamed[n] = struct{}{}
		}
	}
	for n := range unnamed {
		m.mu.Lock()
		since, seen := m.since[n]
		if !seen {
			m.since[n] = now
		}
		m.mu.Unlock()
		if !seen || now.Sub(since) < sweepAfter {
			continue
		}
		m.try(task{"sweep", n.Volume, n.Index}, func() error { return m.sweepOne(n, since) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.since {
		_, still := unnamed[n]
		if n == copyOf(n.Volume) {
			still = known[n.Volume].Cold != nil
		}
		if !still {
			delete(m.since, n)
		}
	}
}

// sweepOne removes a fragment unless it is named now, or was just asked for. One that another node is named for stays until that has it; those of a volume
// that was thawed until as many of its copies as must not be lost at once are known to be whole, in the generation that there is now; and those of one
// that the directory does not know while a recovery is not over, of which it may have come out without entries that it had.
func (m *Manager) sweepOne(n cold.Name, since time.Time) error {
	e, err := m.present(n.Volume)
	if err != nil {
		return err
	}
	if m.names(e, n) {
		return nil
	}
	if e.ID == 0 && m.cfg.Recovering() {
		return errors.New("the directory has no such volume, and a recovery is not over (see `hongyan admin recover`): its fragment stays")
	}
	if e.Cold != nil && e.Generation == n.Generation && n.Index < len(e.Cold.Nodes) && m.cfg.Fragments.Has(n) {
		keyless, err := m.cfg.Fragments.KeysLost(n.Volume)
		if err == nil {
			err = m.confirmOne(e, n.Index, nil, !keyless)
		}
		if err != nil {
			return err
		}
	}
	if e.State == replica.Sealed && e.Cold == nil && e.Length > 0 {
		whole := 0
		for _, node := range e.Copies {
			if m.cfg.Whole(node, e) {
				whole++
			}
		}
		if whole < min(e.Wanted(), 2) {
			return fmt.Errorf("%d of the volume's copies on %v are known to be whole: its fragment stays until there are more", whole, e.Copies)
		}
	}
	m.mu.Lock()
	now, still := m.since[n]
	m.mu.Unlock()
	if !still || now != since {
		return nil // somebody was told meanwhile that it is here, and is about to name it
	}
	return m.remove(n)
}

// wanted has the time begin anew after which a fragment that nobody names is removed.
func (m *Manager) wanted(n cold.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.since, n)
}

// names says that an entry has a fragment on this node.
func (m *Manager) names(e replica.Entry, n cold.Name) bool {
	return e.Cold != nil && e.Generation == n.Generation && n.Index < len(e.Cold.Nodes) && e.Cold.Nodes[n.Index] == m.cfg.ID
}

func (m *Manager) remove(n cold.Name) error {
	if err := m.cfg.Fragments.Remove(n); err != nil {
		return err
	}
	m.log.Info("fragment removed that nothing names", "volume", n.Volume, "generation", n.Generation, "fragment", n.Index)
	if slices.ContainsFunc(m.cfg.Fragments.List(), func(o cold.Name) bool { return o.Volume == n.Volume }) {
		return nil
	}
	m.views.forget(n.Volume)
	m.mu.Lock()
	delete(m.plain, n.Volume)
	delete(m.suspect, n.Volume)
	m.mu.Unlock()
	return m.cfg.Fragments.Detach(n.Volume)
}

// verifyNext reads one fragment of this node that was not read for long, and what lies beside it, and mends what is damaged.
func (m *Manager) verifyNext(entries []replica.Entry, now time.Time) {
	for _, e := range entries {
		if e.Cold == nil {
			continue
		}
		for i, node := range e.Cold.Nodes {
			n := cold.Name{Volume: e.ID, Generation: e.Generation, Index: i}
			m.mu.Lock()
			last := m.verified[n]
			m.mu.Unlock()
			if node != m.cfg.ID || now.Sub(last) < verifyEvery || !m.cfg.Fragments.Has(n) {
				continue
			}
			if m.try(task{"verify", e.ID, i}, func() error { return m.verify(e, n) }) { // of one that waits after a failure the others are not to suffer
				return
			}
		}
	}
}

func (m *Manager) verify(e replica.Entry, n cold.Name) error {
	if err := m.mendBeside(e); err != nil {
		return err
	}
	f, err := m.cfg.Fragments.Get(n)
	if err != nil {
		return err
	}
	damaged, err := f.Verify(m.ctx, m.pace)
	if err != nil {
		return err
	}
	m.stats.verified.Add(1)
	if len(damaged) > 0 {
		r, err := m.reader(e, bulkSilence)
		if err != nil {
			return err
		}
		switch err := f.Mend(m.ctx, r, damaged); {
		case err == nil:
			m.stats.mendedBlocks.Add(uint64(len(damaged)))
			m.log.Warn("damaged fragment mended", "volume", e.ID, "fragment", n.Index, "blocks", len(damaged))
		case errors.Is(err, cold.ErrTooFew) || m.ctx.Err() != nil:
			return err
		default: // the disk does not take them there
			m.log.Warn("damaged fragment not mended in place: it is made anew", "volume", e.ID, "fragment", n.Index, "blocks", len(damaged), "err", err)
			if err := m.remake(e, n); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	m.verified[n] = time.Now()
	m.mu.Unlock()
	return nil
}
