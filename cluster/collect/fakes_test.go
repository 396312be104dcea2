package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// hands are what one node's collector reaches of the world. It implements Shards, Directory and Copies. Between any two of its calls the
// rest of the world goes on, and any call may fail, before or after it has taken effect.
type hands struct {
	w    *world
	node int
}

// errDead is a failure that nobody waits for to pass.
var errDead = errors.New("the node is gone")

var errLost = wire.Errorf(wire.Unavailable, "lost on the way")

// broken lets the world go on, and says whether the call is lost.
func (h hands) broken() bool {
	h.w.meanwhile()
	return h.w.chance(25)
}

func (h hands) Moved(context.Context) (uint64, error) { return 0, nil }

func (h hands) All(context.Context) ([]uint32, error) { return []uint32{0, 1, 2}, nil }

func (h hands) Condemn(_ context.Context, shard uint32, id volume.ID, generation uint32) error {
	if h.broken() {
		return errLost
	}
	if shard == 0 {
		h.w.catchUp(h.w.dir, 0) // what a read index is for
		h.w.catchUp(h.w.dir, 1)
		return nil
	}
	c := &mailbox.Command{Condemn: &mailbox.Condemn{Volume: id, Generation: generation}}
	if r := h.w.command(shard, c); r == nil || h.broken() {
		return errLost
	}
	return nil
}

// References asks the replicas as they are, late ones too, from a random one on: two of them have to answer.
func (h hands) References(_ context.Context, shard uint32, id volume.ID, floor uint32, fn func(index.Reference)) (uint32, error) {
	if h.broken() {
		return 0, errLost
	}
	l := h.w.shards[shard]
	lowest, answers := ^uint32(0), 0
	first := h.w.rng.IntN(3)
	for i := range l.replicas {
		i = (first + i) % 3
		if h.w.calm {
			h.w.catchUp(l, i)
		}
		if shard == 0 {
			e, ok := h.w.entries(i)[id]
			if ok && e.Attempt >= floor {
				lowest, answers = min(lowest, e.Attempt), answers+1
			}
		} else if err := answer(l.replicas[i], &referencesRequest{Volume: id, Floor: floor}, func(f *referencesFrame) error {
			if f.Floor < floor {
				return errLost
			}
			lowest = min(lowest, f.Floor)
			for k, n := range f.Records {
				fn(index.Reference{Record: uint64(n), Account: f.Accounts[k], Mailbox: f.Mailboxes[k]})
			}
			return nil
		}); err == nil {
			answers++
		}
		if answers == 2 {
			return lowest, nil
		}
	}
	return 0, errLost
}

// Estimate is what any replica says as it is.
func (h hands) Estimate(_ context.Context, shard uint32, id volume.ID, fn func(index.Reference)) error {
	if h.broken() {
		return errLost
	}
	l, i := h.w.shards[shard], h.w.rng.IntN(3)
	if h.w.calm {
		h.w.catchUp(l, i)
	}
	if shard == 0 {
		return nil
	}
	return answer(l.replicas[i], &referencesRequest{Volume: id}, func(f *referencesFrame) error {
		for k, n := range f.Records {
			fn(index.Reference{Record: uint64(n), Account: f.Accounts[k], Mailbox: f.Mailboxes[k]})
		}
		return nil
	})
}

func (h hands) directory(c *directory.Command) (replica.Entry, error) {
	if h.broken() {
		return replica.Entry{}, errLost
	}
	r := h.w.tell(c)
	if h.broken() {
		return replica.Entry{}, errLost
	}
	if r.Refused != "" {
		return replica.Entry{}, wire.Errorf(wire.Invalid, "%s", r.Refused)
	}
	return *r.Volume, nil
}

func (h hands) CompactVolume(_ context.Context, id volume.ID) (replica.Entry, error) {
	return h.directory(&directory.Command{Compact: &directory.Compact{ID: id}})
}

func (h hands) VolumeCompacted(_ context.Context, id volume.ID, generation uint32, length int64) (replica.Entry, error) {
	return h.directory(&directory.Command{Compacted: &directory.Compacted{ID: id, Generation: generation, Length: length}})
}

func (h hands) Entered(replica.Entry) {}

func (h hands) Up(string) bool { return true }

// No volume of the world is cold.
func (h hands) ColdCensus(context.Context, replica.Entry, *roaring.Bitmap) (volume.Census, error) {
	return volume.Census{}, errors.ErrUnsupported
}

func (h hands) Thaw(context.Context, replica.Entry) error { return errors.ErrUnsupported }

