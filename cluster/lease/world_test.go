package lease

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// world is a cluster whose messages take any time and whose nodes are cut off at any moment, in the time of package synctest.
type world struct {
	t     *testing.T
	delay func() time.Duration // of one way
	level feature.Level

	mu     sync.Mutex
	nodes  []*node
	terms  map[uint32]office // who leads a shard really
	places map[uint64]place
}

type office struct {
	node  int
	term  uint64
	since time.Time
}

// place is where an account is. Shard 0: nowhere for a moment.
type place struct {
	shard uint32
	old   uint32 // the shard before
}

type node struct {
	w    *world
	name string

	mu      sync.Mutex
	service *Service
	cut     bool
	old     bool              // its program knows no leases
	leads   map[uint32]office // what it believes
}

func newWorld(t *testing.T, nodes int, delay func() time.Duration) *world {
	w := &world{t: t, delay: delay, level: feature.Brisk, terms: make(map[uint32]office), places: make(map[uint64]place)}
	for i := range nodes {
		n := &node{w: w, name: fmt.Sprint("node-", i), leads: make(map[uint32]office)}
		w.nodes = append(w.nodes, n)
		n.start()
	}
	return w
}

// start replaces a node's process.
func (n *node) start() {
	s := newService(n, at{n}, slog.New(slog.DiscardHandler))
	n.mu.Lock()
	old := n.service
	n.service, n.leads = s, make(map[uint32]office)
	n.mu.Unlock()
	if old != nil {
		old.Close()
	}
	s.Start()
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.now().Close()
	}
}

func (n *node) now() *Service {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.service
}

func (n *node) isCut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut
}

func (n *node) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *node) isOld() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.old
}

func (w *world) setOld(old bool) {
	for _, n := range w.nodes {
		n.mu.Lock()
		n.old = old
		n.mu.Unlock()
	}
}

// elect makes a node the leader of a shard; the one before does not hear of it.
func (w *world) elect(shard uint32, i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := office{node: i, term: w.terms[shard].term + 1, since: time.Now()}
	w.terms[shard] = o
	n := w.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leads[shard] = o
}

// move brings an account to another shard; between the two it is nowhere for a while.
func (w *world) move(account uint64, to uint32, nowhere time.Duration) {
	w.mu.Lock()
	from := w.places[account].shard
	if from == 0 || from == to {
		w.mu.Unlock()
		return
	}
	w.places[account] = place{old: from}
	w.mu.Unlock()
	time.Sleep(nowhere)
	for _, n := range w.nodes {
		n.now().Arrived(to, account)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[account] = place{shard: to, old: from}
}

// way waits as long as a message takes. One to or from a node that is cut off is lost.
func (w *world) way(ctx context.Context, from, to *node) error {
	select {
	case <-time.After(w.delay()):
	case <-ctx.Done():
		return ctx.Err()
	}
	if from != to && (from.isCut() || to.isCut()) {
		<-ctx.Done()
		return wire.Errorf(wire.Unavailable, "%v", ctx.Err())
	}
	return nil
}

func (n *node) ID() string { return n.name }

func (n *node) Peers() (list []transport.Peer) {
	for _, p := range n.w.nodes {
		list = append(list, transport.Peer{ID: p.name})
	}
	return list
}

func (n *node) CallSound(ctx context.Context, name, method string, req, resp any) error {
	for _, p := range n.w.nodes {
		if p.name == name {
			return n.call(ctx, p, method, req, resp)
		}
	}
	return wire.Errorf(wire.NotFound, "no node %s", name)
}

func (n *node) call(ctx context.Context, to *node, method string, req, resp any) error {
	if err := n.w.way(ctx, n, to); err != nil {
		return err
	}
	if to.isOld() {
		return wire.Errorf(wire.Unsupported, "no call %s", method)
	}
	var err error
	switch method {
	case methodAsk:
		var r *askResponse
		if r, err = to.now().serveAsk(ctx, n.name, req.(*askRequest)); err == nil {
			*resp.(*askResponse) = *r
		}
	case methodWho:
		var r *whoResponse
		if r, err = to.now().serveWho(ctx, n.name, req.(*whoRequest)); err == nil {
			*resp.(*whoResponse) = *r
		}
	}
	if back := n.w.way(ctx, to, n); back != nil {
		return back
	}
	return err
}

// at is the cluster's shards as a node sees them.
type at struct{ *node }

// AtLeader tries any node that may lead: old leaders are asked as well.
func (a at) AtLeader(ctx context.Context, shard uint32, method string, req, resp any) error {
	for i := rand.IntN(len(a.w.nodes)); ; i++ {
		try, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		err := a.call(try, a.w.nodes[i%len(a.w.nodes)], method, req, resp)
		cancel()
		if err == nil || wire.NotKnown(err) {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return wire.Errorf(wire.Unavailable, "%v", ctx.Err())
		}
	}
}

// Office asks the majority: at one moment of the call it is true.
func (a at) Office(ctx context.Context, shard uint32) (Office, error) {
	a.mu.Lock()
	believed := a.leads[shard]
	a.mu.Unlock()
	for range 2 {
		select {
		case <-time.After(a.w.delay()):
		case <-ctx.Done():
			return Office{}, ctx.Err()
		}
		if !a.isCut() {
			a.w.mu.Lock()
			truth := a.w.terms[shard]
			a.w.mu.Unlock()
			if truth != believed {
				return Office{}, wire.Errorf(wire.NotLeader, "not the leader")
			}
			time.Sleep(a.w.delay())
			return Office{Term: believed.term, Since: believed.since}, nil
		}
	}
	return Office{}, wire.Errorf(wire.Unavailable, "no majority")
}

func (a at) Readable(shard uint32, account uint64) error {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	switch p := a.w.places[account]; shard {
	case p.shard:
		return nil
	case p.old:
		return &index.MovedError{Shard: p.shard}
	default:
		return &index.MovedError{}
	}
}

func (a at) Level() feature.Level {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return a.w.level
}

// Place knows nothing but what it is told.
func (a at) Place(account uint64, given uint32) uint32 {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if p := a.w.places[account]; p.shard != 0 {
		return p.shard
	}
	return a.w.places[account].old
}

func (a at) Follow(ctx context.Context, _ uint64, _ uint32, _ *index.MovedError, _ int) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// owners are the nodes whose session may count on having an account now.
func (w *world) owners(account uint64) (list []string) {
	now := time.Now()
	for _, n := range w.nodes {
		s := n.now()
		s.mu.Lock()
		if l := s.mine[account]; l != nil && !l.alone && now.Before(l.until) {
			list = append(list, n.name)
		}
		s.mu.Unlock()
	}
	return list
}
