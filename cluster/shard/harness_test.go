package shard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/cluster/placement"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
	"hongyan/engine/atrest"
	"hongyan/engine/index"
)

const testShard = 1

// tally is a Machine that counts: a body is a name, its result how often that name was applied. Names that begin with
// "large" have a result that nobody can keep, "refused" one that says no; "heavy" ones write two megabytes.
type tally struct {
	fails     atomic.Bool  // the store fails, as a broken disk would make it
	failsAt   atomic.Value // the same for one name
	committed atomic.Int64
	reloaded  atomic.Int64
	gate      atomic.Pointer[chan struct{}] // commands wait until it is closed
}

// close has commands wait until the channel that it returns is closed.
func (m *tally) close() chan struct{} {
	gate := make(chan struct{})
	m.gate.Store(&gate)
	return gate
}

var errDisk = errors.New("the disk is broken")

func (m *tally) Apply(t *index.Txn, _ int64, body []byte) ([]byte, error) {
	if gate := m.gate.Load(); gate != nil {
		<-*gate
	}
	if m.fails.Load() || m.failsAt.Load() == string(body) {
		return nil, errDisk
	}
	old, _, err := t.Get(body)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.AppendUint64(nil, count(old)+1)
	switch name := string(body); {
	case strings.HasPrefix(name, "refused"):
		return []byte("no"), nil
	case strings.HasPrefix(name, "heavy"):
		return n, t.Put(body, make([]byte, 2<<20))
	case strings.HasPrefix(name, "large"):
		return make([]byte, index.MaxResultBytes+1), t.Put(body, n)
	}
	return n, t.Put(body, n)
}

func (m *tally) Committed() { m.committed.Add(1) }
func (m *tally) Reloaded()  { m.reloaded.Add(1) }

