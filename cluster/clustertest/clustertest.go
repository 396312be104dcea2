// Package clustertest runs a whole cluster inside a test: real nodes with real files and sockets, in one
// process. What needs a process of its own to die is tested with bench/lab instead.
package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/config"
	"hongyan/cluster/feature"
	"hongyan/cluster/mover"
	"hongyan/cluster/pki"
	"hongyan/engine/keys"
)

// Password is every account's.
const Password = "secret"

// Domain is local; its home is the first node's region.
const Domain = "example.test"

// Cluster is a running cluster. Its nodes end with the test.
type Cluster struct {
	Configs []*config.Node
	Nodes   []*cluster.Node // nil while stopped
	events  events
	log     *slog.Logger
	dir     string
	ca      *pki.CA
}

// Spec describes a node of a test's cluster.
type Spec struct {
	Region string
	Roles  []config.Role
	Early  bool               // enter messages early, near as the nodes are
	Tune   func(*config.Node) // changes the configuration; may be nil
}

// Start runs one node with all roles in each region and waits until all are ready.
func Start(t testing.TB, regions ...string) *Cluster {
	t.Helper()
	specs := make([]Spec, len(regions))
	for i, r := range regions {
		specs[i] = Spec{Region: r, Roles: []config.Role{config.Storage, config.Frontend}}
	}
	return StartNodes(t, specs...)
}

// Indexed is a node with all roles that indexes texts, which others of a test's cluster do not: that costs more than most of what is tested.
func Indexed(region string) Spec {
	return Spec{Region: region, Roles: []config.Role{config.Storage, config.Frontend}, Tune: func(n *config.Node) { n.FullText.Off = false }}
}

// Frontend is a node that keeps nothing.
func Frontend(region string) Spec { return Spec{Region: region, Roles: []config.Role{config.Frontend}} }

// StartNodes runs the nodes that are described, the first one with storage, and waits until all are ready.
func StartNodes(t testing.TB, specs ...Spec) *Cluster {
	t.Helper()
	c := &Cluster{events: newEvents()}
	c.log = slog.New(c.events)
	dir := t.TempDir()
	ca, err := pki.EnsureCA(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	c.dir, c.ca = dir, ca
	for i, spec := range specs {
		c.Configs = append(c.Configs, c.configure(t, fmt.Sprintf("%s-%d", spec.Region, i+1), spec))
	}
	for _, n := range c.Configs {
		for _, p := range c.Configs {
			if p != n {
				n.Peers = append(n.Peers, config.Peer{ID: p.ID, Region: p.Region, Roles: p.Roles, RPC: p.RPC.Listen})
			}
		}
	}
	c.Nodes = make([]*cluster.Node, len(c.Configs))
	for i := range c.Configs {
		c.StartNode(t, i)
	}
	t.Cleanup(func() {
		for i := range c.Nodes {
			c.StopNode(t, i)
		}
	})
	c.WaitReady(t)
	Eventually(t, 30*time.Second, c.newestLevel, func() string { return "every node is at the newest feature level" })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Nodes[0].AddDomain(ctx, Domain, specs[0].Region); err != nil {
		t.Fatal(err)
	}
	return c
}

// configure makes the folder, the keys and the configuration of a node, without peers.
func (c *Cluster) configure(t testing.TB, id string, spec Spec) *config.Node {
	t.Helper()
	data := filepath.Join(c.dir, id)
	cert, key := filepath.Join(c.dir, id+".pem"), filepath.Join(c.dir, id+".key")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.ca.EnsureNode(id, cert, key); err != nil {
		t.Fatal(err)
	}
	master := filepath.Join(c.dir, id+".master.key") // of its own, as nodes should have
	if err := keys.CreateKeyFile(vfs.Default, master); err != nil {
		t.Fatal(err)
	}
	early := time.Duration(0)
	if spec.Early {
		early = -1
	}
	n := &config.Node{
		ID: id, Region: spec.Region, Roles: spec.Roles, Hostname: id, Data: data,
		Encryption: &config.Encryption{MasterKeyFile: master},
		RPC:        config.RPC{Listen: freeAddress(t)},
		TLS:        config.NodeTLS{CA: filepath.Join(c.dir, "ca", "ca.pem"), Cert: cert, Key: key},
		EarlyFrom:  early,
		Slots:      1 << 10,
		Shards:     4, MaxMessageBytes: config.DefaultMaxMessage, DiskReserveBytes: 1 << 20,
		Compaction: config.Compaction{IntervalSeconds: 1, GraceSeconds: 1, CloseSeconds: 3600, GarbagePercent: 30, BytesPerSecond: 64 << 20},
		Placement:  config.Placement{LostAfterSeconds: 3600},
		FullText:   config.FullText{Off: true, BytesPerSecond: config.DefaultFullTextRate},
		Checkpoint: config.Checkpoint{IntervalSeconds: config.DefaultCheckpointSeconds, Changes: config.DefaultCheckpointChanges, BytesPerSecond: config.DefaultCheckpointRate},
	}
	if spec.Tune != nil {
		spec.Tune(n)
	}
	return n
}

// Join lets another node into the cluster and starts it. It knows the first node only.
func (c *Cluster) Join(t testing.TB, id string, spec Spec) (i int) {
	t.Helper()
	n := c.configure(t, id, spec)
	first := c.Configs[0]
	n.Join, n.Peers = true, []config.Peer{{ID: first.ID, Region: first.Region, Roles: first.Roles, RPC: first.RPC.Listen}}
	c.Configs, c.Nodes = append(c.Configs, n), append(c.Nodes, nil)
	i = len(c.Configs) - 1
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var roles []string
	for _, r := range spec.Roles {
		roles = append(roles, string(r))
	}
	err := c.Nodes[0].AddNode(ctx, mover.NewNode{ID: id, Region: spec.Region, Address: n.RPC.Listen, Roles: roles, Weight: 10})
	if err != nil {
		t.Fatal(err)
	}
	c.StartNode(t, i)
	return i
}

// events counts log events by message, and passes them to standard error when HONGYAN_TEST_LOG is set: a
// cluster talks a lot.
type events struct {
	slog.Handler
	*counts
}

type counts struct {
	shown bool

	mu sync.Mutex // guards n
	n  map[string]int
}

func newEvents() events {
	h := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})
	return events{h, &counts{shown: os.Getenv("HONGYAN_TEST_LOG") != "", n: make(map[string]int)}}
}

