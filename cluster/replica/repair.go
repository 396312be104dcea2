package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/policy"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Waits of the repairer.
const (
	mendEvery   = 5 * time.Second
	longestRest = 250 * time.Millisecond // after a volume, twice what it took
	vanishedFor = 86400                  // seconds that the entry of a volume without files stays; shards settle their early entries within seconds of having a leader
	mendRetry   = time.Second            // after a failure, doubled up to mendAtMost
	mendAtMost  = 15 * time.Second
	mendTimeout = 10 * time.Minute // for one volume; what was committed by then stays
)

// mending is what the repairer remembers of volumes between its rounds. Only its goroutine uses it.
type mending struct {
	retry      map[volume.ID]retry      // copies that could not be mended
	orphans    map[volume.ID]time.Time  // files without an entry, since when
	unnamed    map[volume.ID]time.Time  // files whose entries do not name this node, since when
	incomplete map[volume.ID]incomplete // of retry, those for which a copy to fill from was there
}

type retry struct {
	at   time.Time
	wait time.Duration
}

// repairer is the goroutine of step 5: one volume at a time, so that it never takes more than its rate.
func (m *Manager) repairer() {
	state := mending{retry: make(map[volume.ID]retry), orphans: make(map[volume.ID]time.Time),
		unnamed: make(map[volume.ID]time.Time), incomplete: make(map[volume.ID]incomplete)}
	for {
		for _, e := range m.behind(&state) {
			if m.ctx.Err() != nil {
				return
			}
			began := time.Now()
			m.mendOne(&state, e)
			pause.For(m.ctx, min(2*time.Since(began), longestRest)) // of small ones there may be thousands
		}
		m.sweep(&state)
		m.removeMoved(&state)
		m.dropStaleNext(&state)
		wait := time.NewTimer(mendEvery/2 + rand.N(mendEvery))
		select {
		case <-m.mend:
		case <-wait.C:
		case <-m.ctx.Done():
			wait.Stop()
			return
		}
		wait.Stop()
	}
}

// behind lists the sealed copies of this node that are not known to be whole and are due.
func (m *Manager) behind(state *mending) []Entry {
	now, recovering := time.Now(), m.cfg.Recovering != nil && m.cfg.Recovering()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Entry
	for id, e := range m.entries {
		_, whole := m.whole[id]
		if whole && e.Length == 0 && !m.Up(e.Primary) {
			whole = false // the copy went, and the primary, which was to drop the entry, is gone since
		}
		if e.Generation == 0 && e.Length == 0 && (recovering || e.Last > 0 && m.cfg.Clock.Now().Unix() < e.SealedAt+vanishedFor) {
			continue // empty, or vanished: first the shards with early entries of it have to learn of Last, which its entry says
		}
		if e.State == Sealed && e.Holds(m.cfg.ID) && !whole && !now.Before(state.retry[id].at) {
			out = append(out, e)
		}
	}
	for id := range state.retry {
		if _, ok := m.entries[id]; !ok {
			delete(state.retry, id)
			delete(state.incomplete, id)
		}
	}
	return out
}

// mendOne mends one copy. The list that e is from may be minutes old: what the entry says now counts, before and afterwards.
func (m *Manager) mendOne(state *mending, e Entry) {
	if now, known := m.entry(e.ID); !known || !now.asks(e) || !now.Holds(m.cfg.ID) {
		signal(m.mend) // the next list has it, if there is anything to do
		return
	}
	ctx, stop := context.WithTimeout(m.ctx, mendTimeout)
	defer stop()
	var err error
	var how soundness
	switch {
	case e.Length == 0 && e.Generation > 0:
		err = m.dropCollected(ctx, e)
	case e.Length == 0:
		err = m.drop(ctx, e)
	default:
		if how, err = m.mendCopy(ctx, e); err != nil {
			how, err = flawed, m.takeAsIs(ctx, state, e, err)
		}
	}
	if err == nil {
		delete(state.retry, e.ID)
		delete(state.incomplete, e.ID)
		if !m.noteWhole(e, how) {
			signal(m.mend)
		} else if how == flawed && (m.cfg.Checked == nil || !m.cfg.Checked(e.ID, e.Generation).Doubted) { // of who knows already it would only have another check begin
			m.noteDamage(e.ID, 0)
		}
		return
	}
	if m.ctx.Err() != nil {
		return
	}
	wait := max(mendRetry, min(2*state.retry[e.ID].wait, mendAtMost))
	state.retry[e.ID] = retry{at: time.Now().Add(wait/2 + rand.N(wait)), wait: wait}
	m.stats.repairFailures.Add(1)
	m.log.Warn("copy of volume not mended", "volume", e.ID, "retry", wait, "err", err)
}

