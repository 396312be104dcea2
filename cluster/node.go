// Package cluster is one node of Hongyan: it opens the node's storage, joins its Raft groups and volumes
// with those of the peers, and gives frontends their door.
//
// Start brings everything up and returns at once; the node is of use when Ready says nothing. Stop hands
// leaderships over and closes in the opposite order. A crash at any moment leaves what the engine,
// the logs and the snapshot records promise; the next Start continues from there.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/checkpoint"
	"hongyan/cluster/client"
	"hongyan/cluster/clock"
	"hongyan/cluster/cold"
	"hongyan/cluster/collect"
	"hongyan/cluster/config"
	"hongyan/cluster/custody"
	"hongyan/cluster/dictionary"
	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/member"
	"hongyan/cluster/mover"
	"hongyan/cluster/placement"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/recovery"
	"hongyan/cluster/rehouse"
	"hongyan/cluster/relocate"
	"hongyan/cluster/replica"
	"hongyan/cluster/scrub"
	"hongyan/cluster/settle"
	"hongyan/cluster/shard"
	"hongyan/cluster/textsearch"
	"hongyan/cluster/transport"
	"hongyan/cluster/upgrade"
	"hongyan/engine"
	"hongyan/engine/atrest"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// retireTimeout bounds the sealing of volumes at a stop; stopGrace is how long closing may outlast the caller's deadline.
const (
	retireTimeout = time.Second
	stopGrace     = time.Second
)

// Node is a running member of a cluster.
type Node struct {
	cfg       *config.Node
	log       *slog.Logger
	topology  atomic.Pointer[directory.Topology]
	net       *transport.Net
	ring      *keys.Keyring // nil if nothing is encrypted
	store     *engine.Store // nil without the storage role
	custody   *custody.Service
	logs      *shard.Logs // nil without the storage role
	host      *shard.Host
	router    *shard.Router
	directory *directory.Service
	volumes   *replica.Manager
	scrub     *scrub.Scrubber
	reconcile *reconcile.Service
	text      *textsearch.Service
	client    *client.Client
	clock     clock.Clock
	members   *member.List
	collector *collect.Collector // nil without the storage role

	checkpoints  *checkpoint.Keeper
	dictionaries *dictionary.Keeper
	cold         *cold.Manager       // nil without the storage role
	mover        *mover.Mover        // nil without the storage role
	relocator    *relocate.Relocator // nil without the storage role
	rehouser     *rehouse.Rehouser   // likewise
	upgrades     *upgrade.Keeper
	outdated     chan error         // capacity one: why this node's program is too old for the cluster
	recovery     *recovery.Recovery // nil without the storage role
	lost         lostGroups
	taking       sync.Mutex // held while a topology is taken; guards kept, keptAt and file
	kept         uint64     // the version in the node's file
	keptAt       time.Time
	file         struct {
		read []byte       // what the configuration's file held when it was read last
		is   *config.Node // nil if it could not be used
	}
	replicas    sync.Mutex  // held while one is opened or erased; guards stopped
	stopped     bool        // no more are
	incarnation string      // names the data folder; "" without the storage role
	empty       atomic.Bool // it had no replica when this node started, and the cluster does not know its name yet
	stop        context.CancelFunc
	unfit       chan error     // gets the reason why this node cannot work safely
	done        chan struct{}  // the founding work has ended
	work        sync.WaitGroup // what else runs until the node stops
	closers     []func(context.Context) error
}

