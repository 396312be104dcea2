package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// serveFence is how another copy's node stops this copy and learns how far it is.
func (m *Manager) serveFence(ctx context.Context, from string, req *fenceRequest) (*fenceReply, error) {
	if _, known := m.entry(req.Volume); !known && m.stale() {
		m.refresh(ctx)
	}
	if p := m.primaryOf(req.Volume); p != nil && p.entry.Epoch <= req.Epoch {
		p.fence(fmt.Errorf("fenced by %s", from))
	}
	reply, err := m.fenceHere(req.Volume, req.Epoch)
	if err != nil {
		return nil, err
	}
	return &reply, nil
}

// fenceHere stops this node's copy for good and says how far it is durable. Where that is not known yet, as of a file with a damaged or a torn end without an entry, it is
// as if the node did not answer: the copy may have more than it could say.
func (m *Manager) fenceHere(id volume.ID, epoch uint64) (fenceReply, error) {
	m.mu.Lock()
	f := m.followers[id]
	m.mu.Unlock()
	if f != nil {
		f.fence()
	}
	if m.cfg.Volumes == nil {
		return fenceReply{}, nil
	}
	vol, err := m.cfg.Volumes.Get(id)
	var corrupt *volume.CorruptError
	if errors.Is(err, volume.ErrNotFound) || errors.As(err, &corrupt) { // a file without a header counts as none
		return fenceReply{}, nil
	}
	if err != nil {
		return fenceReply{}, storageError(fmt.Errorf("fence volume %s: %w", id, err))
	}
	if h := vol.Header(); h.Epoch > epoch {
		return fenceReply{}, wire.Errorf(wire.Denied, "volume %s has epoch %d here, asked for %d", id, h.Epoch, epoch)
	}
	if vol.Stats().Unsure {
		return fenceReply{}, unsure(m.cfg.ID, id)
	}
	if err := vol.Seal(); err != nil {
		m.log.Warn("volume did not end cleanly", "volume", id, "err", err) // Durable tells what can be trusted
	}
	s := vol.Stats()
	reply := fenceReply{Exists: true, Durable: s.Bytes, Empty: s.Records == 0, Unreadable: s.Unreadable}
	if s.Opened {
		reply.Found = s.Whole
	}
	if reply.Last, err = vol.LastBefore(reply.Durable); err == nil {
		reply.LastFound, err = vol.LastBefore(reply.Found)
	}
	if err != nil {
		m.log.Warn("records of a fenced copy not counted", "volume", id, "err", err)
	}
	return reply, nil
}

// unsure is the error of asking for what a copy may have (volume.Sealed.Unsure).
func unsure(node string, id volume.ID) error {
	return wire.Errorf(wire.Unavailable, "%s does not know yet how volume %s was sealed", node, id)
}

// lastRecord is the number of the last record before the length that sealLength gave; 0 if nobody told. A copy with damage right there
// tells more than there are.
func lastRecord(replies []*fenceReply, length int64) (last uint64) {
	for _, r := range replies {
		if r == nil {
			continue
		}
		told := r.LastFound
		if r.Durable == length {
			told = r.Last
		} else if r.Found != length {
			continue
		}
		if told > 0 && (last == 0 || told < last) {
			last = told
		}
	}
	return last
}

// vanished says that all copies' nodes have answered, and none has a file: either none was ever made, or the disks were lost. Then nobody knows which record was the
// last, so that any entry that was made early may have been acknowledged: it stays, and its message is told to be lost.
func vanished(replies []*fenceReply) bool {
	return !slices.ContainsFunc(replies, func(r *fenceReply) bool { return r == nil || r.Exists })
}

// sealLength is step 4's rule (I3). replies has this node's copy first; nil stands for one that did not answer. pristine
// says that the volume never took an append. It gives false while too little is known to seal.
//
// What a copy says that its process made is certain. Of a copy that was read back from its disk it is not: had the disk lost
// its end, the least would cut what was acknowledged from the other copy too. So such a copy counts only while no certain one
// answers. Among such ones the most that any has counts, for each may have lost its end, or a part before that: a seal that is too long costs
// nothing but that damage in it is reported. Only damage that begins just where the shortest ends, up to where one is whole, is
// that of a torn tail, and is cut off with what lies behind.
func sealLength(replies []*fenceReply, primary, pristine bool) (int64, bool) {
	var certain, found, whole, most *fenceReply
	unknown := false
	for _, r := range replies {
		switch {
		case r == nil || r.Unreadable:
			unknown = true
		case !r.Exists:
		case r.certain():
			if certain == nil || r.Durable < certain.Durable {
				certain = r
			}
		default:
			if found == nil || r.Durable < found.Durable {
				found = r
			}
			if whole == nil || r.Found > whole.Found {
				whole = r
			}
			if !r.Empty && (most == nil || r.Durable > most.Durable) {
				most = r
			}
		}
	}
	own := replies[0] != nil && replies[0].Exists
	switch {
	case pristine:
		return 0, true
	case !own && !primary:
		return 0, false // without a file nothing is fenced here: the primary may go on
	case certain != nil:
		return sealAt(certain.Durable, certain.Empty)
	case found == nil:
		return 0, !unknown
	case most != nil && (found.Empty || whole.Found != found.Durable):
		return most.Durable, true
	}
	return sealAt(found.Durable, found.Empty)
}

func sealAt(length int64, empty bool) (int64, bool) {
	if empty {
		return 0, true
	}
	return length, true
}

