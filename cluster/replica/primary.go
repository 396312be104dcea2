package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// phase is how far a primary's volume has gone in this process.
type phase uint8

const (
	connecting phase = iota // the directory knows it, its copies are being made
	open                    // takes appends
	draining                // long enough: those in flight end, no more begin
	fenced                  // takes nothing, for good
)

// errRetired is the cause of a fence that nothing went wrong for.
var errRetired = errors.New("retired")

// primary is a volume that this process opened and alone appends to.
type primary struct {
	m       *Manager
	entry   Entry
	partner string    // the node with the second copy
	others  []Peer    // all nodes with other copies, the partner first
	key     string    // of the entry's policy
	oldFrom time.Time // zero: never
	apart   bool      // the copies are so far apart that they survive what the policy says
	ctx     context.Context
	stop    context.CancelFunc // ends the streams

	mu       sync.Mutex // guards all below, and the links' queues and acknowledgements
	room     *sync.Cond // on mu: a queue got shorter, or the volume is fenced
	phase    phase
	cause    error
	pristine bool           // never took an append
	vol      *volume.Volume // nil until made
	links    []*link        // one to each other copy
	tapped   int64          // where the next tapped byte goes
	stage    stage          // of its growth that the keeper was told of
	records  int            // that it has keys for; 0 until made
	begun    int            // appends, at most one record each
	inflight int            // appends begun and not answered
	local    time.Time      // when the writer last got on, for those in flight
	waiters  map[*waiter]struct{}
}

// waiter is an append that is durable here and waits for the other copies.
type waiter struct {
	end  int64
	done chan error // capacity one
}

func newPrimary(m *Manager, e Entry, others []Peer) *primary {
	ctx, stop := context.WithCancel(m.ctx)
	rule := policy.Of(e.Policy)
	p := &primary{m: m, entry: e, oldFrom: m.oldFrom(), partner: others[0].ID, others: others, key: rule.Key(), apart: survives(rule, m.self(), others),
		ctx: ctx, stop: stop, pristine: true, waiters: make(map[*waiter]struct{})}
	p.room = sync.NewCond(&p.mu)
	return p
}

// isIn says whether another copy is in a region.
func (p *primary) isIn(region string) bool {
	return slices.ContainsFunc(p.others, func(o Peer) bool { return o.Region == region })
}

// distance is that of the farthest copy.
func (p *primary) distance() (most int) {
	for _, o := range p.others {
		most = max(most, p.m.distance(o.ID))
	}
	return most
}

// within says whether all other nodes of the volume are among some.
func (p *primary) within(crew []Peer) bool {
	names := ids(crew)
	return !slices.ContainsFunc(p.others, func(o Peer) bool { return !slices.Contains(names, o.ID) })
}

// onReserve says whether another copy is on a node that takes no mail, or none but as a last resort.
func (p *primary) onReserve() bool {
	return slices.ContainsFunc(p.others, func(o Peer) bool { return !p.m.peer(o.ID).Takes() })
}

// slot is what the volume was opened for.
func (p *primary) slot() slot { return slotOf(p.key, p.others, p.entry.Class) }

// append is step 2: it answers with success only when every copy has fsynced the record (I1).
func (p *primary) append(ctx context.Context, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	if err := p.begin(); err != nil {
		return volume.Ref{}, err
	}
	defer p.end()
	ref, end, err := p.vol.Append(ctx, kind, meta, b)
	if err != nil {
		if volumeEnded(err) {
			p.fence(fmt.Errorf("append here: %w", err))
		}
		return volume.Ref{}, fmt.Errorf("append to volume %s: %w", p.entry.ID, err)
	}
	if err := p.await(ctx, end); err != nil {
		return volume.Ref{}, fmt.Errorf("append to volume %s: %w", p.entry.ID, err)
	}
	return ref, nil
}

// volumeEnded tells errors of the volume from those of one append.
func volumeEnded(err error) bool {
	return errors.Is(err, volume.ErrSealed) || errors.Is(err, volume.ErrFull) ||
		errors.Is(err, volume.ErrFailed)
}

func (p *primary) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != open {
		return p.sealedError()
	}
	if p.inflight == 0 {
		p.local = time.Now()
	}
	p.inflight++
	p.begun++
	if p.begun >= mostAppends(p.records) {
		p.phase = draining // with this one
	}
	return nil
}

func (p *primary) end() {
	p.mu.Lock()
	p.inflight--
	p.local = time.Now()
	drained := p.phase == draining && p.inflight == 0
	grown := p.grown()
	p.mu.Unlock()
	if grown {
		p.m.kick()
	}
	if drained {
		p.fence(errRetired)
	}
}

// sealedError is called under mu.
func (p *primary) sealedError() error {
	if p.cause == nil {
		return wire.Errorf(wire.Sealed, "volume takes no appends")
	}
	if errors.Is(p.cause, volume.ErrFull) || errors.Is(p.cause, wire.ErrFull) {
		return wire.Errorf(wire.Full, "volume was fenced: %v", p.cause)
	}
	return wire.Errorf(wire.Sealed, "volume was fenced: %v", p.cause)
}

// await returns once every other copy is durable up to end.
func (p *primary) await(ctx context.Context, end int64) error {
	w := &waiter{end: end, done: make(chan error, 1)}
	p.mu.Lock()
	switch {
	case p.phase == fenced:
		// Even if the acknowledgement came before the fence: the seal may have been computed already.
		defer p.mu.Unlock()
		return p.sealedError()
	case p.copied() >= end:
		p.mu.Unlock()
		return nil
	}
	p.waiters[w] = struct{}{}
	p.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiters, w)
		p.mu.Unlock()
		return fmt.Errorf("wait for the other copies: %w", ctx.Err())
	}
}

