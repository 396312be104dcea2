package cold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// table is a directory in memory that all nodes of a test share.
type table struct {
	mu      sync.Mutex
	entries map[volume.ID]replica.Entry
}

func (d *table) Volumes(context.Context) ([]replica.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.entries)), nil
}

func (d *table) Volume(_ context.Context, id volume.ID) (replica.Entry, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.entries[id]
	return e, known, nil
}

func (d *table) change(id volume.ID, f func(*replica.Entry) error) (replica.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.entries[id]
	if !ok {
		return e, wire.Errorf(wire.Invalid, "no such volume")
	}
	if err := f(&e); err != nil {
		return e, err
	}
	e.Epoch++
	d.entries[id] = e
	return e, nil
}

func (d *table) FreezeVolume(_ context.Context, from replica.Entry, c replica.Cold) (replica.Entry, error) {
	return d.change(from.ID, func(e *replica.Entry) error {
		if e.Cold != nil || e.Generation != from.Generation || e.Attempt != from.Attempt {
			return wire.Errorf(wire.Invalid, "it has changed")
		}
		e.Copies, e.Cold, e.Attempt = nil, &c, e.Attempt+1
		return nil
	})
}

func (d *table) ThawVolume(_ context.Context, from replica.Entry, copies []string) (replica.Entry, error) {
	return d.change(from.ID, func(e *replica.Entry) error {
		if e.Cold == nil || e.Generation != from.Generation {
			return wire.Errorf(wire.Invalid, "it has changed")
		}
		e.Primary, e.Copies, e.Cold, e.SealedAt = copies[0], copies, nil, time.Now().Unix()
		return nil
	})
}

func (d *table) MoveFragment(_ context.Context, id volume.ID, index int, from, to string) (replica.Entry, error) {
	return d.change(id, func(e *replica.Entry) error {
		c := *e.Cold
		c.Nodes = slices.Clone(c.Nodes)
		if c.Nodes[index] != from {
			return wire.Errorf(wire.Invalid, "it has moved")
		}
		c.Nodes[index] = to
		e.Cold = &c
		return nil
	})
}

func (d *table) DropVolume(_ context.Context, id volume.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.entries, id)
	return nil
}

// node is one node of a test. Its files outlive it.
type node struct {
	id    string
	net   *transport.Net
	fs    *vfs.MemFS
	set   *volume.Set
	frags *cold.Store
	m     *Manager
}

// cluster has a node in each of several regions.
type cluster struct {
	t     testing.TB
	dir   *table
	ring  *keys.Keyring
	nodes []*node
	refs  []volume.Ref
	mail  [][]byte
	peers []replica.Peer

	recovering bool
}

var soon = Policy{After: time.Minute, Least: 1, Data: 4, Parity: 2, Rate: 1 << 40}

func newCluster(t testing.TB, ids ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: &table{entries: make(map[volume.ID]replica.Entry)}}
	mem := vfs.NewMem()
	must(t, keys.CreateKeyFile(mem, "master.key"))
	var err error
	c.ring, err = keys.OpenKeyFile(mem, "master.key")
	must(t, err)
	for _, id := range ids {
		c.peers = append(c.peers, replica.Peer{ID: id, Region: id[:1], Weight: 10})
	}
	for i, net := range transporttest.Nodes(t, ids...) {
		n := &node{id: ids[i], net: net, fs: vfs.NewMem()}
		c.nodes = append(c.nodes, n)
		c.open(n)
		n.m, err = New(Config{ID: n.id, Region: n.id[:1], Net: net, Volumes: n.set, Fragments: n.frags, Directory: c.dir, Policy: soon,
			Peers: func() []replica.Peer { return c.peers }, Whole: c.whole, Recovering: func() bool { return c.recovering }, Log: slog.New(slog.DiscardHandler)})
		must(t, err)
		net.Serve()
		t.Cleanup(func() {
			n.m.Close()
			must(t, errors.Join(n.frags.Close(), n.set.Close()))
		})
	}
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			for a != b && !a.net.Up(b.id) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	return c
}

// whole says that a node's copy is as the entry says.
func (c *cluster) whole(id string, e replica.Entry) bool {
	n := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.id == id })]
	v, err := n.set.Get(e.ID)
	return err == nil && v.Header().Generation == e.Generation && v.Durable() >= e.Length
}

