package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// methodWatch streams the events of one shard from a node that has a replica of it.
const methodWatch = "mailbox.watch"

// Bounds of a remote watch: events waiting for a slow watcher, after which it is told to look at everything; the
// pause before a lost watch is taken up again; how often a watched replica is looked at, and how many looks in a row it may be
// without a leader.
const (
	watchQueue = 1024
	watchPause = 200 * time.Millisecond
	watchCheck = time.Second
	watchAlone = 5
)

// watchRequest names the shard.
type watchRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// watchFrame carries events; none means that everything may have changed.
type watchFrame struct {
	Events  []mailbox.Event `cbor:"1,keyasint,omitempty"`
	Applied uint64          `cbor:"2,keyasint,omitempty"` // the sender's state, which holds what the events stand for
}

// hub wakes sessions. A wake-up carries nothing: the session then asks what changed, so wake-ups can be
// merged and a late one costs nothing. Another replica than the one that woke the session may be asked, and lag behind: what
// woke it is therefore noted first (reached).
type hub struct {
	net     *transport.Net
	router  *shard.Router
	host    *shard.Host
	reached func(shard uint32, at uint64)
	place   func(account uint64, given uint32) uint32 // the shard of an account
	log     *slog.Logger
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu       sync.Mutex                           // guards the maps
	sessions map[uint64]map[*watcher]struct{}     // by account
	remotes  map[uint32]map[*remoteWatch]struct{} // by shard
}

type watcher struct {
	shard  uint32
	folder uint32 // 0: any
	wake   func()
}

// remoteWatch gathers events for another node.
type remoteWatch struct {
	wake chan struct{} // capacity one

	mu      sync.Mutex // guards the fields below
	pending []mailbox.Event
	all     bool // something that pending does not hold: tell the watcher to look at everything
}

func newHub(net *transport.Net, router *shard.Router, host *shard.Host, reached func(shard uint32, at uint64), place func(uint64, uint32) uint32, log *slog.Logger) *hub {
	return &hub{
		net: net, router: router, host: host, reached: reached, place: place, log: log, stop: func() {},
		sessions: make(map[uint64]map[*watcher]struct{}), remotes: make(map[uint32]map[*remoteWatch]struct{}),
	}
}

// start follows every shard whenever it has no replica here, also those that are added later.
func (h *hub) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	h.work.Go(func() {
		followed := make(map[uint32]bool)
		for ctx.Err() == nil {
			for _, shard := range h.router.Shards() {
				if shard != placement.DirectoryShard && !followed[shard] {
					followed[shard] = true
					h.work.Go(func() { h.follow(ctx, shard) })
				}
			}
			pause.For(ctx, watchCheck)
		}
	})
}

func (h *hub) close() {
	h.stop()
	h.work.Wait()
}

// Watch wakes its channel (capacity one, never closed) after each change to the account's
// folder (0: to any of its folders), also after a failover or a lost watch: wake-ups may be spurious, never missed.
func (c *Client) Watch(a Account, folder uint32) (wake <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	return ch, c.WatchFunc(a, folder, func() {
		select {
		case ch <- struct{}{}:
		default: // one is waiting already
		}
	})
}

// WatchFunc is Watch for those who have no goroutine to spare for waiting: it calls wake, which must return at once and must not
// call cancel. wake may still be called while cancel runs, not after it.
func (c *Client) WatchFunc(a Account, folder uint32, wake func()) (cancel func()) {
	w := &watcher{shard: a.Shard, folder: folder, wake: wake}
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.sessions[a.ID]
	if set == nil {
		set = make(map[*watcher]struct{})
		h.sessions[a.ID] = set
	}
	set[w] = struct{}{}
	return sync.OnceFunc(func() { // a second time, the account may have another set
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(set, w)
		if len(set) == 0 {
			delete(h.sessions, a.ID)
		}
	})
}

// publish passes on what a shard's replica here saw. It never blocks.
func (h *hub) publish(shard uint32, events []mailbox.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.remotes[shard] {
		r.offer(events)
	}
	h.wake(shard, events)
}

// relay passes on what a remote watch saw: to sessions here only. A replica may have come up here since the watch began, and be watched
// by the very node that it watches, or be itself that node: events would go round for ever.
func (h *hub) relay(shard uint32, events []mailbox.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake(shard, events)
}

