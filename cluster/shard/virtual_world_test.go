package shard

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/engine/index"
	"hongyan/engine/journal"
)

// virtualWorld is a cluster in the virtual time of testing/synctest: the real groups, hosts, routers, journals, indexes and detectors
// over a network and disks that are simulated.
type virtualWorld struct {
	t      *testing.T
	log    *slog.Logger
	net    *virtualNet
	nodes  []*virtualNode
	groups []placement.Group

	mu      sync.Mutex // guards the rest
	leaders map[[2]uint64]string
	terms   map[uint32]uint64 // the highest seen
}

// virtualNode is a node. What lives and dies with its process is under mu.
type virtualNode struct {
	w      *virtualWorld
	id     string
	region string
	ails   atomic.Bool
	frozen bool // guarded by the network

	disk   *vfs.MemFS
	stable *memoryStable
	hung   atomic.Pointer[chan struct{}] // writes to the journal wait until it is closed
	slow   atomic.Int64                  // nanoseconds that an fsync of the journal takes at most, and a write of terms and votes

	mu         sync.Mutex // guards the rest
	host       *Host
	router     *Router
	peers      *virtualPeers
	running    bool
	died       chan struct{}
	stop       context.CancelFunc
	work       sync.WaitGroup
	db         *index.DB
	logs       *Logs
	list       []*Group
	transports map[uint32]*virtualTransport
	seen       map[*virtualNode]bool // that ail
}

// memoryStable keeps terms and votes over a crash.
type memoryStable struct {
	drag atomic.Pointer[virtualNode] // whose disk is slow
	mu   sync.Mutex                  // guards m
	m    map[string][]byte
}

// of is one shard's.
func (s *memoryStable) of(shard uint32) raft.StableStore { return shardStable{s, shard} }

type shardStable struct {
	*memoryStable
	shard uint32
}

func (s shardStable) key(name []byte) string { return fmt.Sprintf("%d/%s", s.shard, name) }

func (s shardStable) Set(key, value []byte) error {
	if n := s.drag.Load(); n != nil {
		n.drag()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[s.key(key)] = slices.Clone(value)
	return nil
}

func (s shardStable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.m[s.key(key)]
	if !ok {
		return nil, raftboltdb.ErrKeyNotFound
	}
	return v, nil
}

func (s shardStable) SetUint64(key []byte, value uint64) error {
	return s.Set(key, fmt.Append(nil, value))
}

func (s shardStable) GetUint64(key []byte) (n uint64, err error) {
	v, err := s.Get(key)
	if err == nil {
		_, err = fmt.Sscan(string(v), &n)
	}
	return n, err
}

// virtualPlan is where a world's nodes are, and who votes.
type virtualPlan struct {
	regions []string // of each node
	groups  int
	delay   func(a, b string) time.Duration // one way, between regions
}

// newVirtualWorld starts a cluster. All groups have their home in the first node's region, as if all customers lived there.
func newVirtualWorld(t *testing.T, seed uint64, plan virtualPlan) *virtualWorld {
	w := &virtualWorld{t: t, log: slog.New(slog.DiscardHandler), leaders: make(map[[2]uint64]string), terms: make(map[uint32]uint64)}
	w.net = newVirtualNet(seed, func(from, to *virtualNode) time.Duration { return plan.delay(from.region, to.region) })
	if *virtualLog {
		w.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var voters []string
	for i, region := range plan.regions {
		n := &virtualNode{w: w, id: fmt.Sprintf("n%d", i+1), region: region, disk: vfs.NewCrashableMem(), stable: &memoryStable{m: make(map[string][]byte)}, died: make(chan struct{})}
		w.nodes = append(w.nodes, n)
		voters = append(voters, n.id)
	}
	for i := range plan.groups {
		w.groups = append(w.groups, placement.Group{Shard: uint32(i), Home: plan.regions[0], Voters: voters})
	}
	for _, n := range w.nodes {
		n.start()
	}
	return w
}

func (w *virtualWorld) node(id string) *virtualNode {
	i := slices.IndexFunc(w.nodes, func(n *virtualNode) bool { return n.id == id })
	return w.nodes[i]
}

// life is closed when the process that runs now has ended.
func (n *virtualNode) life() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.died
}

// process is the one that runs now, or ran last, and is closed with its end.
func (n *virtualNode) process() (*Host, *Router, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host, n.router, n.died
}

func (n *virtualNode) transport(shard uint32) *virtualTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running {
		return nil
	}
	return n.transports[shard]
}

// start begins a process on what its disk has.
func (n *virtualNode) start() {
	w := n.w
	ctx, stop := context.WithCancel(context.Background())
	peers := newVirtualPeers(w, n)
	host := newHost(peers)
	n.mu.Lock()
	n.peers, n.host, n.router = peers, host, NewRouter(n.id, peers, host, w.groups)
	n.stop, n.died, n.seen = stop, make(chan struct{}), make(map[*virtualNode]bool)
	n.db = openIndex(w.t, n.disk)
	must(w.t, n.disk.MkdirAll("raft", 0o700))
	gated := errorfs.Wrap(n.disk, errorfs.InjectorFunc(n.gate))
	j, err := journal.Open(gated, "journal", journal.Options{SegmentSize: 256 << 10})
	must(w.t, err)
	n.logs = &Logs{fs: n.disk, journal: j, stable: n.stable.of, close: func() error { return nil }}
	n.transports, n.list = make(map[uint32]*virtualTransport), nil
	n.mu.Unlock()
	region := func(node string) string {
		for _, other := range w.nodes {
			if other.id == node {
				return other.region
			}
		}
		return ""
	}
	for _, g := range w.groups {
		tr := newVirtualTransport(w, n, peers, g.Shard)
		n.mu.Lock()
		n.transports[g.Shard] = tr
		n.mu.Unlock()
		group, err := Start(Config{
			Group: g, Founds: true, Self: n.id, Region: region, Dir: fmt.Sprintf("raft/%d", g.Shard), Logs: n.logs, Transport: tr, Peers: peers,
			Store: n.db.Shard(g.Shard), Machine: &tally{}, Log: w.log.With("node", n.id),
		})
		must(w.t, err)
		n.list = append(n.list, group)
		host.Add(group)
	}
	n.mu.Lock()
	n.running = true
	n.mu.Unlock()
	for _, other := range w.nodes {
		if other != n {
			n.work.Go(func() { peers.watch(ctx, other) })
		}
	}
	n.work.Go(func() { n.observe(ctx) })
}

