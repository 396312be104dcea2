package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/pause"
	"hongyan/cluster/pki"
	"hongyan/cluster/policy"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// table is a directory in memory that all nodes of a test share.
type table struct {
	mu      sync.Mutex
	next    volume.ID
	volumes map[volume.ID]Entry
	down    bool // no majority
	blind   bool // nodes cannot read their copies of it either
	asked   []policy.Policy
	changed func(Entry) // told of each change of copies, under mu
}

func (d *table) reach(ctx context.Context) error {
	for {
		d.mu.Lock()
		if !d.down {
			return nil
		}
		d.mu.Unlock()
		if !pause.For(ctx, 5*time.Millisecond) {
			return wire.Errorf(wire.Unavailable, "no majority")
		}
	}
}

func (d *table) OpenVolume(ctx context.Context, primary string, copies []string, class uint8, p policy.Policy) (Entry, error) {
	if err := d.reach(ctx); err != nil {
		return Entry{}, err
	}
	defer d.mu.Unlock()
	d.next++
	e := Entry{ID: d.next, Epoch: 1, Primary: primary, Copies: slices.Clone(copies), Class: class, Policy: p.Stored()}
	d.volumes[e.ID] = e
	return e, nil
}

// Policies is what domains of the test ask for.
func (d *table) Policies(context.Context) ([]policy.Policy, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked), nil
}

func (d *table) SealVolume(ctx context.Context, id volume.ID, length int64, last uint64) (Entry, error) {
	if err := d.reach(ctx); err != nil {
		return Entry{}, err
	}
	defer d.mu.Unlock()
	e, ok := d.volumes[id]
	if !ok {
		return Entry{}, wire.Errorf(wire.Invalid, "volume %s is not in the table", id)
	}
	if e.State == Open {
		e.State, e.Length, e.Last, e.Epoch = Sealed, length, last, e.Epoch+1
		d.volumes[id] = e
	}
	return e, nil
}