// wake wakes the sessions that events concern. The caller holds mu.
func (h *hub) wake(shard uint32, events []mailbox.Event) {
	if events == nil {
		for account, set := range h.sessions {
			for w := range set {
				if w.shard == shard || h.place(account, w.shard) == shard {
					w.wake()
				}
			}
		}
		return
	}
	for _, e := range events {
		for w := range h.sessions[e.Account] {
			if e.Mailbox == 0 || w.folder == 0 || w.folder == e.Mailbox {
				w.wake()
			}
		}
	}
}

func (r *remoteWatch) offer(events []mailbox.Event) {
	r.mu.Lock()
	if events == nil || len(r.pending)+len(events) > watchQueue {
		r.pending, r.all = nil, true
	} else if !r.all {
		r.pending = append(r.pending, events...)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take empties the queue; ok says whether there was anything. No events mean everything.
func (r *remoteWatch) take() (events []mailbox.Event, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, ok = r.pending, r.all || len(r.pending) > 0
	r.pending, r.all = nil, false
	return events, ok
}

// serve answers a remote watch. Its first frame is empty: what happened before is for the watcher to look up.
func (h *hub) serve(ctx context.Context, _ string, s *transport.Stream) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	var req watchRequest
	if err := codec.Unmarshal(b, &req); err != nil {
		return wire.Errorf(wire.Invalid, "watch: %v", err)
	}
	g, ok := h.host.Group(req.Shard)
	if !ok {
		return wire.Errorf(wire.NotFound, "this node runs no replica of shard %d", req.Shard)
	}
	r := &remoteWatch{wake: make(chan struct{}, 1), all: true}
	h.mu.Lock()
	if h.remotes[req.Shard] == nil {
		h.remotes[req.Shard] = make(map[*remoteWatch]struct{})
	}
	h.remotes[req.Shard][r] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.remotes[req.Shard], r)
		h.mu.Unlock()
	}()
	return r.feed(ctx, g, func(f *watchFrame) error { return s.SendValue(f) })
}

// feed sends what a replica publishes, until ctx ends or the replica is of no use to a watcher any more: its store failed, or it has
// lost touch with the others.
func (r *remoteWatch) feed(ctx context.Context, g watched, send func(*watchFrame) error) error {
	tick := time.NewTicker(watchCheck)
	defer tick.Stop()
	for alone := 0; ; {
		if events, ok := r.take(); ok {
			if err := send(&watchFrame{Events: events, Applied: g.Applied()}); err != nil {
				return err
			}
		}
		select {
		case <-r.wake:
		case <-tick.C:
			if alone++; g.Leader() != "" {
				alone = 0
			}
			if err := g.Err(); err != nil || alone >= watchAlone {
				return wire.Errorf(wire.Unavailable, "the replica does not follow the others: %v", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watched is what a watch needs of a shard.Group.
type watched interface {
	Applied() uint64
	Leader() string
	Err() error
}

// follow keeps one watch on a shard while it has no replica here, at whichever node is up that has one. Replicas come and go; a new watch
// begins with waking everybody.
func (h *hub) follow(ctx context.Context, shard uint32) {
	for turn := 0; ctx.Err() == nil; turn++ {
		group, _ := h.router.Group(shard)
		nodes := group.Replicas()
		if _, here := h.host.Group(shard); here || len(nodes) == 0 {
			pause.For(ctx, watchCheck)
			continue
		}
		if node := nodes[turn%len(nodes)]; node != h.net.ID() && h.net.Up(node) {
			err := h.watchAt(ctx, node, shard)
			if ctx.Err() == nil {
				h.log.Debug("a watch ended", "shard", shard, "node", node, "err", err)
			}
		}
		pause.For(ctx, watchPause)
	}
}

func (h *hub) watchAt(ctx context.Context, node string, shard uint32) error {
	s, err := h.net.Open(ctx, node, methodWatch)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SendValue(&watchRequest{Shard: shard}); err != nil {
		return err
	}
	for {
		var f watchFrame
		if err := s.RecvValue(&f); err != nil {
			return errors.Join(err, ctx.Err())
		}
		h.reached(shard, f.Applied)
		h.relay(shard, f.Events)
		if _, here := h.host.Group(shard); here { // since the watch began; it publishes itself
			return nil
		}
	}
}