func (c *cluster) open(n *node) {
	var err error
	n.set, err = volume.OpenSet(n.fs, "volumes", volume.SetOptions{Master: c.ring})
	must(c.t, err)
	n.frags, err = cold.OpenStore(n.fs, "cold", c.ring)
	must(c.t, err)
}

// sealed makes a sealed, encrypted volume with copies on the first two nodes.
func (c *cluster) sealed(id volume.ID, messages int) replica.Entry {
	c.t.Helper()
	return c.sealedBy(id, messages, c.nodes[0].set.NewSeed(volume.ClassBulk, volume.MaxRecords))
}

// sealedBy makes one whose keys are of a seed; without one it is not encrypted.
func (c *cluster) sealedBy(id volume.ID, messages int, seed *keys.Seed) replica.Entry {
	t := c.t
	t.Helper()
	a, b := c.nodes[0], c.nodes[1]
	v, err := a.set.Create(volume.Header{ID: id, Epoch: 1, Primary: a.id, Copies: []string{a.id, b.id}, Salt: 7}, seed, nil)
	must(t, err)
	rng := rand.New(rand.NewPCG(uint64(id), 5))
	for i := range messages {
		mail := make([]byte, 200+rng.IntN(30_000))
		for j := range mail {
			mail[j] = byte(rng.IntN(90)) + 32
		}
		if i%10 == 9 {
			mail = []byte(strings.Repeat("a long message that spans many blocks ", 20_000))
		}
		s := volume.NewSpool(a.fs, a.set.TmpDir(), 1<<20)
		_, err := s.Write(mail)
		must(t, err)
		blob, err := s.Finish()
		must(t, err)
		ref, _, err := v.Append(t.Context(), volume.KindMessage, fmt.Appendf(nil, "meta %d", i), blob)
		must(t, errors.Join(err, blob.Close()))
		c.refs, c.mail = append(c.refs, ref), append(c.mail, mail)
	}
	must(t, v.Seal())
	block, err := v.FileHeader()
	must(t, err)
	secret, err := a.set.Secret(id)
	must(t, err)
	w, err := b.set.CreateCopy(block, secret)
	must(t, err)
	must(t, w.Seal())
	length := v.Durable()
	for off := w.Durable(); off < length; {
		p := make([]byte, min(length-off, 100_000))
		_, err := v.ReadRaw(off, p)
		must(t, err)
		must(t, w.Extend(off, p))
		off += int64(len(p))
	}
	_, err = w.Commit()
	must(t, errors.Join(err, w.Seal()))
	e := replica.Entry{ID: id, Epoch: 2, Primary: a.id, Copies: []string{a.id, b.id}, State: replica.Sealed, Length: length, SealedAt: 1000}
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	c.dir.entries[id] = e
	return e
}

func (c *cluster) entry(id volume.ID) replica.Entry {
	c.dir.mu.Lock()
	defer c.dir.mu.Unlock()
	return c.dir.entries[id]
}

// round lets every node do what is due at a time; nil nodes are skipped.
func (c *cluster) round(now time.Time, skip ...int) {
	entries, err := c.dir.Volumes(c.t.Context())
	must(c.t, err)
	for i, n := range c.nodes {
		if !slices.Contains(skip, i) {
			n.m.mu.Lock()
			clear(n.m.waits)
			n.m.mu.Unlock()
			n.m.round(entries, now)
		}
	}
}

// expect reads all mail on a node that has fragments.
func (c *cluster) expect(n *node) {
	c.t.Helper()
	for i, ref := range c.refs {
		r, err := n.m.Open(c.t.Context(), c.entry(ref.Volume), ref, 0, ref.Length)
		must(c.t, err)
		got, err := io.ReadAll(r)
		must(c.t, errors.Join(err, r.Close()))
		if !bytes.Equal(got, c.mail[i]) {
			c.t.Fatalf("message %d on %s: %d bytes, not %d", i, n.id, len(got), len(c.mail[i]))
		}
	}
}

// files lists what a node keeps.
func (n *node) files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := n.fs.List(dir)
	must(t, err)
	slices.Sort(list)
	return slices.DeleteFunc(list, func(name string) bool { return name == "LOCK" || name == "tmp" })
}
