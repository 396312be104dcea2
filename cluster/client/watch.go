package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// methodWatch streams the events of one shard from a node that has a replica of it.
const methodWatch = "mailbox.watch"

// Bounds of a remote watch: events waiting for a slow watcher, after which it is told to look at everything; the
// pause before a lost watch is taken up again.
const (
	watchQueue = 1024
	watchPause = 200 * time.Millisecond
)

// watchRequest names the shard.
type watchRequest struct {
	Shard uint32 `cbor:"1,keyasint"`
}

// watchFrame carries events; none means that everything may have changed.
type watchFrame struct {
	Events []mailbox.Event `cbor:"1,keyasint,omitempty"`
}

// hub wakes sessions. A wake-up carries nothing: the session then asks what changed, so wake-ups can be
// merged and a late one costs nothing.
type hub struct {
	net    *transport.Net
	router *shard.Router
	host   *shard.Host
	log    *slog.Logger
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex                           // guards the maps
	sessions map[uint64]map[*watcher]struct{}     // by account
	remotes  map[uint32]map[*remoteWatch]struct{} // by shard
}

type watcher struct {
	shard  uint32
	folder uint32 // 0: any
	wake   chan struct{}
}

// remoteWatch gathers events for another node.
type remoteWatch struct {
	wake chan struct{} // capacity one

	mu      sync.Mutex // guards the fields below
	pending []mailbox.Event
	all     bool // something that pending does not hold: tell the watcher to look at everything
}

func newHub(net *transport.Net, router *shard.Router, host *shard.Host, log *slog.Logger) *hub {
	return &hub{
		net: net, router: router, host: host, log: log, stop: func() {},
		sessions: make(map[uint64]map[*watcher]struct{}), remotes: make(map[uint32]map[*remoteWatch]struct{}),
	}
}

// start follows every shard that has no replica here.
func (h *hub) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	for shard := uint32(1); ; shard++ {
		group, ok := h.router.Group(shard)
		if !ok {
			return
		}
		if !group.Holds(h.net.ID()) {
			h.work.Go(func() { h.follow(ctx, shard, group.Voters) })
		}
	}
}

func (h *hub) close() {
	h.stop()
	h.work.Wait()
}

// Watch wakes its channel (capacity one, never closed) after each change to the account's
// folder (0: to any of its folders), also after a failover or a lost watch: wake-ups may be spurious, never missed.
func (c *Client) Watch(a Account, folder uint32) (wake <-chan struct{}, cancel func()) {
	w := &watcher{shard: a.Shard, folder: folder, wake: make(chan struct{}, 1)}
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.sessions[a.ID]
	if set == nil {
		set = make(map[*watcher]struct{})
		h.sessions[a.ID] = set
	}
	set[w] = struct{}{}
	return w.wake, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(set, w)
		if len(set) == 0 {
			delete(h.sessions, a.ID)
		}
	}
}

func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// publish passes on what a shard's replica here, or a remote watch, saw. It never blocks.
func (h *hub) publish(shard uint32, events []mailbox.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.remotes[shard] {
		r.offer(events)
	}
	if events == nil {
		for _, set := range h.sessions {
			for w := range set {
				if w.shard == shard {
					w.poke()
				}
			}
		}
		return
	}
	for _, e := range events {
		for w := range h.sessions[e.Account] {
			if e.Mailbox == 0 || w.folder == 0 || w.folder == e.Mailbox {
				w.poke()
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

// take empties the queue.
func (r *remoteWatch) take() []mailbox.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.pending
	r.pending, r.all = nil, false
	return events
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
	if _, ok := h.host.Group(req.Shard); !ok {
		return wire.Errorf(wire.NotFound, "this node runs no replica of shard %d", req.Shard)
	}
	r := &remoteWatch{wake: make(chan struct{}, 1)}
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
	for {
		if err := s.SendValue(&watchFrame{Events: r.take()}); err != nil {
			return err
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow keeps one watch on a shard without a replica here, at whichever voter is up.
func (h *hub) follow(ctx context.Context, shard uint32, voters []string) {
	for turn := 0; ctx.Err() == nil; turn++ {
		node := voters[turn%len(voters)]
		if h.net.Up(node) {
			err := h.watchAt(ctx, node, shard)
			if ctx.Err() == nil {
				h.log.Debug("a watch ended", "shard", shard, "node", node, "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
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
		h.publish(shard, f.Events)
	}
}