func (d *table) DropVolume(ctx context.Context, id volume.ID) error {
	if err := d.reach(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if e, ok := d.volumes[id]; ok && (e.State != Sealed || e.Length != 0) {
		return wire.Errorf(wire.Invalid, "volume %s may hold records", id)
	}
	delete(d.volumes, id)
	return nil
}

func (d *table) Volumes(context.Context) ([]Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blind {
		return nil, wire.Errorf(wire.Unavailable, "the replica of the directory does not run")
	}
	return slices.Collect(maps.Values(d.volumes)), nil
}

func (d *table) Volume(ctx context.Context, id volume.ID) (Entry, bool, error) {
	if err := d.reach(ctx); err != nil {
		return Entry{}, false, err
	}
	defer d.mu.Unlock()
	e, ok := d.volumes[id]
	return e, ok, nil
}

func (d *table) AddCopy(ctx context.Context, e Entry, node string) (Entry, error) {
	return d.change(ctx, e.ID, func(now Entry) (Entry, error) { return now.WithCopy(node, e.Epoch) })
}

func (d *table) RemoveCopy(ctx context.Context, e Entry, node string) (Entry, error) {
	return d.change(ctx, e.ID, func(now Entry) (Entry, error) { return now.WithoutCopy(node, e.Epoch) })
}

// change is a change of copies, of which the test is told.
func (d *table) change(ctx context.Context, id volume.ID, how func(Entry) (Entry, error)) (Entry, error) {
	if err := d.reach(ctx); err != nil {
		return Entry{}, err
	}
	defer d.mu.Unlock()
	e, err := how(d.volumes[id])
	if err != nil {
		return Entry{}, wire.Errorf(wire.Invalid, "%v", err)
	}
	d.volumes[id] = e
	if d.changed != nil {
		d.changed(e)
	}
	return e, nil
}

func (d *table) entry(id volume.ID) (Entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.volumes[id]
	return e, ok
}

func (d *table) setBlind(blind bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blind = blind
}

func (d *table) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// member is one node of a test. Its files outlive it.
type member struct {
	t      testing.TB
	c      *group
	id     string
	region string
	addr   string
	fs     vfs.FS
	dir    string // on fs
	spool  string // for the blobs of the test
	tune   func(*Config)
	plain  bool

	net *transport.Net
	set *volume.Set
	mu  sync.Mutex // guards m where a test kills and starts while others use the node
	m   *Manager   // nil while the node is dead
}

func (n *member) manager() *Manager {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m
}

// group is a cluster of a test: real sockets, real files unless told otherwise.
type group struct {
	t       testing.TB
	dir     *table
	home    string // certificates
	ca      *pki.CA
	members map[string]*member
	order   []string

	peersMu sync.Mutex
	peers   []Peer               // that all nodes see
	relays  map[[2]string]*relay // from, to: the way of the dialler's connections
}

type place struct {
	id, region string
	fs         vfs.FS // nil: the real one
	tune       func(*Config)
	plain      bool // nothing is encrypted on any node: key files are most of what opening many volumes costs under the race detector
}

func three() []place {
	return []place{{id: "a", region: "south"}, {id: "b", region: "north"}, {id: "c", region: "sea"}}
}

func newGroup(t testing.TB, places ...place) *group {
	t.Helper()
	g := &group{t: t, dir: &table{volumes: make(map[volume.ID]Entry)}, home: t.TempDir(),
		members: make(map[string]*member), relays: make(map[[2]string]*relay)}
	var err error
	if g.ca, err = pki.EnsureCA(filepath.Join(g.home, "ca")); err != nil {
		t.Fatal(err)
	}
	listeners := make(map[string]net.Listener)
	for _, p := range places {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[p.id] = l
		n := &member{t: t, spool: g.home, c: g, id: p.id, region: p.region, addr: l.Addr().String(), fs: p.fs, dir: "/" + p.id, tune: p.tune, plain: p.plain}
		if n.fs == nil {
			n.fs, n.dir = vfs.Default, filepath.Join(g.home, p.id)
		}
		g.members[p.id] = n
		g.order = append(g.order, p.id)
		g.peers = append(g.peers, Peer{ID: p.id, Region: p.region, Weight: 10})
		if err := g.ca.EnsureNode(p.id, filepath.Join(g.home, p.id+".pem"), filepath.Join(g.home, p.id+".key")); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range g.order {
		for _, b := range g.order {
			if a != b {
				g.relays[[2]string{a, b}] = newRelay(t, g.members[b].addr)
			}
		}
	}
	for _, id := range g.order {
		g.members[id].start(listeners[id])
	}
	t.Cleanup(func() {
		for _, id := range g.order {
			g.members[id].kill()
		}
	})
	return g
}

func (n *member) start(l net.Listener) {
	n.t.Helper()
	var err error
	if l == nil {
		if l, err = net.Listen("tcp", n.addr); err != nil {
			n.t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(testWriter{n.t}, nil)).With("node", n.id)
	var peers []transport.Peer
	for _, id := range n.c.order {
		p := n.c.members[id]
		if id != n.id {
			peers = append(peers, transport.Peer{ID: id, Region: p.region, Addr: n.c.relays[[2]string{n.id, id}].addr()})
		}
	}
	n.net, err = transport.Listen(transport.Config{ID: n.id, Listener: l, Peers: peers,
		CA: filepath.Join(n.c.home, "ca", "ca.pem"), Cert: filepath.Join(n.c.home, n.id+".pem"), Key: filepath.Join(n.c.home, n.id+".key")})
	if err != nil {
		n.t.Fatal(err)
	}
	if n.set, err = volume.OpenSet(n.fs, n.dir, volume.SetOptions{Master: n.master(), Slots: 1 << 10}); err != nil {
		n.t.Fatal(err)
	}
	cfg := Config{ID: n.id, Region: n.region, Net: n.net, Volumes: n.set, Directory: n.c.dir,
		Peers: n.c.table, FS: n.fs, SpoolDir: n.set.TmpDir(), Log: log, PeerDown: time.Second}
	if n.tune != nil {
		n.tune(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.net.Serve()
	m.Start()
	n.mu.Lock()
	n.m = m
	n.mu.Unlock()
}

// master is the node's master key: volumes are encrypted on real disks. They are plain in groups with file systems of a test's own.
func (n *member) master() keys.Master {
	for _, other := range n.c.members {
		if other.fs != vfs.Default || other.plain {
			return nil
		}
	}
	path := filepath.Join(n.c.home, n.id+".master")
	if err := keys.CreateKeyFile(n.fs, path); err != nil {
		n.t.Fatal(err)
	}
	ring, err := keys.OpenKeyFile(n.fs, path)
	if err != nil {
		n.t.Fatal(err)
	}
	return ring
}

// kill is as near to SIGKILL as one process gets: nobody hears a word any more, nothing is sealed.
func (n *member) kill() {
	m := n.manager()
	if m == nil {
		return
	}
	n.mu.Lock()
	n.m = nil
	n.mu.Unlock()
	if err := n.net.Close(); err != nil {
		n.t.Logf("close net of %s: %v", n.id, err)
	}
	gone, stop := context.WithCancel(context.Background())
	stop()
	_ = m.Close(gone) // says only that volumes are left to be sealed
	if err := n.set.Close(); err != nil {
		n.t.Logf("close volumes of %s: %v", n.id, err)
	}
}

// testWriter logs to the test until that ends.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Printf("%s %s", time.Now().Format("05.000"), p)
	}
	return len(p), nil
}

// relay forwards connections to a node; it can be told to swallow everything.
type relay struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	hole  chan struct{} // not nil while nothing is forwarded; closed to go on
	conns map[net.Conn]struct{}
}

func newRelay(t testing.TB, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, to: to, conns: make(map[net.Conn]struct{})}
	go r.accept()
	t.Cleanup(r.close)
	return r
}

func (r *relay) addr() string { return r.l.Addr().String() }

func (r *relay) accept() {
	for {
		in, err := r.l.Accept()
		if err != nil {
			return
		}
		go func() {
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				_ = in.Close()
				return
			}
			r.mu.Lock()
			r.conns[in], r.conns[out] = struct{}{}, struct{}{}
			r.mu.Unlock()
			go r.copy(out, in)
			r.copy(in, out)
		}()
	}
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		hole := r.hole
		r.mu.Unlock()
		if hole != nil {
			<-hole
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) swallow(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on && r.hole == nil {
		r.hole = make(chan struct{})
	}
	if !on && r.hole != nil {
		close(r.hole)
		r.hole = nil
	}
}

func (r *relay) close() {
	_ = r.l.Close()
	r.swallow(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

// table is the nodes as all see them now.
func (g *group) table() []Peer {
	g.peersMu.Lock()
	defer g.peersMu.Unlock()
	return slices.Clone(g.peers)
}

// set changes what the table says of a node.
func (g *group) set(id string, weight uint32, leaving bool) {
	g.peersMu.Lock()
	defer g.peersMu.Unlock()
	for i := range g.peers {
		if g.peers[i].ID == id {
			g.peers[i].Weight, g.peers[i].Leaving = weight, leaving
		}
	}
}

// cut swallows all traffic of a pair, in both directions.
func (g *group) cut(a, b string, on bool) {
	g.relays[[2]string{a, b}].swallow(on)
	g.relays[[2]string{b, a}].swallow(on)
}

func (g *group) at(id string) *member { return g.members[id] }

// eventually waits for a condition.
func eventually(t testing.TB, what string, within time.Duration, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func (g *group) ready(ids ...string) {
	g.t.Helper()
	for _, id := range ids {
		eventually(g.t, id+" is ready", 10*time.Second, g.at(id).m.Ready)
	}
}

// openWith waits until a node has an open volume with each of the others.
func (g *group) openWith(id string, others ...string) {
	g.t.Helper()
	eventually(g.t, "open volumes of "+id, 10*time.Second, func() error {
		have := make(map[string]bool)
		for _, c := range g.at(id).m.candidates(Anywhere(""), volume.ClassSmall) {
			have[c.p.partner] = true
		}
		for _, other := range others {
			if !have[other] {
				return fmt.Errorf("none with %s", other)
			}
		}
		return nil
	})
}

// message is reproducible content.
func message(seed uint64, size int) []byte {
	b := make([]byte, size)
	key := [32]byte{}
	binary.LittleEndian.PutUint64(key[:], seed)
	if _, err := rand.NewChaCha8(key).Read(b); err != nil {
		panic(err) // never, says its comment
	}
	return b
}

func (n *member) blob(content []byte) *volume.Blob {
	n.t.Helper()
	s := volume.NewSpool(vfs.Default, n.spool, 1<<20)
	if _, err := s.Write(content); err != nil {
		n.t.Fatal(err)
	}
	b, err := s.Finish()
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// put stores reproducible content through a node.
func (n *member) put(ctx context.Context, seed uint64, size int) (volume.Ref, error) {
	m := n.manager()
	if m == nil {
		return volume.Ref{}, errors.New("node is dead")
	}
	b := n.blob(message(seed, size))
	defer b.Close()
	return m.Put(ctx, Anywhere(n.region), volume.KindMessage, []byte("meta"), b)
}

func (n *member) mustPut(seed uint64, size int) volume.Ref {
	n.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	ref, err := n.put(ctx, seed, size)
	if err != nil {
		n.t.Fatal(err)
	}
	return ref
}

// verify reads content back through a node.
func (n *member) verify(ref volume.Ref, seed uint64) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	r, err := n.m.Read(ctx, ref, 0, ref.Length)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if want := message(seed, int(ref.Length)); !bytes.Equal(got, want) {
		return fmt.Errorf("record %d of volume %s: %d bytes differ from the %d stored", ref.Record, ref.Volume, len(got), len(want))
	}
	return nil
}

// raw is the file of a node's copy up to the sealed length. Behind that only zeros may lie: a fault-injecting file
// system hides truncation, and cutting a copy then overwrites its end.
func (n *member) raw(id volume.ID, length int64) ([]byte, error) {
	f, err := n.fs.Open(n.fs.PathJoin(n.dir, id.String()+".vol"))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if tail := b[min(int64(len(b)), length):]; len(bytes.Trim(tail, "\x00")) > 0 {
		return nil, fmt.Errorf("volume %s on %s goes on behind %d, where it was sealed", id, n.id, length)
	}
	return b[:min(int64(len(b)), length)], nil
}

// identical waits until every sealed volume's copies are the same bytes, of the sealed length.
func (g *group) identical(within time.Duration) {
	g.t.Helper()
	eventually(g.t, "copies are identical", within, func() error {
		list, _ := g.dir.Volumes(context.Background())
		for _, e := range list {
			if e.State != Sealed {
				continue
			}
			if e.Length == 0 {
				return fmt.Errorf("volume %s is empty and not dropped", e.ID)
			}
			first, err := g.at(e.Copies[0]).raw(e.ID, e.Length)
			if err != nil {
				return err
			}
			if int64(len(first)) != e.Length {
				return fmt.Errorf("volume %s has %d bytes on %s, sealed at %d", e.ID, len(first), e.Copies[0], e.Length)
			}
			for _, id := range e.Copies[1:] {
				other, err := g.at(id).raw(e.ID, e.Length)
				if err != nil {
					return err
				}
				if !bytes.Equal(first, other) {
					return fmt.Errorf("volume %s differs: %d bytes on %s, %d on %s", e.ID, len(first), e.Copies[0], len(other), id)
				}
			}
		}
		return nil
	})
}
