package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/policy"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Manager is one node's part in the replication of volumes. Safe for concurrent use.
type Manager struct {
	cfg        Config
	log        *slog.Logger
	ctx        context.Context
	stop       context.CancelFunc
	work       sync.WaitGroup // every goroutine of the manager
	kicks      chan struct{}  // capacity one: the keeper has something to do
	mend       chan struct{}  // capacity one: the repairer has something to do
	puts       chan struct{}  // one token for each blob that a peer puts now
	compacting chan struct{}  // capacity one: a next generation is made here, or switched to
	full       fullness
	stats      counters
	spreads    spreads
	shares     shares

	mu        sync.Mutex              // guards all below
	closed    bool                    // no more volumes are opened
	over      bool                    // no more goroutines are started
	own       map[volume.ID]*primary  // from the directory's answer until the seal has begun
	followers map[volume.ID]*follower // copies of others' open volumes
	sealing   map[volume.ID]struct{}
	seen      time.Time               // when entries was read
	entries   map[volume.ID]Entry     // the directory as last seen, and what is known to be newer
	whole     map[volume.ID]soundness // sealed copies that were found, or made, as long as they should be
	spares    map[volume.ID]spare     // who has files that go once copies here are well
	peers     []Peer
	byID      map[string]Peer
	avoided   map[string]time.Time // peers asked last until then
	refused   map[string]time.Time // peers that take no copies until then
	downSince map[string]time.Time // peers that do not answer
	wantBulk  map[string]bool      // by policies' keys: large blobs come, keep bulk volumes too
	uses      map[slot]int         // records that the next volume is to have keys for, where that is more than a few
	policies  map[string]policy.Policy
	began     time.Time         // when the manager was started
	resorts   map[string]resort // by policies' keys
	opened    chan struct{}     // closed and replaced when a volume becomes open
}

// New makes a node's manager and registers its methods, which must happen before the network serves. Start it afterwards.
func New(cfg Config) (*Manager, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &Manager{
		cfg: cfg, log: cfg.Log.With("part", "replica"), ctx: ctx, stop: stop,
		kicks: make(chan struct{}, 1), mend: make(chan struct{}, 1), puts: make(chan struct{}, maxPuts), compacting: make(chan struct{}, 1),
		own: make(map[volume.ID]*primary), followers: make(map[volume.ID]*follower),
		sealing: make(map[volume.ID]struct{}), entries: make(map[volume.ID]Entry), whole: make(map[volume.ID]soundness), spares: make(map[volume.ID]spare),
		avoided: make(map[string]time.Time), refused: make(map[string]time.Time),
		downSince: make(map[string]time.Time), opened: make(chan struct{}), wantBulk: make(map[string]bool), uses: make(map[slot]int),
		policies: map[string]policy.Policy{"": policy.Default()},
		spreads:  spreads{byID: make(map[volume.ID]*spread)},
		shares:   shares{lead: make(map[turn][]string)},
	}
	m.setPeers(cfg.Peers())
	if cfg.Volumes != nil {
		cfg.Volumes.KnowSealed(m.sealedHere)
	}
	transport.HandleUnary(cfg.Net, methodOffer, m.serveOffer)
	transport.HandleUnary(cfg.Net, methodFence, m.serveFence)
	transport.HandleUnary(cfg.Net, methodErase, m.serveErase)
	transport.HandleUnary(cfg.Net, methodSpread, m.serveSpread)
	transport.HandleUnary(cfg.Net, methodShare, m.serveShare)
	transport.HandleUnary(cfg.Net, methodWhole, m.serveWhole)
	cfg.Net.Handle(methodPrepare, m.servePrepare)
	cfg.Net.Handle(methodStream, m.serveStream)
	cfg.Net.Handle(methodRaw, m.serveRaw)
	cfg.Net.Handle(methodRead, m.serveRead)
	cfg.Net.Handle(methodPut, m.servePut)
	return m, nil
}

// Start begins the background work.
func (m *Manager) Start() {
	m.cfg.Net.OnChange(func(string, bool) { m.kick() })
	m.cfg.Net.OnDoubt(func(node string, in bool) { // volumes that lack a copy there are missed at once, or may be opened at once
		if !in {
			m.refuse(node, 0)
		}
		m.kick()
	})
	m.mu.Lock()
	m.began = time.Now()
	m.mu.Unlock()
	m.background(m.keep)
	m.background(m.askShares)
	if m.cfg.Volumes == nil {
		return
	}
	m.background(m.tick)
	m.background(m.watchDisk)
	m.background(func() { // whoever is missing then has others in its place at once
		if pause.For(m.ctx, reserveAfter) {
			m.kick()
		}
	})
	m.background(m.repairer)
	m.background(m.mover)
}

// Close ends the manager's appends. As far as ctx allows it seals this node's volumes, so that the others need not wait
// for that; what is left is sealed after the next start.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true // the keeper opens no more, seals go on
	own := m.primaries()
	m.mu.Unlock()
	for _, p := range own {
		p.retire()
	}
	err := m.settled(ctx)
	m.stop()
	for _, p := range own {
		p.fence(errRetired) // those whose appends did not end in time
	}
	m.mu.Lock()
	m.over = true
	m.mu.Unlock()
	m.work.Wait()
	return err
}