// copied is how far all other copies are durable. Called under mu.
func (p *primary) copied() int64 {
	least := p.links[0].acked.Durable
	for _, l := range p.links[1:] {
		least = min(least, l.acked.Durable)
	}
	return least
}

// release answers those that wait up to where all copies are. Called under mu.
func (p *primary) release() {
	copied := p.copied()
	for w := range p.waiters {
		if w.end <= copied {
			w.done <- nil
			delete(p.waiters, w)
		}
	}
}

// Append is the volume's tap: it queues what the writer is about to fsync for every other copy. It waits while
// a copy is far behind; then either the copy gets on or the fence comes. Behind the fence the writer may end its batch for
// itself: nobody is told of those records, the seal is about to come, and a file that was not broken off need not be read again.
func (p *primary) Append(off int64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		for p.phase != fenced && l.queued > maxQueued {
			p.room.Wait()
		}
	}
	if p.phase == fenced {
		return nil
	}
	if off != p.tapped {
		return fmt.Errorf("tap of volume %s at %d, expected %d", p.entry.ID, off, p.tapped)
	}
	now := time.Now()
	for _, l := range p.links {
		l.enqueue(off, b, now)
	}
	p.tapped += int64(len(b))
	p.local = now
	p.m.shares.count(p.m.cfg.ID, len(b))
	for _, o := range p.others {
		p.m.shares.count(o.ID, len(b))
	}
	return nil
}

// connect is the rest of step 1, after the directory's part: the file here, then one stream to each other copy. blame is the node that not to open
// volumes with is the thing to do after an error.
func (p *primary) connect(ctx context.Context, h volume.Header) (blame string, err error) {
	records := volume.MaxRecords // of one that is not encrypted
	seed := p.m.cfg.Volumes.NewSeed(h.Class, p.m.recordsFor(p.slot()))
	if seed != nil {
		records = int(seed.Slots)
	}
	vol, err := p.m.cfg.Volumes.Create(h, seed, p)
	if err != nil {
		return p.partner, err
	}
	block, err := vol.FileHeader()
	if err != nil {
		return p.partner, err
	}
	p.mu.Lock()
	p.vol, p.tapped, p.records = vol, vol.Durable(), records
	p.mu.Unlock()
	for _, node := range p.entry.Copies[1:] {
		l, err := p.dial(ctx, node, streamOpen{Block: block, Seed: seed})
		if err != nil {
			return node, fmt.Errorf("open volume %s on %s: %w", h.ID, node, err)
		}
		p.mu.Lock()
		p.links = append(p.links, l)
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != connecting {
		return p.partner, p.sealedError()
	}
	for _, l := range p.links {
		p.m.background(l.send)
		p.m.background(l.receive)
	}
	p.phase, p.pristine = open, false
	return "", nil
}

// retire lets the volume take no more appends and ends it when those in flight are answered.
func (p *primary) retire() {
	p.mu.Lock()
	if p.phase == open {
		p.phase = draining
	}
	drained := p.phase == draining && p.inflight == 0
	p.mu.Unlock()
	if drained {
		p.fence(errRetired)
	}
}

// fence is step 3. Afterwards nothing is answered with success, so that what the seal finds is final.
func (p *primary) fence(cause error) {
	p.mu.Lock()
	if p.phase == fenced {
		p.mu.Unlock()
		return
	}
	p.phase, p.cause = fenced, cause
	for w := range p.waiters {
		w.done <- p.sealedError()
		delete(p.waiters, w)
	}
	links := p.links
	p.room.Broadcast()
	p.mu.Unlock()
	p.stop()
	for _, l := range links {
		l.hangUp()
	}
	p.m.ended(p, cause)
}

// excuse begins all waits for copies anew: this process did not run for a while, so nobody else is to blame.
func (p *primary) excuse(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local = now
	for _, l := range p.links {
		l.progress = now
	}
}

// watch fences a volume with a copy that owes bytes and does not get on. Called every tick.
func (p *primary) watch(now time.Time) {
	p.mu.Lock()
	var late *link
	for _, l := range p.links {
		if p.phase != fenced && l.owes() && now.Sub(l.progress) > p.m.cfg.AckTimeout {
			late = l
		}
	}
	p.mu.Unlock()
	if late != nil {
		p.m.avoid(late.node)
		p.fence(fmt.Errorf("%s made no progress for %s", late.node, p.m.cfg.AckTimeout))
	}
}

func (p *primary) isConnecting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase == connecting
}

// load is what placement asks of an open volume.
type load struct {
	inflight int
	stage    stage
	old      bool          // has records, and took the first long ago: what is deleted of them cannot be collected before it is sealed
	stalled  time.Duration // since when this disk or a copy owes progress
	doubtful bool          // a copy's node is in doubt
}

func (p *primary) load(now time.Time) (load, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := load{inflight: p.inflight, stage: p.growth()}
	if p.phase == open && !p.oldFrom.IsZero() && !now.Before(p.oldFrom) {
		out.old = p.vol.Stats().Records > 0
	}
	if len(p.waiters) < p.inflight { // those that are not waiting for the copies wait for this disk
		out.stalled = now.Sub(p.local)
	}
	for _, l := range p.links {
		if l.owes() {
			out.stalled = max(out.stalled, now.Sub(l.progress))
		}
		if p.m.cfg.Net.InDoubt(l.node) {
			out.stalled, out.doubtful = max(out.stalled, p.m.cfg.AckTimeout), true
		}
	}
	if p.m.cfg.Net.InDoubt(p.m.cfg.ID) {
		out.stalled = max(out.stalled, p.m.cfg.AckTimeout)
	}
	return out, p.phase == open
}