// Handle implements slog.Handler.
func (e events) Handle(ctx context.Context, r slog.Record) error {
	e.mu.Lock()
	e.n[r.Message]++
	e.mu.Unlock()
	if !e.shown {
		return nil
	}
	return e.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (e events) WithAttrs(attrs []slog.Attr) slog.Handler {
	return events{e.Handler.WithAttrs(attrs), e.counts}
}

// Logged counts the events with this message, of all nodes.
func (c *Cluster) Logged(message string) int {
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	return c.events.n[message]
}

// freeAddress finds a loopback port that nobody uses now.
func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// StartNode starts a node that is stopped.
func (c *Cluster) StartNode(t testing.TB, i int) {
	t.Helper()
	if err := c.TryStartNode(i); err != nil {
		t.Fatal(err)
	}
}

// TryStartNode starts a node that perhaps cannot be started.
func (c *Cluster) TryStartNode(i int) (err error) {
	n, err := cluster.Start(c.Configs[i], c.log.With("node", c.Configs[i].ID))
	if err == nil {
		c.Nodes[i] = n
	}
	return err
}

// StopNode stops a node in good order.
func (c *Cluster) StopNode(t testing.TB, i int) {
	t.Helper()
	if c.Nodes[i] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Nodes[i].Stop(ctx); err != nil {
		t.Errorf("stop %s: %v", c.Configs[i].ID, err)
	}
	c.Nodes[i] = nil
}

// WaitReady returns once every running node is ready.
func (c *Cluster) WaitReady(t testing.TB) {
	t.Helper()
	var why []string
	Eventually(t, 30*time.Second, func() bool {
		why = why[:0]
		for _, n := range c.Nodes {
			if n != nil {
				why = append(why, n.Ready()...)
			}
		}
		return len(why) == 0
	}, func() string { return strings.Join(why, "; ") })
}

// newestLevel says that every running node knows the cluster to be at the newest feature level.
func (c *Cluster) newestLevel() bool {
	for _, n := range c.Nodes {
		if n != nil && n.Level() < feature.Newest() {
			return false
		}
	}
	return true
}

// Eventually waits for a condition; saying what it waits for is the caller's.
func Eventually(t testing.TB, limit time.Duration, ok func() bool, why func() string) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, why())
		}
	}
}

// Account makes an account with Password and returns it.
func (c *Cluster) Account(t testing.TB, local string) client.Account {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	address := local + "@" + Domain
	if _, err := c.Nodes[0].AddAccount(ctx, client.NewAccount{Address: address, Password: Password}); err != nil {
		t.Fatal(err)
	}
	a, err := c.Nodes[0].Client().Resolve(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