// settled waits until no volume of this node is open or being sealed.
func (m *Manager) settled(ctx context.Context) error {
	for {
		m.mu.Lock()
		left := len(m.own) + len(m.sealing)
		m.mu.Unlock()
		if left == 0 {
			return nil
		}
		if !pause.For(ctx, 10*time.Millisecond) {
			return fmt.Errorf("replica: %d volumes are left to be sealed after the next start: %w", left, ctx.Err())
		}
	}
}

// background runs f, which ends with m.ctx. After Close it does nothing.
func (m *Manager) background(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		f()
	}()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *Manager) kick() { signal(m.kicks) }

// primaries lists this node's own volumes. Called under mu.
func (m *Manager) primaries() []*primary {
	out := make([]*primary, 0, len(m.own))
	for _, p := range m.own {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *primary) int { return cmp.Compare(a.entry.ID, b.entry.ID) })
	return out
}

func (m *Manager) primaryOf(id volume.ID) *primary {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own[id]
}

// ended is told by a volume of this node that it was fenced.
func (m *Manager) ended(p *primary, cause error) {
	if errors.Is(cause, errRetired) {
		m.log.Info("volume ends", "volume", p.entry.ID, "partner", p.partner)
	} else {
		m.stats.fences.Add(1)
		m.log.Warn("volume fenced", "volume", p.entry.ID, "partner", p.partner, "err", cause)
	}
	if errors.Is(cause, volume.ErrFull) {
		m.full.set(cause)
	}
	m.startSeal(p.entry, p.pristine)
	m.noteUse(p)
	m.mu.Lock()
	delete(m.own, p.entry.ID)
	m.mu.Unlock()
	m.kick()
}

// setPeers is called under mu.
func (m *Manager) setPeers(peers []Peer) {
	m.peers, m.byID = peers, make(map[string]Peer, len(peers))
	for _, p := range peers {
		m.byID[p.ID] = p
	}
	m.shares.reset(peers)
}

// peer is what the table of nodes says of one; nothing of one that it lacks.
func (m *Manager) peer(node string) Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byID[node]
}

// self is this node as the table has it, or else its configuration.
func (m *Manager) self() Peer {
	p := m.peer(m.cfg.ID)
	p.ID, p.Region = m.cfg.ID, m.cfg.Region
	return p
}

// takes says that this node opens volumes, and takes copies of others', not only as a last resort.
func (m *Manager) takes() bool { return m.peer(m.cfg.ID).Takes() && !m.misplaced() }

// misplaced says that the table of nodes has this one in another region than it is in: policies would be held against the wrong place, so it gets nothing new.
func (m *Manager) misplaced() bool { return m.peer(m.cfg.ID).Region != m.cfg.Region }

// avoid has a peer asked last for a while.
func (m *Manager) avoid(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.avoided[node] = time.Now().Add(avoidFor)
}

// refuse notes that a peer takes no copies for a while.
func (m *Manager) refuse(node string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[node] = time.Now().Add(d)
}

// avoidAfter judges a peer by an error.
func (m *Manager) avoidAfter(node string, err error) {
	m.avoid(node)
	if errors.Is(err, wire.ErrFull) {
		m.refuse(node, diskEvery)
	}
}

// entry is what this node last knew of a volume.
func (m *Manager) entry(id volume.ID) (Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[id]
	return e, ok
}

// sealedHere says how a volume was sealed of which a file is here: also one that its entry does not name any more, for others may be mended from that. Of a cold volume
// the fragments count, and a copy is one that is being made from them: what is not whole is made again.
func (m *Manager) sealedHere(id volume.ID) volume.Sealed {
	e, known := m.entry(id)
	switch {
	case !known: // not yet, or its entry is gone, and may come back with a recovery
		return volume.Sealed{Unsure: true}
	case e.State != Sealed || e.Cold != nil:
		return volume.Sealed{}
	}
	return volume.Sealed{Generation: e.Generation, Length: e.Length, Last: e.Last}
}

// noteEntry keeps what the directory answered: it may be newer than the local view of it.
func (m *Manager) noteEntry(e Entry) {
	m.mu.Lock()
	if old := m.entries[e.ID]; !old.after(e) {
		m.takeEntry(m.entries, e, old)
	}
	m.mu.Unlock()
	signal(m.mend)
}

// takeEntry replaces an entry. A copy that was whole is not when the volume has a new generation. Called under mu.
func (m *Manager) takeEntry(entries map[volume.ID]Entry, e, old Entry) {
	entries[e.ID] = e
	if e.Generation != old.Generation {
		delete(m.whole, e.ID)
	}
}

// tick looks for copies that do not get on.
func (m *Manager) tick() {
	t := pause.Ticker(tickEvery)
	defer t.Stop()
	for before := time.Now(); ; {
		select {
		case <-t.C:
			now := time.Now()
			late := now.Sub(before) > m.cfg.AckTimeout/2
			before = now
			m.mu.Lock()
			own := m.primaries()
			m.mu.Unlock()
			for _, p := range own {
				if late {
					p.excuse(now)
				}
				p.watch(now)
			}
		case <-m.ctx.Done():
			return
		}
	}
}