// noteWhole has a copy counted as long as it should be, if its entry still asks for what it was made by.
func (m *Manager) noteWhole(e Entry, how soundness) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, known := m.entries[e.ID]
	if !known || !now.asks(e) || !now.Holds(m.cfg.ID) {
		return false
	}
	m.whole[e.ID] = how
	return true
}

// drop removes a copy of a volume that was sealed without records, and its entry. The primary does the latter, or any
// other copy's node while the primary is away.
func (m *Manager) drop(ctx context.Context, e Entry) error {
	if err := m.remove(e.ID); err != nil {
		return err
	}
	if e.Primary != m.cfg.ID && m.cfg.Net.Up(e.Primary) {
		return nil
	}
	return m.dropEntry(ctx, e)
}

func (m *Manager) dropEntry(ctx context.Context, e Entry) error {
	ctx, stop := context.WithTimeout(ctx, directoryWait)
	defer stop()
	if err := m.cfg.Directory.DropVolume(ctx, e.ID); err != nil {
		return fmt.Errorf("drop entry of volume %s: %w", e.ID, err)
	}
	return nil
}

func (m *Manager) remove(id volume.ID) error {
	m.mu.Lock()
	f := m.followers[id]
	m.mu.Unlock()
	if f != nil {
		f.fence()
	}
	if err := m.cfg.Volumes.Remove(id); err != nil && !errors.Is(err, volume.ErrNotFound) {
		return fmt.Errorf("remove copy: %w", err)
	}
	m.mu.Lock()
	delete(m.whole, id)
	m.mu.Unlock()
	m.stats.removed.Add(1)
	return nil
}

// mendCopy cuts or fills this node's copy up to the sealed length, and says what is known of its bytes then.
func (m *Manager) mendCopy(ctx context.Context, e Entry) (soundness, error) {
	vol, err := m.sealedCopy(ctx, e)
	if err != nil {
		return unproved, err
	}
	switch have := vol.Header().Generation; {
	case have < e.Generation:
		return unproved, m.advance(ctx, e)
	case have > e.Generation:
		return unproved, fmt.Errorf("volume %s has generation %d here, %d in this node's copy of the directory", e.ID, have, e.Generation)
	}
	if err := m.mendKeys(ctx, e); err != nil {
		return unproved, err
	}
	how, before := unproved, vol.Durable()
	if before >= e.Length {
		// Also when nothing is left to cut from the index: bytes of records that never became whole may lie behind.
		end := cutAt(vol.Damage(), e.Length)
		if err := vol.Truncate(end); err != nil {
			return unproved, fmt.Errorf("cut copy from %d to %d: %w", before, end, err)
		}
		if before > end {
			m.stats.cuts.Add(1)
			m.log.Info("copy cut", "volume", e.ID, "from", before, "to", end, "sealed", e.Length)
		}
		if end == e.Length {
			if len(vol.Damage()) > 0 {
				how = flawed
			}
			return how, m.sealMended(vol)
		}
		before = end
	}
	if vol.Stats().Records == 0 {
		how = proved
	}
	if err := m.complete(ctx, vol, e); err != nil {
		return unproved, err
	}
	m.stats.repairs.Add(1)
	m.log.Info("copy mended", "volume", e.ID, "from", before, "to", e.Length)
	return how, m.sealMended(vol)
}