func count(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func openIndex(t testing.TB, fs vfs.FS) *index.DB {
	t.Helper()
	db, err := index.Open(fs, "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// stored is how often a name was applied to a store.
func stored(t testing.TB, s *index.Shard, name string) uint64 {
	t.Helper()
	n, err := lookUp(s, name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func lookUp(s *index.Shard, name string) (uint64, error) {
	v := s.View()
	b, _, err := v.Get([]byte(name))
	return count(b), errors.Join(err, v.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// member is one node with its replica of the test's shard, on real sockets and real files but for the index, which is in memory.
type member struct {
	id      string
	net     *transport.Net
	host    *Host
	router  *Router
	db      *index.DB
	machine *tally
	peers   *hookedPeers
	cfg     Config
	group   *Group // nil while stopped
	full    atomic.Bool
}

// disk fails the index's writes while the disk is full.
func (m *member) disk(op errorfs.Op) error {
	if m.full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		return syscall.ENOSPC
	}
	return nil
}

// hookedPeers lets a test see what a node asks of others, answer in their place, and lose their replies.
type hookedPeers struct {
	Peers
	calls atomic.Int64

	mu    sync.Mutex                      // guards the rest
	hook  func(node, method string) error // an error is the answer
	loses func(node, method string) bool  // the call is made, its reply does not arrive
	doubt string                          // a node that this one doubts whatever is known of it
}

func (p *hookedPeers) doubts(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt = node
}

func (p *hookedPeers) InDoubt(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return node == p.doubt || p.Peers.InDoubt(node)
}

func (p *hookedPeers) set(hook func(node, method string) error, loses func(node, method string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook, p.loses = hook, loses
}

func (p *hookedPeers) Call(ctx context.Context, node, method string, req, resp any) error {
	return p.call(ctx, p.Peers.Call, node, method, req, resp)
}

func (p *hookedPeers) CallSound(ctx context.Context, node, method string, req, resp any) error {
	return p.call(ctx, p.Peers.CallSound, node, method, req, resp)
}

func (p *hookedPeers) call(ctx context.Context, call func(ctx context.Context, node, method string, req, resp any) error, node, method string, req, resp any) error {
	p.calls.Add(1)
	p.mu.Lock()
	hook, loses := p.hook, p.loses
	p.mu.Unlock()
	if hook != nil {
		if err := hook(node, method); err != nil {
			return err
		}
	}
	err := call(ctx, node, method, req, resp)
	if err == nil && loses != nil && loses(node, method) {
		return wire.Errorf(wire.Unavailable, "the reply was lost")
	}
	return err
}

// homeOf places some nodes at home and all others elsewhere.
func homeOf(preferred []string) func(node string) string {
	return func(node string) string {
		if slices.Contains(preferred, node) {
			return "home"
		}
		return "away"
	}
}

// startGroup runs one shard on voters v1 to vN, led from anywhere unless preferred says otherwise.
func startGroup(t *testing.T, voters int, preferred ...string) []*member {
	t.Helper()
	return startWith(t, voters, 0, preferred...)
}

// startWith has further nodes, which follow, without a replica.
func startWith(t *testing.T, voters, spares int, preferred ...string) []*member {
	t.Helper()
	g := placement.Group{Shard: testShard, Home: "home"}
	var ids []string
	for i := range voters + spares {
		ids = append(ids, fmt.Sprintf("v%d", i+1))
	}
	g.Voters = ids[:voters]
	dir := t.TempDir()
	var out []*member
	for _, net := range transporttest.Nodes(t, ids...) {
		m := &member{id: net.ID(), net: net, machine: &tally{}, peers: &hookedPeers{Peers: net}}
		m.db = openIndex(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(m.disk)))
		m.host = NewHost(net)
		m.host.peers = m.peers
		m.router = NewRouter(m.id, m.peers, m.host, []placement.Group{{Shard: 0}, g})
		m.cfg = Config{
			Group: g, Founds: true, Self: m.id, Region: homeOf(preferred), Dir: filepath.Join(dir, m.id, "raft", "0001"), Peers: m.peers,
			Store: m.db.Shard(testShard), Machine: m.machine, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
		out = append(out, m)
	}
	for i, m := range out {
		m.net.Serve()
		if i < voters {
			m.start(t)
		}
	}
	t.Cleanup(func() {
		for _, m := range out {
			m.stop(t)
			must(t, m.db.Close())
		}
	})
	return out
}

func (m *member) start(t *testing.T) {
	t.Helper()
	m.openLogs(t)
	m.cfg.Transport = m.net.RaftGroup(testShard)
	g, err := Start(m.cfg)
	must(t, err)
	m.group = g
	m.host.Add(g)
}

func (m *member) openLogs(t *testing.T) {
	t.Helper()
	logs, err := OpenLogs(filepath.Dir(m.cfg.Dir), atrest.NewKey([32]byte{7}), m.cfg.Log)
	must(t, err)
	m.cfg.Logs = logs
}

func (m *member) stop(t *testing.T) {
	t.Helper()
	if m.group != nil {
		must(t, m.group.Stop())
		must(t, m.cfg.Logs.Close())
		m.group = nil
	}
}

// leaderOf waits for one of members that leads and is ready to.
func leaderOf(t *testing.T, members []*member) *member {
	t.Helper()
	var found *member
	eventually(t, "a leader", func() bool {
		for _, m := range members {
			if m.group != nil && m.group.IsLeader() {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func others(members []*member, not *member) []*member {
	var out []*member
	for _, m := range members {
		if m != not {
			out = append(out, m)
		}
	}
	return out
}

// propose commits a name through a member's router and gives its count.
func (m *member) propose(t *testing.T, name string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, at, err := m.router.Propose(ctx, testShard, []byte(name), ForPeople)
	must(t, err)
	if at == 0 || len(b) != 8 {
		t.Fatalf("proposal of %q: %q at %d", name, b, at)
	}
	return count(b)
}

// commandEntry is a proposal with an id of the test's choice.
func commandEntry(name string, id byte) Command {
	return Command{ID: RequestID(bytes.Repeat([]byte{id}, 16)), Now: 1, Body: []byte(name)}
}