// Collectable has the table as this node sees it, and any volume with a copy here: two collectors may be at one volume.
func (h hands) Collectable() (out []replica.Entry) {
	for _, e := range h.w.entries(h.node) {
		if e.State == replica.Sealed && e.Length > 0 && e.Holds(h.w.nodes[h.node].name) {
			out = append(out, e)
		}
	}
	return out
}

// Prepare is replica's: a prepared file that was entered is not replaced, nor a later one. The power may fail while it is made.
func (h hands) Prepare(ctx context.Context, node string, e replica.Entry, block []byte, records []uint32, _ int64) (volume.Prepared, error) {
	if h.broken() {
		return volume.Prepared{}, errDead
	}
	d := h.w.node(node)
	made, err := d.prepare(ctx, e, block, records, func(int) error {
		if h.w.chance(15) {
			d.dead = true
			return errDead
		}
		return nil
	})
	if d.dead {
		h.w.crash(d)
	}
	if err == nil && h.broken() {
		err = errDead
	}
	return made, err
}

func (d *disk) prepare(ctx context.Context, e replica.Entry, block []byte, records []uint32, pace func(int) error) (volume.Prepared, error) {
	header, err := volume.DecodeHeader(block)
	if err != nil {
		return volume.Prepared{}, err
	}
	if next, _, err := d.set.Next(e.ID); err == nil && (next == e.Generation || next > header.Generation) {
		return volume.Prepared{}, fmt.Errorf("generation %d waits on %s", next, d.name)
	}
	return d.set.Prepare(ctx, e.ID, block, records, pace)
}

func (h hands) Erase(_ context.Context, node string, id volume.ID, stay *roaring.Bitmap) (uint64, error) {
	if h.broken() {
		return 0, errLost
	}
	return h.w.node(node).set.Erase(id, stay)
}

// mend is what replica's repairer does on a node: cut to the sealed length, switch, fetch, drop, by the table as the node sees it.
func (w *world) mend(n int) {
	d := w.nodes[n]
	entries := w.entries(n)
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		e := entries[id]
		if e.State != replica.Sealed || !e.Holds(d.name) {
			continue
		}
		if e.Length == 0 {
			w.drop(d, e)
			continue
		}
		v, err := d.set.Get(id)
		w.must(err)
		switch have := v.Header().Generation; {
		case have == e.Generation:
			w.must(v.Seal())
			w.must(v.Truncate(e.Length))
		case have < e.Generation:
			w.advance(d, e)
		}
	}
	for _, id := range d.set.Nexts() {
		e, known := w.entries(n)[id]
		if next, _, err := d.set.Next(id); err == nil && known && next < e.Attempt && next != e.Generation {
			w.must(d.set.DropNext(id))
		}
	}
}

func (w *world) advance(d *disk, e replica.Entry) {
	next, length, err := d.set.Next(e.ID)
	if err != nil || next != e.Generation || length != e.Length {
		if !w.fetchNext(d, e) {
			return
		}
	}
	w.must(d.set.Switch(e.ID, e.Generation, e.Length))
}

// fetchNext copies the file from a node that has switched, if there is one.
func (w *world) fetchNext(d *disk, e replica.Entry) bool {
	for _, name := range e.Copies {
		v, err := w.node(name).set.Get(e.ID)
		if name == d.name || err != nil || v.Header().Generation != e.Generation {
			continue
		}
		file := make([]byte, e.Length)
		_, err = v.ReadRaw(0, file)
		w.must(err)
		next, err := d.set.OpenNext(file[:4096])
		w.must(err)
		if at := next.Durable(); at < e.Length {
			w.must(next.Extend(at, file[at:]))
		}
		_, err = next.Commit()
		w.must(errors.Join(err, next.Close()))
		return true
	}
	return false
}

// drop removes a copy of a volume in which nothing was live, and the entry when the last is gone.
func (w *world) drop(d *disk, e replica.Entry) {
	if err := d.set.Remove(e.ID); err != nil && !errors.Is(err, volume.ErrNotFound) {
		w.must(err)
	}
	for _, name := range e.Copies {
		if _, err := w.node(name).set.Get(e.ID); err == nil {
			return
		}
	}
	w.tell(&directory.Command{DropVolume: &directory.DropVolume{ID: e.ID}})
}

// same says whether two copies are equal byte for byte.
func same(a, b *volume.Volume) bool {
	x, y := make([]byte, a.Durable()), make([]byte, b.Durable())
	_, errA := a.ReadRaw(0, x)
	_, errB := b.ReadRaw(0, y)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