// gate holds up what the journal does while the disk hangs.
func (n *virtualNode) gate(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	if hung := n.hung.Load(); hung != nil {
		<-*hung
	}
	if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData {
		n.drag()
	}
	return nil
}

// drag takes the time of a slow disk.
func (n *virtualNode) drag() {
	if most := n.slow.Load(); most > 0 {
		time.Sleep(time.Duration(rand.Int64N(most)))
	}
}

// slacken has the disk be slow from now on. The node says that it ails for as long as a write has taken too long, as cluster's watchVitals does.
func (n *virtualNode) slacken(most time.Duration) {
	n.slow.Store(int64(most))
	n.stable.drag.Store(n)
	life := n.life()
	n.work.Go(func() {
		ails := false
		for n.slow.Load() > 0 {
			select {
			case <-life:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if is := n.logs.Stalled() > 130*time.Millisecond; is != ails {
				ails = is
				n.ail(is)
			}
		}
		n.ail(false)
	})
}

// kill ends the process and takes from its disk what was not fsynced, or a part of that. Its connections break.
func (n *virtualNode) kill(rng *rand.Rand) {
	n.mend()
	n.mu.Lock()
	n.running = false
	close(n.died)
	n.mu.Unlock()
	n.stop()
	n.work.Wait()
	n.mu.Lock()
	transports := n.transports
	n.mu.Unlock()
	for _, tr := range transports { // so that nothing of its end is heard by others
		tr.cancel()
	}
	after := n.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	terms := n.stable
	n.stable = &memoryStable{m: make(map[string][]byte)}
	terms.mu.Lock()
	for k, v := range terms.m {
		n.stable.m[k] = v
	}
	terms.mu.Unlock()
	must(n.w.t, n.host.Stop())
	must(n.w.t, n.logs.Close())
	must(n.w.t, n.db.Close())
	n.disk = after
}

// end stops a node for good.
func (n *virtualNode) end() {
	n.mu.Lock()
	running := n.running
	n.mu.Unlock()
	if running {
		n.kill(rand.New(rand.NewPCG(1, 1)))
	}
}

// hang lets no write return any more. The node notices, as cluster's watchVitals does, after a while.
func (n *virtualNode) hang() {
	hung := make(chan struct{})
	n.hung.Store(&hung)
	n.work.Go(func() {
		for n.hung.Load() == &hung {
			if n.logs.Stalled() > 130*time.Millisecond {
				n.ail(true)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func (n *virtualNode) mend() {
	if hung := n.hung.Swap(nil); hung != nil {
		close(*hung)
		n.ail(false)
	}
}

func (n *virtualNode) ail(is bool) {
	n.ails.Store(is)
	n.peers.set(n, is)
}

// sees notes what another says of itself; doubts is what follows from that.
func (n *virtualNode) sees(other *virtualNode, ails bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[other] = ails
}

func (n *virtualNode) doubts(other *virtualNode) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[other] && !n.ails.Load()
}

// observe holds the invariant that a term has one leader, and notes the highest term of each group.
func (n *virtualNode) observe(ctx context.Context) {
	for pause.For(ctx, 10*time.Millisecond) {
		for _, g := range n.list {
			term := g.raft.CurrentTerm()
			leads := g.raft.State() == raft.Leader && g.raft.CurrentTerm() == term
			n.w.mu.Lock()
			n.w.terms[g.Shard()] = max(n.w.terms[g.Shard()], term)
			if key := [2]uint64{uint64(g.Shard()), term}; leads {
				if was := n.w.leaders[key]; was != "" && was != n.id {
					n.w.t.Errorf("term %d of shard %d is led by %s and %s", term, g.Shard(), was, n.id)
				}
				n.w.leaders[key] = n.id
			}
			n.w.mu.Unlock()
		}
	}
}

// leading is a node that leads most groups and is ready to, nil while a group has no such leader.
func (w *virtualWorld) leading() *virtualNode {
	count := make(map[*virtualNode]int)
	led := 0
	for _, n := range w.nodes {
		for _, g := range n.list {
			if n.transport(g.Shard()) != nil && g.IsLeader() {
				count[n]++
				led++
			}
		}
	}
	var most *virtualNode
	for n, c := range count {
		if most == nil || c > count[most] {
			most = n
		}
	}
	if led < len(w.groups) {
		return nil
	}
	return most
}

// await waits for a condition, in virtual time.
func (w *virtualWorld) await(what string, ok func() bool) {
	w.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("not within a minute: %s", what)
}

// end stops everything, so that the bubble can end.
func (w *virtualWorld) end() {
	for _, n := range w.nodes {
		n.end()
	}
}
