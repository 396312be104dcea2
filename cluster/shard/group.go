// Package shard runs Raft groups: one instance of hashicorp/raft for each shard that this node has a
// replica of, over one shared transport.
//
// It owns the groups' logs (Logs), their snapshot records and the order in which commands reach the
// state machine. Invariants:
//
//  1. A proposal is answered only after a majority of the voters has fsynced it and this
//     leader has applied it.
//  2. A command is applied once, however often it is proposed: its request id is kept in the
//     state machine's own store, in the same batch.
//  3. A read index is given only by a node that was still the leader after the request for it
//     arrived: a majority of voters said so, in answers to a question asked later (Ongaro, "Consensus:
//     bridging theory and practice", section 6.4). No clock is involved.
//  4. A crash leaves the log and a state that is some prefix of it; the missing entries are
//     applied again at start.
package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"golang.org/x/sync/singleflight"

	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
	"hongyan/engine/durable"
	"hongyan/engine/index"
)

// Timers of a group. Raft's are a wide net: they work when the survivors of a lost node do not agree on an election themselves (takeover.go),
// and idle shards pay for them all the time. The lease leaves room for a quorum that is 160 ms away
// (research/engine.md 1.7: lease ≥ round trip + heartbeat/5 + 50 %).
//
// commitTimeout is when raft tries again after a failure, and finds out about one, so it stays short; what it sends on an idle
// shard is not put on the wire by our transport, which spreads commits too.
const (
	heartbeatTimeout = 3 * time.Second
	leaderLease      = 2700 * time.Millisecond
	commitTimeout    = time.Second
	officePause      = 50 * time.Millisecond // before a new leader's barrier is tried again
	proposeEnqueue   = 10 * time.Second
	resignTimeout    = 500 * time.Millisecond
)

// Sizes of the log. A follower that was away for more than trailingLogs entries gets a snapshot.
const (
	maxAppendEntries  = 128
	snapshotThreshold = 4096
	trailingLogs      = 8192
	freshLog          = 512             // commands that a replica without any state may be given in place of the state
	snapshotInterval  = 5 * time.Second // how often raft looks whether there is enough for one
)

// Config describes this node's replica of one group.
type Config struct {
	Group     placement.Group // its home, and the members that a new group begins with; those that it has are in its log
	Founds    bool            // the group is new: a replica without log and snapshot begins one, instead of waiting for the leader's
	Joins     bool            // the replica is made for a group that lives
	Self      string
	Region    func(node string) string // where a node is
	Dir       string                   // holds the snapshot record
	Logs      *Logs                    // of all groups of this node; closed by its owner
	Transport raft.Transport
	Peers     Peers
	Store     *index.Shard
	Machine   Machine
	Log       *slog.Logger
}

// Peers asks other nodes and says how they do; package transport has it.
type Peers interface {
	Up(node string) bool
	RTT(node string) (time.Duration, bool)
	InDoubt(node string) bool
	Doubted(node string) <-chan struct{}
	Call(ctx context.Context, node, method string, req, resp any) error
	CallSound(ctx context.Context, node, method string, req, resp any) error
}

// Group is this node's replica of one shard.
type Group struct {
	cfg  Config
	raft *raft.Raft
	log  *groupLog
	fsm  *fsm

	snaps *snapshotStore

	home  atomic.Pointer[string]
	known atomic.Pointer[roster] // made last

	changing  sync.Mutex         // held while the membership is changed
	summaries singleflight.Group // snapshots for new replicas
	regions   atomic.Uint64      // counts RegionsChanged
	unfilled  atomic.Bool        // it joined, and has not had all that the leader had
	floor     position           // of what an erased replica had here; zero when there was none
	above     atomic.Bool        // the log is past floor
	started   atomic.Bool        // raft is set
	end       sync.Once

	leading   atomic.Bool   // so raft said last: followers are told of commits
	leaders   leaders       // that raft has come to know
	ready     atomic.Uint64 // the term in which this leader has applied all that came before it
	office    atomic.Pointer[office]
	rounds    rounds          // shared read index rounds
	proposals proposals       // that wait for their entry
	ctx       context.Context // ends with Stop
	stop      context.CancelFunc
	workers   sync.WaitGroup
	watch     watch // kept over the group by its host
	calm      calm
	closed    chan struct{} // raft has shut down

	began     beginning                 // set by open
	lapseTold atomic.Pointer[time.Time] // when a node was last told that it lacks what it acknowledged
}

// Start opens or creates the replica. A new one of a new group begins with the group's full membership, which is the
// same on every node; the first election follows by itself. A *LostError means that Recover has to come first.
func Start(cfg Config) (*Group, error) {
	g := &Group{cfg: cfg, closed: make(chan struct{})}
	g.SetHome(cfg.Group.Home)
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("start shard %d in %s: %w", cfg.Group.Shard, cfg.Dir, err)
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.workers.Go(func() { g.followLeadership(g.ctx) })
	return g, nil
}

