package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// world is a cluster without its network: real state machines on real indexes, real volumes on disks that lose power. Everything happens
// in one goroutine, in the order that the seed gives; what a real cluster does at the same time happens between two steps of a collection
// (meanwhile).
type world struct {
	t      *testing.T
	rng    *rand.Rand
	seed   uint64
	calm   bool // nothing fails any more
	depth  int  // of meanwhile within meanwhile
	shards []*logged
	dir    *logged
	nodes  []*disk
	master keys.Master
	open   []*opened
	bodies map[volume.Ref][]byte
	paused []delivery // of clients that put the bytes, and have not proposed yet
	sent   []request  // proposals that may come again
	next   uint64     // request id
	lost   int        // proposals refused since their volume was condemned

	collectors [3]*Collector // of the nodes
}

// logged is a state machine with its log and three replicas, which apply it at their own pace.
type logged struct {
	number   uint32
	log      []request
	replicas [3]*index.Shard
	applied  [3]int
	machine  interface {
		Apply(t *index.Txn, now int64, body []byte) ([]byte, error)
	}
}

type request struct {
	shard uint32
	id    [16]byte
	body  []byte
}

// disk is a node: its volumes, and a file system that can lose power.
type disk struct {
	name string
	fs   *vfs.MemFS
	set  *volume.Set
	dead bool // lost power in the middle of something
}

// opened is a volume that takes records.
type opened struct {
	entry replica.Entry
	v     *volume.Volume
}

type delivery struct {
	accounts []uint64
	ref      volume.Ref
	body     []byte
	tries    int
}

const accounts = 5

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), bodies: make(map[volume.Ref][]byte)}
	masterFS := vfs.NewMem()
	w.must(keys.CreateKeyFile(masterFS, "master"))
	var err error
	w.master, err = keys.OpenKeyFile(masterFS, "master")
	w.must(err)
	var dbs [3]*index.DB
	for i := range dbs {
		dbs[i], err = index.Open(vfs.NewMem(), "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 1 << 20,
			Log: slog.New(slog.DiscardHandler)})
		w.must(err)
		t.Cleanup(func() { w.must(dbs[i].Close()) })
	}
	for n := range uint32(3) {
		l := &logged{number: n, machine: mailbox.NewMachine(func([]mailbox.Event) {})}
		if n == 0 {
			l.machine = directory.Machine{}
			w.dir = l
		}
		for i := range dbs {
			l.replicas[i] = dbs[i].Shard(n)
		}
		w.shards = append(w.shards, l)
	}
	for _, name := range []string{"a", "b", "c"} {
		d := &disk{name: name, fs: vfs.NewCrashableMem()}
		w.start(d)
		w.nodes = append(w.nodes, d)
		t.Cleanup(func() { w.must(d.set.Close()) })
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		panic(fmt.Sprintf("seed %d: %v", w.seed, err)) // perhaps in a goroutine of the collector's, where Fatal would end that alone
	}
}

// chance is true once in n times, and never when all is calm.
func (w *world) chance(n int) bool { return !w.calm && w.rng.IntN(n) == 0 }

func (w *world) start(d *disk) {
	var err error
	d.set, err = volume.OpenSet(d.fs, "volumes", volume.SetOptions{Master: w.master})
	w.must(err)
	d.dead = false
}

// crash cuts a node's power and starts it again. Its open volumes are not appended to any more.
func (w *world) crash(d *disk) {
	image := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng})
	_ = d.set.Close() // of a machine that is off
	d.fs = image
	w.start(d)
	for i := len(w.open) - 1; i >= 0; i-- {
		if w.open[i].entry.Holds(d.name) {
			w.close(i)
		}
	}
}

func (w *world) node(name string) *disk {
	for _, d := range w.nodes {
		if d.name == name {
			return d
		}
	}
	w.t.Fatalf("no node %q", name)
	return nil
}

// propose appends to a log. Two of the replicas apply it at once, the third when it likes.
func (w *world) propose(l *logged, r request) []byte {
	l.log = append(l.log, r)
	late := w.rng.IntN(4)
	var result []byte
	for i := range l.replicas {
		if i != late || w.calm {
			result = w.catchUp(l, i)
		}
	}
	return result
}

// catchUp applies what a replica lacks, as package shard does, and gives the last result.
func (w *world) catchUp(l *logged, i int) (result []byte) {
	for ; l.applied[i] < len(l.log); l.applied[i]++ {
		at := uint64(l.applied[i] + 1)
		r := l.log[at-1]
		txn := l.replicas[i].Begin()
		txn.SetIndex(at)
		known, ok, err := txn.Recall(r.id)
		w.must(err)
		if result = known; !ok {
			result, err = l.machine.Apply(txn, time.Now().Unix(), r.body)
			w.must(err)
			w.must(txn.Remember(r.id, result))
		}
		w.must(txn.Commit(at))
	}
	return result
}

// command proposes to a mailbox shard, and remembers the proposal, which may come a second time.
func (w *world) command(shard uint32, c *mailbox.Command) *mailbox.Result {
	body, err := c.Encode()
	w.must(err)
	w.next++
	r := request{shard: shard, body: body}
	r.id[0], r.id[1], r.id[2] = byte(w.next), byte(w.next>>8), byte(w.next>>16)
	if w.chance(4) {
		w.sent = append(w.sent, r)
		if w.chance(3) {
			return nil // it was lost on the way, and arrives later, perhaps
		}
	}
	return w.result(w.propose(w.shards[shard], r))
}

