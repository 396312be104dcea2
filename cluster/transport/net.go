package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/certfile"
	"hongyan/cluster/feature"
)

// Net is a node's place in the cluster's traffic. Safe for concurrent use.
type Net struct {
	cfg      Config
	log      *slog.Logger
	process  string // twin.go
	creds    *certfile.Files[credentials]
	listener net.Listener
	table    atomic.Pointer[table]
	self     *limits     // for calls to the node itself
	own      *doubt      // this node's of itself
	ails     atomic.Bool // so it was told
	fenced   atomic.Pointer[map[string]bool]

	needed atomic.Uint32 // the feature level that peers must know
	behind sync.Once     // tells that this node knows too little

	calls   map[string]callHandler   // fixed once Serve was called
	streams map[string]StreamHandler // fixed once Serve was called
	serving atomic.Bool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of this Net

	gossip *Gossip

	examining sync.Mutex // held while the node judges itself, and tells

	changing sync.Mutex               // held while the table is replaced; guards leaving
	leaving  map[string]chan struct{} // by id: closed when a peer that was taken out has told its end

	mu       sync.Mutex // guards the rest
	closed   bool
	onChange []func(node string, up bool)
	onDoubt  []func(node string, in bool)
	onPeers  []func()
	groups   map[uint32]*raftGroup
}

// Listen opens the port. Register handlers, then Serve.
func Listen(cfg Config) (*Net, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("transport configuration: %w", err)
	}
	cfg.timing = cfg.timing.withDefaults()
	cfg.Newest = cmp.Or(cfg.Newest, feature.Newest())
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	creds, err := certfile.Follow(cfg.renewing(), cfg.timing.renewal, cfg.Log, cfg.CA, cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("transport identity: %w", err)
	}
	listener := cfg.Listener
	if listener == nil {
		if listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen for peers: %w", err)
		}
	}
	n := &Net{
		cfg:      cfg,
		log:      cfg.Log,
		process:  newProcessName(),
		creds:    creds,
		listener: listener,
		self:     newLimits(),
		own:      newDoubt(false),
		calls:    make(map[string]callHandler),
		streams:  make(map[string]StreamHandler),
		groups:   make(map[uint32]*raftGroup),
		leaving:  make(map[string]chan struct{}),
	}
	n.needed.Store(uint32(max(cfg.Least, feature.Base)))
	n.ctx, n.cancel = context.WithCancel(context.Background())
	first, _ := n.successor(&table{}, cfg.Peers)
	n.table.Store(first)
	n.gossip = newGossip(n)
	return n, nil
}

// Addr is where the node listens.
func (n *Net) Addr() net.Addr { return n.listener.Addr() }

// CertificateEnd is when this node's certificate ends.
func (n *Net) CertificateEnd() time.Time { return n.creds.Now().cert.Leaf.NotAfter }

// ID is the node's own id.
func (n *Net) ID() string { return n.cfg.ID }

// Serve starts accepting peers and dialling them. It returns at once.
func (n *Net) Serve() {
	n.changing.Lock()
	defer n.changing.Unlock()
	if n.serving.Swap(true) {
		return
	}
	n.spawn(n.accept)
	for _, p := range n.table.Load().peers {
		n.spawn(p.run)
	}
}

// Close breaks every connection, ends every handler's context and waits for all of it to be gone.
func (n *Net) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	groups := make([]*raftGroup, 0, len(n.groups))
	for _, g := range n.groups {
		groups = append(groups, g)
	}
	n.mu.Unlock()
	n.cancel()
	err := n.listener.Close()
	for _, g := range groups {
		err = errors.Join(err, g.Close())
	}
	n.changing.Lock() // a change that began before is whole, none begins any more
	peers := n.table.Load().peers
	n.changing.Unlock()
	for _, p := range peers {
		p.closeAll()
	}
	n.wg.Wait()
	if err != nil {
		return fmt.Errorf("close transport: %w", err)
	}
	return nil
}

// spawn runs f unless the Net is closed; Close waits for it.
func (n *Net) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.wg.Go(f)
	return true
}

// OnChange adds a callback for peers that come up or go down. Per peer the calls come in order, one at a time;
// f must not block for long.
func (n *Net) OnChange(f func(node string, up bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onChange = append(n.onChange, f)
}

func (n *Net) notify(node string, up bool) {
	n.mu.Lock()
	callbacks := n.onChange[:len(n.onChange):len(n.onChange)]
	n.mu.Unlock()
	for _, f := range callbacks {
		f(node, up)
	}
}

// Up reports whether a node answers. The node itself always does.
func (n *Net) Up(node string) bool {
	p := n.find(node)
	return node == n.cfg.ID || p != nil && p.control.Load() != nil
}

// RTT is the smoothed round-trip time to a node; false while it is down.
func (n *Net) RTT(node string) (time.Duration, bool) {
	if node == n.cfg.ID {
		return 0, true
	}
	if p := n.find(node); p != nil && p.control.Load() != nil {
		return time.Duration(p.rtt.Load()), true
	}
	return 0, false
}

// Nearest lists those of the nodes that answer, this one first, then by round-trip time.
func (n *Net) Nearest(nodes []string) []string {
	distance := func(node string) time.Duration {
		if node == n.cfg.ID {
			return -1
		}
		rtt, _ := n.RTT(node)
		return rtt
	}
	up := slices.DeleteFunc(slices.Clone(nodes), func(node string) bool { return !n.Up(node) })
	slices.SortStableFunc(up, func(a, b string) int { return cmp.Compare(distance(a), distance(b)) })
	return up
}

// Gossip is the door for package member.
func (n *Net) Gossip() *Gossip { return n.gossip }