func (g *Group) open() (err error) {
	fs := g.cfg.Logs.fs
	if err := fs.MkdirAll(g.cfg.Dir, 0o700); err != nil {
		return err
	}
	g.log = g.cfg.Logs.group(g.Shard())
	snaps, err := openSnapshots(g.cfg.Logs.key.FS(fs), filepath.Join(g.cfg.Dir, snapshotDir), g.Shard(), g.cfg.Store, g.log)
	if err != nil {
		return err
	}
	if err := g.readMarks(fs); err != nil {
		return err
	}
	if err := syncNames(fs, g.cfg.Dir); err != nil {
		return err
	}
	if g.fsm, err = newFSM(g.cfg.Store, g.cfg.Machine, snaps, g.cfg.Log.With("shard", g.Shard())); err != nil {
		return err
	}
	return g.openRaft(snaps)
}

// syncNames makes sure that a power cut leaves the group's files where they are: bolt syncs only what is in its file. The
// group's folder lies in one for all groups, and that in the node's.
func syncNames(fs vfs.FS, dir string) error {
	for range 3 {
		if err := durable.SyncDir(fs, dir); err != nil {
			return err
		}
		dir = fs.PathDir(dir)
	}
	return nil
}

func (g *Group) openRaft(snaps *snapshotStore) error {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(g.cfg.Self)
	conf.HeartbeatTimeout = heartbeatTimeout
	conf.ElectionTimeout = heartbeatTimeout
	conf.LeaderLeaseTimeout = leaderLease
	conf.CommitTimeout = commitTimeout
	conf.MaxAppendEntries = maxAppendEntries
	conf.BatchApplyCh = false // proposals that wait share a batch anyway; those in a channel's buffer raft would forget when it shuts down
	conf.SnapshotInterval = snapshotInterval
	conf.SnapshotThreshold = snapshotThreshold
	conf.TrailingLogs = trailingLogs
	conf.NoSnapshotRestoreOnStart = true
	conf.NoLegacyTelemetry = true
	conf.ShutdownOnRemove = false // Remove ends a replica, once it is certain
	conf.Logger = newRaftLogger(g.cfg.Log)
	if err := g.found(snaps); err != nil {
		return fmt.Errorf("write the first membership: %w", err)
	}
	if t, ok := g.cfg.Transport.(guarded); ok && g.floor.index > 0 {
		t.Guard(g.mayVote)
	}
	if t, ok := g.cfg.Transport.(spreader); ok {
		g.fsm.spread = func(index uint64) {
			if g.leading.Load() {
				t.Committed(index)
			}
		}
	}
	if t, ok := g.cfg.Transport.(aheadSender); ok {
		g.log.ahead = func(entries []*raft.Log) { g.sendAhead(t, entries) }
	}
	full, ok := g.cfg.Transport.(fullTransport)
	if !ok {
		return errors.New("start raft: the transport cannot ask for pre-votes, or cannot be closed")
	}
	through := &beats{fullTransport: full}
	if err := g.begin(snaps); err != nil {
		return err
	}
	var err error
	g.snaps = snaps
	g.raft, err = raft.NewRaft(conf, g.fsm, &stateFirst{g.log, snaps}, g.log, snaps, through)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	through.raft.Store(g.raft)
	g.started.Store(true)
	g.leaders.watch(g.raft)
	return nil
}

// found begins a new group's log with its membership. raft.BootstrapCluster does the same in two steps, and refuses to take the second
// after a crash between them; here the entry, the same on every node, is written whenever there is neither log nor snapshot. A replica
// that joins gets both from the leader.
func (g *Group) found(snaps *snapshotStore) error {
	if !g.cfg.Founds {
		return nil
	}
	last, err := g.log.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	term := []byte("CurrentTerm") // raft's name for it
	if _, err := g.log.Get(term); errors.Is(err, raftboltdb.ErrKeyNotFound) {
		err = g.log.SetUint64(term, 1)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if snaps.current != nil { // it begins with a state
		return nil
	}
	entry := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(membership(g.cfg.Group))}
	return g.log.StoreLog(entry)
}

// spreader is the part of our transport that tells followers of a commit at once.
type spreader interface{ Committed(index uint64) }

// aheadSender is the part of our transport that sends followers what their leader is about to store.
type aheadSender interface {
	Ahead(before *raft.Log, committed uint64, entries []*raft.Log)
}

// sendAhead is called by raft's main loop, which stores entries as a leader or as a follower, and is the only one to change that.
func (g *Group) sendAhead(t aheadSender, entries []*raft.Log) {
	if !g.started.Load() || g.raft.State() != raft.Leader || entries[0].Term != g.raft.CurrentTerm() {
		return
	}
	var before raft.Log
	if g.log.GetLog(entries[0].Index-1, &before) == nil { // else raft will see
		t.Ahead(&before, g.raft.CommitIndex(), entries)
	}
}