func (w *world) result(b []byte) *mailbox.Result {
	r, err := mailbox.DecodeResult(b)
	w.must(err)
	return r
}

func (w *world) tell(c *directory.Command) *directory.Result {
	body, err := codec.Marshal(c)
	w.must(err)
	w.next++
	r := request{body: body}
	r.id[0], r.id[1], r.id[2], r.id[3] = byte(w.next), byte(w.next>>8), byte(w.next>>16), 1
	out := new(directory.Result)
	w.must(codec.Unmarshal(w.propose(w.dir, r), out))
	return out
}

// entries is the volume table as one replica has it: the latest, or a late one.
func (w *world) entries(i int) map[volume.ID]replica.Entry {
	if i == 0 || w.calm {
		w.catchUp(w.dir, i)
	}
	out := make(map[volume.ID]replica.Entry)
	v := w.dir.replicas[i].View()
	w.must(v.Scan([]byte("v/"), func(_, value []byte) error {
		var e replica.Entry
		err := codec.Unmarshal(value, &e)
		out[e.ID] = e
		return err
	}))
	w.must(v.Close())
	return out
}

func shardOf(account uint64) uint32 { return uint32(1 + account%2) }

// tap streams an open volume to its other copy.
type tap struct{ copy *volume.Volume }

func (t tap) Append(off int64, p []byte) error {
	if err := t.copy.Receive(off, p); err != nil {
		return err
	}
	_, err := t.copy.Commit()
	return err
}

func (w *world) openVolume() {
	a := w.rng.IntN(3)
	primary, other := w.nodes[a], w.nodes[(a+1+w.rng.IntN(2))%3]
	e := *w.tell(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: primary.name, Copies: []string{primary.name, other.name}}}).Volume
	h := volume.Header{ID: e.ID, Epoch: e.Epoch, Primary: e.Primary, Copies: e.Copies, Salt: w.rng.Uint64()}
	seed := keys.NewSeed(64)
	secret, err := seed.Secret()
	w.must(err)
	// The copy needs the header block, and the primary's tap the copy.
	scratch := &tap{}
	v, err := primary.set.Create(h, seed, scratch)
	w.must(err)
	block, err := v.FileHeader()
	w.must(err)
	scratch.copy, err = other.set.CreateCopy(block, secret)
	w.must(err)
	w.open = append(w.open, &opened{entry: e, v: v})
}

// close seals an open volume at the length that both copies have.
func (w *world) close(i int) {
	o := w.open[i]
	w.open = append(w.open[:i], w.open[i+1:]...)
	length := int64(-1)
	for _, name := range o.entry.Copies {
		v, err := w.node(name).set.Get(o.entry.ID)
		if errors.Is(err, volume.ErrNotFound) {
			continue
		}
		w.must(err)
		w.must(v.Seal())
		if v.Stats().Records == 0 {
			length = 0
		} else if at := v.Durable(); length < 0 || at < length {
			length = at
		}
	}
	w.tell(&directory.Command{SealVolume: &directory.SealVolume{ID: o.entry.ID, Length: length}})
}

// put stores a message on both copies of an open volume.
func (w *world) put(body []byte) volume.Ref {
	if len(w.open) == 0 || len(w.open) < 3 && w.rng.IntN(8) == 0 {
		w.openVolume()
	}
	o := w.open[w.rng.IntN(len(w.open))]
	spool := volume.NewSpool(vfs.NewMem(), "", 1<<20)
	_, err := spool.Write(body)
	w.must(err)
	b, err := spool.Finish()
	w.must(err)
	ref, _, err := o.v.Append(context.Background(), volume.KindMessage, []byte("origin"), b)
	w.must(errors.Join(err, b.Close()))
	w.bodies[ref] = body
	return ref
}

// check reads every message of every mailbox at the latest state from every copy of its volume: invariant 5 of the design.
func (w *world) check() {
	entries := w.entries(0)
	for _, l := range w.shards[1:] {
		w.catchUp(l, 0)
		v := l.replicas[0].View()
		for account := range uint64(accounts) {
			boxes, err := v.Mailboxes(account)
			if errors.Is(err, index.ErrNoAccount) {
				continue
			}
			w.must(err)
			for _, box := range boxes {
				w.must(v.Messages(account, box.ID, nil, index.WantImmutable, func(m *index.Message) error {
					e, ok := entries[m.Ref.Volume]
					if !ok {
						return fmt.Errorf("account %d, %s: volume %s of message %d is gone", account, box.Name, m.Ref.Volume, m.UID)
					}
					for _, name := range e.Copies {
						if err := w.read(w.node(name), m.Ref); err != nil {
							return fmt.Errorf("account %d, %s, message %d, generation %d, on %s: %w", account, box.Name, m.UID, e.Generation, name, err)
						}
					}
					return nil
				}))
			}
		}
		w.must(v.Close())
	}
}

func (w *world) read(d *disk, ref volume.Ref) error {
	v, err := d.set.Get(ref.Volume)
	if err != nil {
		return err
	}
	r, err := v.OpenRef(ref, 0, ref.Length)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, w.bodies[ref]) {
		return fmt.Errorf("other bytes in record %d of volume %s", ref.Record, ref.Volume)
	}
	return nil
}
