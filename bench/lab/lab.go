// Package lab runs a cluster of real node processes on one machine, for development and for the bench suite.
//
// One supervisor per folder, held by a lock on DIR/dev.lock, owns the folder's layout, its certificates, the child
// processes and the files that describe them:
//
//	DIR/lab.json       its nodes: those that it was founded with, and which came and went since (see roster)
//	DIR/ca.pem, …      certificate authority, and DIR/server.pem, .key, the certificate that mail clients see
//	DIR/master.key     master keys that wrap what the nodes encrypt; all share them here
//	DIR/admin.token    the admin API's token; nodes know its SHA-256 only
//	DIR/cluster.json   how to reach a cluster that runs and is ready (see Cluster); absent at any other time
//	DIR/dev.sock       control socket of the running supervisor
//	DIR/NODE.img       the file system that DIR/NODE is, if the nodes have disks of their own
//	DIR/NODE/          node.yaml, node.pem, node.key, node.log and the node's data
//
// Invariants: a node is a process of its own and learns nothing about the lab but what its file says. No child
// outlives its supervisor, however that ends. cluster.json appears only once every node serves and the
// accounts exist (but for nodes whose disk was wiped, which an operator is to replace), always whole, and names the processes that run now.
//
// A crash of the supervisor leaves the folder as it is and a cluster.json that no longer holds; the next start removes it. A node that was
// being added or removed then stands in lab.json as such, does not run, and is added or removed when that is asked for again.
package lab

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/bench/relay"
	"hongyan/cluster/pki"
	"hongyan/engine/keys"
)

// Options say what to run.
type Options struct {
	Dir      string // made when missing
	PortBase int
	Accounts int // how many there are at least
	Restart  Restart
	Regions  []Region
	WAN      WAN
	NoRelay  bool // nodes dial one another: no cuts, no delays
	// Settle is how old an open volume becomes, and how long it then takes to turn cold; whole seconds, 0 for the lab's own times.
	Settle time.Duration
	// Program is what nodes run, until they are started with another one; "" is the supervisor's own.
	Program string

	DiskSize   int64 // bytes of each node's own file system; 0: as an earlier start made it, or none
	DiskFaults bool  // fsyncs can be made to fail, at the price of a tenth of a millisecond each

	Log   *slog.Logger
	Ready func(*Cluster) // called once, when cluster.json has appeared
}

// Bounds of waiting. A cluster that stops may take stopAll, since scripts wait about half a minute.
const (
	stopOne   = 8 * time.Second
	stopAll   = 25 * time.Second
	startWait = 60 * time.Second
	pollEvery = 50 * time.Millisecond
	portsFree = 5 * time.Second
)

type supervisor struct {
	o     Options
	api   *api
	token string
	net   *relay.Network
	spawn *spawner

	ctx  context.Context // of what outlasts an order
	work sync.WaitGroup  // the same

	// Locks in the order in which they are taken.
	growing  sync.Mutex   // held by whoever adds or removes a node
	broken   sync.RWMutex // held to write while file systems are pulled from under processes, which nobody starts meanwhile
	changing sync.Mutex   // held to replace the crew, and guards ending
	ending   bool         // processes are being stopped for good
	crew     atomic.Pointer[crew]

	mu       sync.Mutex // guards what follows, and orders the writes of cluster.json
	accounts []Account
	shown    bool
}

// Run starts the cluster of o.Dir and keeps it until a signal comes: the first stops the nodes in order, a second one
// kills them. An error means that the cluster could not be started or kept.
//
// Steps: 1 take the folder's lock, 2 settle the plan, 3 mount disks, open the relays, write keys and node files, 4 open the control socket, 5 start
// the nodes, 6 wait until all serve and the accounts exist, 7 publish cluster.json, 8 wait, 9 undo 7, 5, 4, 1.
func Run(o Options, signals <-chan os.Signal) (err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder of the cluster: %w", err)
	}
	if o.Dir, err = realDir(o.Dir); err != nil {
		return err
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s := &supervisor{o: o, net: relay.New(o.Log)}
	s.crew.Store(new(crew))
	defer func() { err = errors.Join(err, s.net.Close(), s.crew.Load().disks.unmount()) }()
	if err := s.prepare(); err != nil {
		return err
	}
	s.spawn = newSpawner()
	defer s.spawn.close()
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.Background())
	defer func() {
		cancel()
		s.work.Wait()
		for _, p := range s.crew.Load().procs {
			p.close()
		}
	}()
	for _, n := range s.crew.Load().plan.nodes {
		if _, err := s.join(n); err != nil {
			return err
		}
	}
	ctl, err := s.listenControl()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ctl.close()) }()
	return s.run(signals)
}