// cutAt is where a copy that is too long is cut: at its sealed length, or where damage begins that reaches across it. What the disk lost there may begin before
// the seal and end behind it, and within it no end of a record is known: the rest comes from another copy.
func cutAt(damage []volume.Span, length int64) int64 {
	for _, s := range damage {
		if s.Start < length && length < s.End {
			return s.Start
		}
	}
	return length
}

// sealMended has the index of a mended copy saved.
func (m *Manager) sealMended(vol *volume.Volume) error {
	if err := vol.Seal(); err != nil {
		return fmt.Errorf("seal mended copy: %w", err)
	}
	return nil
}

// sealedCopy gives this node's copy in a state that repair may write: its stream cut, what was not committed given
// up, read again if a write failed. A copy that is missing, or whose header block is damaged so that nothing behind it can be
// told, begins with another one's header block.
func (m *Manager) sealedCopy(ctx context.Context, e Entry) (*volume.Volume, error) {
	m.mu.Lock()
	f := m.followers[e.ID]
	m.mu.Unlock()
	if f != nil {
		f.fence()
	}
	vol, err := m.cfg.Volumes.Get(e.ID)
	var corrupt *volume.CorruptError
	if damaged := errors.As(err, &corrupt); damaged || errors.Is(err, volume.ErrNotFound) {
		vol, err = m.begin(ctx, e, damaged)
	}
	if err != nil {
		return nil, fmt.Errorf("open copy to mend: %w", err)
	}
	if h := vol.Header(); h.Epoch > e.Epoch {
		return nil, fmt.Errorf("volume %s has epoch %d here, %d in the directory", e.ID, h.Epoch, e.Epoch)
	}
	if err := vol.Seal(); err != nil {
		m.log.Warn("copy is read again after a failure", "volume", e.ID, "err", err)
		if vol, err = m.cfg.Volumes.Reopen(e.ID); err != nil {
			return nil, fmt.Errorf("open failed copy again: %w", err)
		}
		m.noteDamage(e.ID, 0) // what it gives may come from the system's memory: checking reads the disk
	}
	return vol, nil
}

// begin gives this node's copy a header block. The block of another copy makes a file with a damaged one as good as before;
// only where no record goes with it, or there is no file, the copy is made anew.
func (m *Manager) begin(ctx context.Context, e Entry, damaged bool) (*volume.Volume, error) {
	if err := m.refuseUnder(policy.Of(e.Policy), e.ID); err != nil {
		return nil, err
	}
	head, err := m.fetchHead(ctx, e, true)
	if err != nil {
		return nil, err
	}
	if damaged {
		if err := m.cfg.Volumes.MendHeader(e.ID, head.Block); err == nil {
			m.log.Warn("header block of a copy mended", "volume", e.ID)
			m.noteDamage(e.ID, 0)
			return m.cfg.Volumes.Get(e.ID)
		} else if !errors.Is(err, volume.ErrMisplaced) {
			return nil, err
		}
		m.log.Warn("copy with a damaged header is made anew", "volume", e.ID)
		if err := m.cfg.Volumes.Remove(e.ID); err != nil {
			return nil, err
		}
	}
	return m.cfg.Volumes.CreateCopy(head.Block, head.Secret)
}

// mendKeys gives an encrypted volume its key file back, from another copy, if it is gone.
func (m *Manager) mendKeys(ctx context.Context, e Entry) error {
	lost, err := m.cfg.Volumes.KeysLost(e.ID)
	if err != nil || !lost {
		return err
	}
	head, err := m.fetchHead(ctx, e, true)
	if err != nil {
		return err
	}
	if head.Secret == nil {
		return fmt.Errorf("other copies of volume %s gave no keys", e.ID)
	}
	if err := m.cfg.Volumes.ReplaceKeys(e.ID, head.Secret); err != nil {
		return err
	}
	m.log.Info("key file made anew from another copy", "volume", e.ID)
	return nil
}