// Start opens the node that cfg describes.
func Start(cfg *config.Node, log *slog.Logger) (*Node, error) {
	n := &Node{cfg: cfg, log: log, done: make(chan struct{}), outdated: make(chan error, 1), unfit: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	if err := n.open(ctx); err != nil {
		close(n.done)
		return nil, errors.Join(fmt.Errorf("start node %s: %w", cfg.ID, err), n.Stop(context.Background()))
	}
	return n, nil
}

// Clock is the wall clock of everything this node does.
func (n *Node) Clock() *clock.Clock { return &n.clock }

// closing adds a step that Stop takes before those added earlier.
func (n *Node) closing(f func(context.Context) error) { n.closers = append(n.closers, f) }

// open builds the node from the bottom: storage, network, services, then the parts that begin to act by
// themselves. Every handler is registered before the network serves.
func (n *Node) open(ctx context.Context) error {
	if err := n.openTopology(); err != nil {
		return err
	}
	if n.cfg.Has(config.Storage) {
		if err := n.openStore(ctx); err != nil {
			return err
		}
	}
	if err := n.openNet(ctx); err != nil {
		return err
	}
	if err := n.openServices(); err != nil {
		return err
	}
	n.openRecovery()
	n.net.SetFenced(n.topology.Load().Fenced())
	if err := n.openGroups(ctx); err != nil {
		return err
	}
	n.closing(func(context.Context) error { n.lost.work.Wait(); return nil })
	n.lost.work.Go(func() { n.recoverGroups(ctx) })
	n.net.Serve() // with every group registered: raft backs off for seconds from one that a peer does not know yet
	if err := n.openMembers(); err != nil {
		return err
	}
	n.volumes.Start()
	n.closing(n.retireVolumes)
	n.dictionaries.Start()
	n.closing(func(context.Context) error { n.dictionaries.Close(); return nil })
	n.scrub.Start()
	n.closing(func(context.Context) error { return n.scrub.Close() })
	n.client.Start()
	n.closing(func(context.Context) error { n.client.Close(); return nil })
	n.text.Start()
	n.closing(func(context.Context) error { n.text.Close(); return nil })
	if n.store != nil {
		n.startCold()
		n.checkpoints.Start()
		n.closing(func(context.Context) error { n.checkpoints.Close(); return nil })
		settler := settle.New(settle.Config{Router: n.router, Host: n.host, Volumes: n.volumes, Directory: n.directory, Clock: &n.clock, Log: n.log})
		n.work.Go(func() { settler.Run(ctx) })
		n.work.Go(func() { n.collector.Run(ctx) })
		n.work.Go(func() { n.watchVitals(ctx) })
		n.work.Go(func() { n.watchFitness(ctx) })
		n.work.Go(func() { n.askKept(ctx) })
		n.startMover(ctx)
		n.work.Go(func() { n.relocator.Run(ctx) })
		n.work.Go(func() { n.rehouser.Run(ctx) })
	}
	n.closing(func(context.Context) error { n.work.Wait(); return nil })
	n.work.Go(func() { n.followTopology(ctx) })
	n.work.Go(func() { n.upgrades.Run(ctx) })
	n.work.Go(func() { n.tellFenced(ctx) })
	n.work.Go(func() { n.watchTwin(ctx) })
	go n.found(ctx)
	return nil
}

// wrappedKeys is the file in the data folder that holds the master keys as a command wrapped them.
const wrappedKeys = "master.wrapped"

// openStore opens the master keys, if the configuration names some, and the storage.
func (n *Node) openStore(ctx context.Context) (err error) {
	if n.ring, err = OpenMaster(ctx, n.cfg); err != nil {
		return err
	}
	o := engine.Options{Reserve: uint64(n.cfg.DiskReserveBytes), Slots: n.cfg.Slots, Log: n.log}
	if n.ring != nil {
		o.Master = n.ring
	}
	if n.store, err = engine.Open(n.cfg.Data, o); err != nil {
		return err
	}
	n.closing(func(context.Context) error { return n.store.Close() })
	return nil
}

// members gives every node of the cluster in one order, the same on each, and the home regions of the mailbox shards:
// the regions in turn.
func members(cfg *config.Node) (nodes []placement.Node, homes []string) {
	nodes = append(nodes, placement.Node{ID: cfg.ID, Region: cfg.Region, Storage: cfg.Has(config.Storage)})
	for _, p := range cfg.Peers {
		nodes = append(nodes, placement.Node{ID: p.ID, Region: p.Region, Storage: slices.Contains(p.Roles, config.Storage)})
	}
	slices.SortFunc(nodes, func(a, b placement.Node) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	var regions []string
	for _, m := range nodes {
		if m.Storage && !slices.Contains(regions, m.Region) {
			regions = append(regions, m.Region)
		}
	}
	for i := range cfg.Shards {
		if len(regions) > 0 {
			homes = append(homes, regions[i%len(regions)])
		}
	}
	return nodes, homes
}

func (n *Node) transportConfig() transport.Config {
	t := n.topology.Load()
	return transport.Config{
		ID: n.cfg.ID, Listen: n.cfg.RPC.Listen, Peers: n.dialTable(t, n.cfg), CA: n.cfg.TLS.CA, Cert: n.cfg.TLS.Cert, Key: n.cfg.TLS.Key,
		Allow: n.cfg.RPC.Prefixes(), Clock: &n.clock, Log: n.log,
		Least: t.AtLevel(), Outdated: n.tooOld,
	}
}

func (n *Node) openNet(ctx context.Context) (err error) {
	if err := n.refuseTwin(ctx); err != nil {
		return err
	}
	if n.net, err = transport.Listen(n.transportConfig()); err != nil {
		return err
	}
	n.closing(func(context.Context) error { return n.net.Close() })
	return nil
}

func roles(in []config.Role) []string {
	out := make([]string, len(in))
	for i, r := range in {
		out[i] = string(r)
	}
	return out
}

func (n *Node) openServices() error {
	n.host = shard.NewHost(n.net)
	n.host.Lapsed = n.lapsed
	n.router = shard.NewRouter(n.cfg.ID, n.net, n.host, n.topology.Load().Groups)
	n.router.Clock = &n.clock
	spool := filepath.Join(n.cfg.Data, "spool")
	if err := emptySpool(spool); err != nil {
		return err
	}
	keep := uint64(0) // of the disk: mail on its way may use half of the reserve that volumes leave, logs and index have the rest
	if n.store != nil {
		keep = uint64(n.cfg.DiskReserveBytes) / 2
	}
	// Mail on its way is for this process only, and so is the key that encrypts it on the disk.
	scratch := atrest.ScratchKey().FS(vfs.Default)
	n.openCustody()
	manager := replica.Config{
		ID: n.cfg.ID, Region: n.cfg.Region, Net: n.net, Peers: n.storagePeers,
		FS: scratch, SpoolDir: spool, SpoolKeep: keep, MaxBlob: uint64(n.cfg.MaxMessageBytes) + 1<<20, Log: n.log,
		CompactRate: n.cfg.Compaction.BytesPerSecond, MaxAge: seconds(n.cfg.Compaction.CloseSeconds), Clock: &n.clock,
		EarlyFrom: n.cfg.EarlyFrom,
		Paused:    func() bool { return n.topology.Load().Paused }, Recovering: n.recovering,
	}
	var tables *index.Shard
	if n.store != nil {
		tables = n.store.Index.Shard(placement.DirectoryShard)
	}
	n.directory = directory.NewService(n.router, n.host, n.net, tables)
	n.directory.Known = n.topology.Load
	n.openUpgrades()
	if n.store != nil {
		manager.Volumes = n.store.Volumes
		if err := n.openCold(); err != nil {
			return err
		}
		manager.Cold = n.cold
	}
	n.openDictionaries(manager.Volumes)
	manager.Directory, manager.Dictionary = n.directory, n.dictionaries.Get
	manager.Damaged = func(id volume.ID, record uint64) { n.scrub.Damaged(id, record) }
	manager.Checked = func(id volume.ID, generation uint32) replica.Checked { return n.scrub.Checked(id, generation) }
	manager.Verify = func(id volume.ID) { n.scrub.Prove(id) }
	var err error
	if n.volumes, err = replica.New(manager); err != nil {
		return err
	}
	if err := n.openCollector(); err != nil {
		return err
	}
	if n.store != nil {
		n.relocator = relocate.New(relocate.Config{
			Self: n.cfg.ID, Net: n.net, Router: n.router, Host: n.host, Directory: n.directory, Paused: n.paused, Clock: &n.clock, Log: n.log.With("part", "relocate"),
		})
		n.rehouser = rehouse.New(rehouse.Config{
			Self: n.cfg.ID, Net: n.net, Host: n.host, Directory: n.directory, Volumes: n.store.Volumes, Cold: n.cold,
			Door: func() rehouse.Door { return n.client }, Paused: n.paused, Log: n.log.With("part", "rehouse"),
		})
	}
	n.openScrub(manager.Volumes)
	n.checkpoints = checkpoint.New(checkpoint.Config{
		Net: n.net, Host: n.host, Directory: n.directory, Store: n.volumes, FS: scratch, SpoolDir: spool,
		Interval: time.Duration(n.cfg.Checkpoint.IntervalSeconds) * time.Second, Changes: uint64(n.cfg.Checkpoint.Changes),
		Rate: n.cfg.Checkpoint.BytesPerSecond, Clock: &n.clock, Log: n.log,
	})
	n.openReconcile()
	if err := n.openText(); err != nil {
		return err
	}
	n.client = client.New(client.Config{
		Net: n.net, Router: n.router, Host: n.host, Directory: n.directory, Volumes: n.volumes, Text: n.text,
		FS: scratch, SpoolDir: spool, SpoolKeep: keep, MaxMessage: n.cfg.MaxMessageBytes,
		Dictionary: n.dictionaries.Newest, Mender: func() client.Mender { return n.reconcile }, Clock: &n.clock, Log: n.log,
	})
	return nil
}

func (n *Node) openCustody() {
	n.custody = custody.New(custody.Config{ID: n.cfg.ID, Net: n.net, Nodes: n.storageNodes, Store: n.store, Ring: n.ring, Log: n.log})
}

// openCollector makes what takes back the space of deleted mail, on a node that keeps any.
func (n *Node) openCollector() (err error) {
	var db *index.DB
	if n.store != nil {
		db = n.store.Index
	}
	shards := collect.NewCluster(n.net, n.router, n.host, db, n.directory)
	if n.store == nil {
		return nil
	}
	c := n.cfg.Compaction
	n.collector, err = collect.New(collect.Config{
		Options: collect.Options{Every: seconds(c.IntervalSeconds), Grace: seconds(c.GraceSeconds), AtOnce: 8, Garbage: int(c.GarbagePercent)},
		Volumes: n.store.Volumes, Shards: shards, Directory: n.directory, Copies: n.volumes, Clock: &n.clock, Log: n.log.With("part", "collect"),
	})
	return err
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// openScrub makes what proves this node's copies of volumes to be whole.
func (n *Node) openScrub(volumes *volume.Set) {
	n.scrub = scrub.New(scrub.Config{
		ID: n.cfg.ID, Net: n.net, Volumes: volumes, Copies: n.volumes, FS: vfs.Default, State: filepath.Join(n.cfg.Data, "scrub.state"),
		Every: time.Duration(n.cfg.Scrub.IntervalSeconds) * time.Second, Rate: n.cfg.Scrub.BytesPerSecond, Clock: &n.clock, Log: n.log,
		Nodes: n.storageNodes,
	})
}

// emptySpool makes dir and removes what a crash left there: spools are never needed again.
func emptySpool(dir string) error {
	if err := vfs.Default.RemoveAll(dir); err != nil {
		return fmt.Errorf("empty the spool: %w", err)
	}
	if err := vfs.Default.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the spool: %w", err)
	}
	return nil
}

// machine makes the state machine of a replica that is about to start.
func (n *Node) machine(number uint32) (shard.Machine, error) {
	if number == placement.DirectoryShard {
		return n.directory.Machine(), nil
	}
	m := mailbox.NewMachine(func(events []mailbox.Event) {
		n.client.Publish(number, events)
		n.text.Publish(number, events)
	})
	m.Arrives = func(account uint64) { n.client.Arrived(number, account) }
	early, err := m.Track(n.store.Index.Shard(number))
	if err != nil {
		return nil, fmt.Errorf("shard %d: %w", number, err)
	}
	n.client.Track(number, early)
	return m, nil
}

func (n *Node) openMembers() error {
	var err error
	http := ""
	if l := n.cfg.Listeners.HTTP; l != nil {
		http = l.Address
	}
	n.members, err = member.Start(member.Config{
		Net: n.net, Meta: member.Meta{Region: n.cfg.Region, Roles: roles(n.cfg.Roles), HTTP: http}, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.closing(func(context.Context) error { return n.members.Leave() })
	return nil
}

// Stop ends the node. It returns every failure, and closes the rest all the same. What has not ended with ctx, for a disk that
// hangs, is left behind: the process should end then, and the next start does what a crash needs.
func (n *Node) Stop(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- n.closeAll(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(stopGrace):
			err = fmt.Errorf("not all has ended: %w", ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("stop node %s: %w", n.cfg.ID, err)
	}
	return nil
}

func (n *Node) closeAll(ctx context.Context) error {
	n.stop()
	<-n.done
	var errs []error
	for _, f := range slices.Backward(n.closers) {
		errs = append(errs, f(ctx))
	}
	n.closers = nil
	return errors.Join(errs...)
}

// retireVolumes seals this node's volumes as far as that is quick: the last nodes of a cluster that stops find no
// majority any more.
func (n *Node) retireVolumes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, retireTimeout)
	defer cancel()
	if err := n.volumes.Close(ctx); err != nil {
		n.log.Info("some volumes will be sealed at the next start", "err", err)
	}
	return nil
}

// Client is the node's door.
func (n *Node) Client() *client.Client { return n.client }

// Tell tells all other nodes a word, if they are there (member.List.Tell).
func (n *Node) Tell(about member.Subject, word []byte) { n.members.Tell(about, word) }

// Hear has fn called with what other nodes tell (member.List.Hear).
func (n *Node) Hear(about member.Subject, fn func(word []byte)) { n.members.Hear(about, fn) }