func membership(g placement.Group) raft.Configuration {
	var c raft.Configuration
	add := func(ids []string, s raft.ServerSuffrage) {
		for _, id := range ids {
			c.Servers = append(c.Servers, raft.Server{Suffrage: s, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
	}
	add(g.Voters, raft.Voter)
	add(g.Learners, raft.Nonvoter)
	return c
}

// Shard is the group's number.
func (g *Group) Shard() uint32 { return g.cfg.Group.Shard }

// Leader is the node that this replica believes to lead, or "".
func (g *Group) Leader() string {
	_, id := g.raft.LeaderWithID()
	return string(id)
}

// IsLeader says whether this replica leads and has applied all earlier terms.
func (g *Group) IsLeader() bool {
	return g.raft.State() == raft.Leader && g.ready.Load() == g.raft.CurrentTerm()
}

// Applied is the last entry that this replica's state holds.
func (g *Group) Applied() uint64 { return g.fsm.applied.Load() }

// Err is why this replica no longer applies entries, or nil.
func (g *Group) Err() error { return g.fsm.failure() }

// WaitApplied returns once the state holds index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	if err := g.fsm.wait(ctx, index); err != nil {
		return wire.Errorf(wire.Unavailable, "shard %d: wait for entry %d, at %d: %v", g.Shard(), index, g.Applied(), err)
	}
	return nil
}

// await waits for a future of raft's, which forgets some of them when it shuts down.
func (g *Group) await(ctx context.Context, f raft.Future) error {
	settled := make(chan error, 1)
	go func() { settled <- f.Error() }()
	select {
	case err := <-settled:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.closed:
		return raft.ErrRaftShutdown
	}
}

func (g *Group) notLeader() error {
	hint := g.Leader()
	if hint == g.cfg.Self || hint != "" && g.cfg.Peers.InDoubt(hint) {
		hint = "" // on its way in or out of office, or lost from here
	}
	return &wire.Error{Code: wire.NotLeader, Message: fmt.Sprintf("shard %d is not led by %s", g.Shard(), g.cfg.Self), Hint: hint}
}

// followLeadership makes a new leader ready: it may answer reads once a barrier of its own term is applied. And it has one whose store fails
// give up its office at once.
func (g *Group) followLeadership(ctx context.Context) {
	for stopped := g.fsm.stopped; ; {
		select {
		case <-ctx.Done():
			return
		case <-stopped:
			stopped = nil
			g.look(time.Now())
		case leads := <-g.raft.LeaderCh():
			g.leading.Store(leads)
			if leads {
				g.takeOffice(ctx)
			}
		}
	}
}

func (g *Group) takeOffice(ctx context.Context) {
	for g.raft.State() == raft.Leader && ctx.Err() == nil {
		term := g.raft.CurrentTerm()
		if err := g.await(ctx, g.raft.Barrier(time.Second)); err == nil && g.raft.CurrentTerm() == term {
			g.office.Store(&office{term, time.Now()})
			g.ready.Store(term)
			g.cfg.Log.Info("leads", "shard", g.Shard(), "term", term)
			return
		}
		select {
		case <-time.After(officePause):
		case <-ctx.Done():
		}
	}
}

// Stop hands leadership over if this replica has it and another voter is not in doubt, and ends.
func (g *Group) Stop() (err error) {
	g.end.Do(func() { err = g.shutDown() })
	return err
}

func (g *Group) shutDown() error {
	g.stop()
	g.watch.end()
	g.workers.Wait()
	g.resign()
	down := g.raft.Shutdown()
	var errNet error
	if t, ok := g.cfg.Transport.(raft.WithClose); ok {
		errNet = t.Close() // requests that wait for a peer would hold up raft's end
	}
	err := errors.Join(down.Error(), errNet)
	close(g.closed)
	if err != nil {
		return fmt.Errorf("stop shard %d: %w", g.Shard(), err)
	}
	return nil
}

// resign spares the others an election, if that is quick: with no majority left raft would try for long.
func (g *Group) resign() {
	heir := slices.ContainsFunc(g.roster().Voters, func(v string) bool { return v != g.cfg.Self && !g.cfg.Peers.InDoubt(v) })
	if g.raft.State() != raft.Leader || !heir {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if err := g.await(ctx, g.raft.LeadershipTransfer()); err != nil {
		g.cfg.Log.Info("leadership was not handed over before the stop", "shard", g.Shard(), "err", err)
	}
}

// View is a consistent view of this replica's state. Close it.
func (g *Group) View() *index.View { return g.cfg.Store.View() }

// Save writes the whole state as of now and says which entry that is of.
func (g *Group) Save(w io.Writer) (applied uint64, err error) { return g.cfg.Store.Save(w) }