// realDir is the one name under which every command knows the folder.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("find folder %s: %w", dir, err)
	}
	return abs, nil
}

// prepare is steps 2 and 3: what can be wrong with the folder or the ports is found before anything starts. Nobody else sees the crew yet.
func (s *supervisor) prepare() error {
	if err := removeCluster(s.o.Dir); err != nil {
		return err
	}
	plan, err := settle(s.o.Dir, s.o.Regions, s.o.PortBase)
	if err != nil {
		return err
	}
	s.crew.Load().plan = plan
	s.sayWhatIsOdd(plan)
	plan.hurry = int64(s.o.Settle / time.Second)
	if err := plan.waitPorts(portsFree); err != nil {
		return err
	}
	if s.crew.Load().disks, err = plan.mountDisks(s.o.DiskSize); err != nil {
		return err
	}
	if err := s.openLinks(plan, plan.pairs(plan.nodes, plan.nodes)); err != nil {
		return err
	}
	if s.token, err = adminToken(filepath.Join(s.o.Dir, "admin.token")); err != nil {
		return err
	}
	if s.api, err = newAPI(s.token); err != nil {
		return err
	}
	if err := s.writeKeys(plan.nodes); err != nil {
		return err
	}
	return s.writeFiles()
}

// sayWhatIsOdd speaks of what is no mistake for certain.
func (s *supervisor) sayWhatIsOdd(p *plan) {
	for _, seat := range p.roster.Nodes {
		switch seat.Half {
		case halfAdded:
			s.o.Log.Warn("this node was being added and does not run", "node", seat.ID, "go_on", "hongyan dev add "+seat.Region, "give_up", "hongyan dev remove "+seat.ID)
		case halfRemoved:
			s.o.Log.Warn("this node was being removed and does not run", "node", seat.ID, "go_on", "hongyan dev remove "+seat.ID)
		}
	}
	for _, t := range s.o.WAN {
		for _, region := range []string{t.A, t.B} {
			if !slices.ContainsFunc(p.nodes, func(n node) bool { return n.Region == region }) {
				s.o.Log.Info("--wan names a region that has no nodes yet", "region", region)
			}
		}
	}
}

// writeFiles makes the nodes' configurations what the plan says. The nodes that run read the addresses of others in theirs again when
// the cluster's members change.
func (s *supervisor) writeFiles() error {
	s.broken.Lock()
	defer s.broken.Unlock()
	c := s.crew.Load()
	sum := sha256.Sum256([]byte(s.token))
	for _, n := range c.plan.nodes {
		if err := c.plan.config(n, hex.EncodeToString(sum[:])).Write(n.configFile()); err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	return c.disks.sync()
}

func (s *supervisor) writeKeys(nodes []node) error {
	ca, err := pki.EnsureCA(s.o.Dir)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return fmt.Errorf("make folder of node %s: %w", n.ID, err)
		}
		if err := ca.EnsureNode(n.ID, filepath.Join(n.dir, "node.pem"), filepath.Join(n.dir, "node.key")); err != nil {
			return err
		}
	}
	if err := keys.CreateKeyFile(vfs.Default, filepath.Join(s.o.Dir, masterKeyFile)); err != nil {
		return fmt.Errorf("make the master key: %w", err)
	}
	names := []string{Domain, "*." + Domain}
	return ca.EnsureServer(names, nil, filepath.Join(s.o.Dir, "server.pem"), filepath.Join(s.o.Dir, "server.key"))
}

// adminToken reads the token, or makes one of 32 random bytes.
func adminToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) >= 32 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make admin token: %w", err)
	}
	token := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("save admin token: %w", err)
	}
	return token, nil
}

// run is steps 5 to 9. When it returns, no node runs.
func (s *supervisor) run(signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- s.bringUp(ctx) }()
	var err error
	select {
	case err = <-up:
		if err == nil {
			s.stopping(<-signals)
		}
	case sig := <-signals:
		s.stopping(sig)
		cancel()
		<-up // cut short: what it says no longer matters
	}
	err = errors.Join(err, s.unpublish())
	s.stopNodes(signals)
	return err
}

func (s *supervisor) stopping(sig os.Signal) {
	s.o.Log.Info("stopping all nodes", "signal", sig.String())
}