// startSeal lets a volume be sealed in the background, once.
func (m *Manager) startSeal(e Entry, pristine bool) {
	m.mu.Lock()
	_, busy := m.sealing[e.ID]
	if !busy {
		m.sealing[e.ID] = struct{}{}
	}
	m.mu.Unlock()
	if busy {
		return
	}
	m.background(func() {
		defer func() {
			m.mu.Lock()
			delete(m.sealing, e.ID)
			m.mu.Unlock()
			m.kick()
		}()
		m.sealUntilDone(m.ctx, e, pristine)
	})
}

// sealUntilDone retries until the directory has the seal; nobody waits for it.
func (m *Manager) sealUntilDone(ctx context.Context, e Entry, pristine bool) {
	wait := sealRetry
	alone := time.Now().Add(aloneAfter * m.cfg.PeerDown)
	for attempt := 1; ; attempt++ {
		away := m.away(e)
		sealed, err := m.seal(ctx, e, pristine, !time.Now().Before(alone))
		if err == nil {
			m.log.Info("volume sealed", "volume", e.ID, "primary", e.Primary, "length", sealed.Length, "attempts", attempt)
			m.stats.seals.Add(1)
			m.noteEntry(sealed)
			return
		}
		if errors.Is(err, wire.ErrInvalid) || errors.Is(err, wire.ErrNotFound) {
			m.log.Info("volume to seal is gone from the directory", "volume", e.ID, "err", err)
			return
		}
		if ctx.Err() != nil {
			return
		}
		m.stats.sealFailures.Add(1)
		m.log.Warn("volume not sealed yet", "volume", e.ID, "primary", e.Primary, "attempt", attempt, "err", err)
		next := time.Now().Add(wait + rand.N(wait/2))
		if wait = min(2*wait, sealAtMost); time.Now().Before(alone) && next.After(alone) {
			next = alone
		}
		if m.untilBack(ctx, e, away, next) {
			wait = sealRetry
		}
		if ctx.Err() != nil {
			return
		}
		if now, known := m.entry(e.ID); known && now.State == Sealed {
			return
		}
	}
}

// away is how many of the other nodes with a copy are not up.
func (m *Manager) away(e Entry) (n int) {
	for _, node := range e.Copies {
		if node != m.cfg.ID && !m.cfg.Net.Up(node) {
			n++
		}
	}
	return n
}

// untilBack waits until a time, or until fewer nodes are away, for people wait for what those say.
func (m *Manager) untilBack(ctx context.Context, e Entry, away int, end time.Time) (back bool) {
	for time.Now().Before(end) && pause.For(ctx, min(tickEvery, time.Until(end))) {
		now := m.away(e)
		if now < away {
			return true
		}
		away = now
	}
	return false
}

// fenceOthers fences the copies on other nodes; nil stands for one that did not answer. If this copy is certain, which decides the length by itself, a node in doubt is
// not waited for.
func (m *Manager) fenceOthers(ctx context.Context, e Entry, certain bool) (replies []*fenceReply, reasons error) {
	call := m.cfg.Net.Call
	if certain {
		call = m.cfg.Net.CallSound
	}
	for _, node := range e.Copies {
		if node == m.cfg.ID {
			continue
		}
		reply, err := m.fenceThere(ctx, call, node, e)
		if err != nil {
			reasons = errors.Join(reasons, fmt.Errorf("fence copy on %s: %w", node, err))
		}
		replies = append(replies, reply)
	}
	return replies, reasons
}

// caller is how a node is asked: transport.Net's Call or CallSound.
type caller func(ctx context.Context, node, method string, req, resp any) error

// seal is step 4: fence every copy that can be reached, this node's first, and propose the length that all of them have. Unless alone, copies that
// were all read back from disks wait for those whose nodes do not answer.
func (m *Manager) seal(ctx context.Context, e Entry, pristine, alone bool) (Entry, error) {
	own, err := m.fenceHere(e.ID, e.Epoch)
	if err != nil {
		return Entry{}, fmt.Errorf("fence own copy: %w", err)
	}
	others, reasons := m.fenceOthers(ctx, e, own.certain())
	replies := append([]*fenceReply{&own}, others...)
	length, ok := sealLength(replies, e.Primary == m.cfg.ID, pristine)
	if !ok {
		return Entry{}, errors.Join(errors.New("no copy with a file has answered"), reasons)
	}
	if !pristine && !alone && !slices.ContainsFunc(replies, (*fenceReply).certain) && slices.Contains(replies, nil) {
		return Entry{}, fmt.Errorf("all copies that answer were read back from disks, another may have more: %w", reasons)
	}
	ctx, stop := context.WithTimeout(ctx, directoryWait)
	defer stop()
	last := lastRecord(replies, length)
	if length == 0 && !pristine && vanished(replies) {
		last = volume.MaxRecords
	}
	sealed, err := m.cfg.Directory.SealVolume(ctx, e.ID, length, last)
	if err != nil {
		return Entry{}, fmt.Errorf("enter seal at %d: %w", length, err)
	}
	return sealed, nil
}

func (m *Manager) fenceThere(ctx context.Context, call caller, node string, e Entry) (*fenceReply, error) {
	ctx, stop := context.WithTimeout(ctx, fenceTimeout)
	defer stop()
	var reply fenceReply
	err := call(ctx, node, methodFence, &fenceRequest{Volume: e.ID, Epoch: e.Epoch}, &reply)
	if err != nil {
		return nil, err
	}
	return &reply, nil
}