// serveRaw gives another node a stretch of this node's copy.
func (m *Manager) serveRaw(ctx context.Context, from string, s *transport.Stream) error {
	var req rawRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("raw read for %s: %w", from, err)
	}
	if m.cfg.Volumes == nil {
		return wire.Errorf(wire.NotFound, "%s stores no volumes", m.cfg.ID)
	}
	vol, err := m.cfg.Volumes.Get(req.Volume)
	if err != nil {
		return storageError(fmt.Errorf("raw read for %s: %w", from, err))
	}
	if have := vol.Header().Generation; have != req.Generation {
		return wire.Errorf(wire.NotFound, "volume %s has generation %d here, %s asked for %d", req.Volume, have, from, req.Generation)
	}
	if durable := vol.Durable(); req.Off < 0 || req.End > durable {
		if vol.Stats().Unsure {
			return unsure(m.cfg.ID, req.Volume)
		}
		return wire.Errorf(wire.NotFound, "volume %s is durable up to %d here, %s asked up to %d", req.Volume, durable, from, req.End)
	}
	head, err := m.rawHead(ctx, vol, from, req.Keys)
	if err != nil {
		return storageError(fmt.Errorf("raw read for %s: %w", from, err))
	}
	if err := s.SendValue(head); err != nil {
		return err
	}
	buf := make([]byte, frameRoom)
	for off := req.Off; off < req.End && ctx.Err() == nil; {
		n, err := vol.ReadRaw(off, buf[:min(int64(len(buf)), req.End-off)])
		if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the file is shorter than what is known of it
			}
			return storageError(fmt.Errorf("raw read for %s: %w", from, err))
		}
		if err := s.Send(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return ctx.Err()
}

// rawHead is the header block of a copy, and if they are asked for by a node that holds a copy too, the keys. A node that was named just now
// is refused until this one has heard of it, and asks again.
func (m *Manager) rawHead(ctx context.Context, vol *volume.Volume, node string, withKeys bool) (head rawHead, err error) {
	if head.Block, err = vol.FileHeader(); err != nil || !withKeys {
		return head, err
	}
	id := vol.Header().ID
	e, known := m.entry(id)
	if known && !e.Holds(node) && m.stale() {
		m.refresh(ctx)
		e, known = m.entry(id)
	}
	if known && !e.Holds(node) {
		return head, wire.Errorf(wire.Denied, "%s holds no copy of volume %s and gets no keys of it", node, id)
	}
	head.Secret, err = m.cfg.Volumes.Secret(id)
	return head, err
}

// sweep removes files that are in nobody's way but of no use: volumes without a record whose entry has been gone for
// a while. A file with records and no entry is only reported. Before the directory was read nobody knows what has an entry.
func (m *Manager) sweep(state *mending) {
	now := time.Now()
	m.mu.Lock()
	read := !m.seen.IsZero()
	m.mu.Unlock()
	if !read {
		return
	}
	orphans := m.orphans()
	for id := range state.orphans {
		if _, still := orphans[id]; !still {
			delete(state.orphans, id)
		}
	}
	left := 0
	for id := range orphans {
		since, seen := state.orphans[id]
		if !seen {
			state.orphans[id] = now
		}
		left++
		if !seen || now.Sub(since) < orphanAfter {
			continue
		}
		vol, err := m.cfg.Volumes.Get(id)
		if err != nil || vol.Stats().Records > 0 {
			continue
		}
		if err := m.remove(id); err != nil {
			m.log.Warn("empty volume not removed", "volume", id, "err", err)
			continue
		}
		left--
	}
	m.stats.orphans.Store(int64(left))
}

// orphans are the files that no entry, no stream and no primary here accounts for.
func (m *Manager) orphans() map[volume.ID]struct{} {
	out := make(map[volume.ID]struct{})
	ids := m.cfg.Volumes.List()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		_, known := m.entries[id]
		_, sealing := m.sealing[id]
		if !known && !sealing && m.own[id] == nil && m.followers[id] == nil {
			out[id] = struct{}{}
		}
	}
	return out
}