// stopNodes ends every process for good: in order and gently, or all at once after a second signal or too long a wait.
func (s *supervisor) stopNodes(signals <-chan os.Signal) {
	stopped, procs := make(chan struct{}), s.end()
	go func() {
		defer close(stopped)
		for _, p := range procs {
			_ = p.do(verbEnd) // the only error is that it does not run, which is what is wanted
		}
	}()
	select {
	case <-stopped:
	case sig := <-signals:
		s.o.Log.Warn("killing all nodes", "signal", sig.String())
		killAll(procs)
	case <-time.After(stopAll):
		s.o.Log.Warn("killing nodes that did not stop", "waited", stopAll.String())
		killAll(procs)
	}
	<-stopped
}

func killAll(procs []*process) {
	for _, p := range procs {
		_ = p.do(verbKill) // the only error is that it does not run, which is what is wanted
	}
}

// setFounded notes that there is a cluster, and tells the nodes for their next start.
func (s *supervisor) setFounded() error {
	if s.crew.Load().plan.roster.Founded {
		return nil
	}
	err := s.change(func(c *crew) error {
		c.plan.roster.Founded = true
		return nil
	})
	if err != nil {
		return err
	}
	return s.writeFiles()
}

// bringUp is steps 5 to 7.
func (s *supervisor) bringUp(ctx context.Context) error {
	begin := time.Now()
	procs := s.crew.Load().procs
	for _, p := range procs {
		if err := p.do(verbStart); err != nil {
			return err
		}
	}
	for _, p := range procs {
		_, err := s.awaitStarted(ctx, p, true)
		if _, gone := s.crew.Load().process(p.node.ID); gone != nil {
			continue // the cluster had removed it, and now the lab has too
		}
		if err != nil {
			return err
		}
	}
	c := s.crew.Load()
	accounts, err := s.api.ensureAccounts(ctx, c.urls(""), c.plan.nodes[0].Region, s.o.Accounts)
	if err != nil {
		return fmt.Errorf("make accounts: %w", err)
	}
	if err := s.setFounded(); err != nil {
		return err
	}
	s.mu.Lock()
	s.accounts, s.shown = accounts, true
	s.mu.Unlock()
	if err := s.publish(); err != nil {
		return err
	}
	s.o.Log.Info("cluster is ready", "nodes", len(c.procs), "accounts", len(accounts), "took", time.Since(begin).Round(time.Millisecond).String())
	if s.o.Ready != nil {
		s.o.Ready(s.describe())
	}
	return nil
}

// awaitStarted returns when a node that was started serves. Of one that was wiped it returns when the node answers at all, with a word about that: to make
// its data anew may take long.
func (s *supervisor) awaitStarted(ctx context.Context, p *process, first bool) (note string, err error) {
	if !s.crew.Load().wiped(p.node.ID) {
		return "", s.awaitReady(ctx, p, first)
	}
	if err := s.await(ctx, p, first, s.api.answers); err != nil {
		return "", err
	}
	s.work.Go(func() { s.watchWiped(p) })
	s.o.Log.Warn("node runs with an empty disk, its data is made anew", "node", p.node.ID)
	return fmt.Sprintf("%s runs with an empty disk: its data is made anew from the others, `hongyan admin node list` shows how far it is", p.node.ID), nil
}

// awaitReady polls until the node's /readyz says yes.
func (s *supervisor) awaitReady(ctx context.Context, p *process, first bool) error {
	return s.await(ctx, p, first, s.api.ready)
}

// await polls until the node gives an answer with nothing against it. It gives up when the node has died and stays down.
// At a node's or the cluster's first start it also gives up on a node that keeps dying.
func (s *supervisor) await(ctx context.Context, p *process, first bool, ask func(ctx context.Context, base string) (why string)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said, heard, deaths := time.Now(), "nothing", p.status().Restarts
	for {
		why := ask(ctx, p.node.http())
		if why == "" {
			return nil
		}
		if ctx.Err() != nil { // and why says no more than that
			return fmt.Errorf("wait for node %s: %w; last heard: %s", p.node.ID, ctx.Err(), heard)
		}
		heard = why
		st := p.status()
		if st.State == stateDown || first && st.Restarts >= deaths+5 {
			return fmt.Errorf("node %s ended before it was ready: %s; see %s", p.node.ID, st.LastExit, p.node.logFile())
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			s.o.Log.Info("waiting for node", "node", p.node.ID, "reason", why)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
