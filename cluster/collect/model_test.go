package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// TestModel: random deliveries, copies, moves, expunges, deleted folders, retries and clients that were held up, with power cuts, late
// replicas, lost calls and answers, and collections that get into each other's way at any step. No byte that a mailbox refers to is ever lost on
// any copy; and once things calm down everything dead is gone after a few rounds, with its keys, while what is live is still there.
func TestModel(t *testing.T) {
	refused, looks, asks := 0, uint64(0), uint64(0)
	for seed := range uint64(effort.Times(40, 25)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 60 {
				w.step()
			}
			w.check()
			w.settle()
			refused += w.lost
			for _, c := range w.collectors {
				looks, asks = looks+c.stats.looks.Load(), asks+c.stats.asks.Load()
			}
		})
	}
	if refused == 0 {
		t.Error("no client ever came too late: the fence was not tried")
	}
	if looks < asks+asks/20 {
		t.Errorf("all were asked at %d of %d looks: estimates were not tried", asks, looks)
	}
}

// collector is a node's, which remembers, unless it was restarted, or works already.
func (w *world) collector(n int) *Collector {
	if c := w.collectors[n]; c != nil && c.cfg.Volumes == w.nodes[n].set && w.depth < 2 && !w.chance(5) {
		return c
	}
	h := hands{w, n}
	c, err := New(Config{
		Options: Options{Every: time.Hour, AtOnce: 1, Garbage: 1}, Volumes: w.nodes[n].set,
		Shards: h, Directory: h, Copies: h, Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	w.collectors[n] = c
	return c
}

// step is one random thing that happens.
func (w *world) step() {
	switch w.rng.IntN(12) {
	case 0:
		w.collect(w.rng.IntN(3))
		w.check()
	case 1:
		if len(w.open) > 0 {
			w.close(w.rng.IntN(len(w.open)))
		}
	case 2:
		w.mend(w.rng.IntN(3))
	default:
		w.traffic()
	}
}

func (w *world) collect(n int) {
	if w.depth < 2 {
		w.depth++
		c := w.collector(n)
		c.cfg.Garbage = 1 + w.rng.IntN(50)
		c.Round(context.Background())
		w.depth--
	}
}

// meanwhile is what goes on between two steps of a collection.
func (w *world) meanwhile() {
	for w.chance(3) {
		if w.chance(6) {
			w.step()
		} else {
			w.traffic()
		}
	}
}

// traffic is one thing that clients do, or that happens to a replica.
func (w *world) traffic() {
	account := uint64(w.rng.IntN(accounts))
	shard := shardOf(account)
	box := uint32(1 + w.rng.IntN(7))
	some := roaring.New()
	for range 1 + w.rng.IntN(6) {
		some.Add(uint32(1 + w.rng.IntN(12)))
	}
	uids, err := mailbox.EncodeUIDs(some)
	w.must(err)
	names := []string{"INBOX", "Archive", "Trash", "New", "Other"}
	name := names[w.rng.IntN(len(names))]
	switch w.rng.IntN(16) {
	case 0, 1, 2, 3:
		w.paused = append(w.paused, w.newDelivery())
	case 4, 5, 6, 7:
		if n := len(w.paused); n > 0 {
			i := w.rng.IntN(n)
			d := w.paused[i]
			w.paused = append(w.paused[:i], w.paused[i+1:]...)
			w.deliver(d)
		}
	case 8:
		w.command(shard, &mailbox.Command{Copy: &mailbox.Copy{Account: account, Mailbox: box, UIDs: uids, To: name, Move: w.rng.IntN(2) == 0}})
	case 9, 10, 11:
		w.command(shard, &mailbox.Command{Expunge: &mailbox.Expunge{Account: account, Mailbox: box, UIDs: uids}})
	case 12:
		w.command(shard, &mailbox.Command{Create: &mailbox.Create{Account: account, Name: name}})
	case 13:
		if w.rng.IntN(2) == 0 {
			w.command(shard, &mailbox.Command{Delete: &mailbox.Delete{Account: account, Name: name}})
		} else {
			w.command(shard, &mailbox.Command{Rename: &mailbox.Rename{Account: account, From: name, To: names[w.rng.IntN(len(names))]}})
		}
	case 14:
		if n := len(w.sent); n > 0 { // a proposal comes again, or late
			r := w.sent[w.rng.IntN(n)]
			w.propose(w.shards[r.shard], r)
		}
	case 15:
		if w.chance(3) {
			w.crash(w.nodes[w.rng.IntN(3)])
		} else {
			w.catchUp(w.shards[w.rng.IntN(3)], w.rng.IntN(3))
		}
	}
}

func (w *world) newDelivery() delivery {
	body := make([]byte, 20+w.rng.IntN(3000))
	for i := range body {
		body[i] = byte(w.rng.Uint32())
	}
	d := delivery{body: body, ref: w.put(body)}
	for account := range uint64(accounts) {
		if w.rng.IntN(2) == 0 {
			d.accounts = append(d.accounts, account)
		}
	}
	return d
}

// deliver is client's: a shard that has condemned the volume has the bytes put again for its recipients.
func (w *world) deliver(d delivery) {
	again := delivery{body: d.body, tries: d.tries + 1}
	for shard := uint32(1); shard <= 2; shard++ {
		c := &mailbox.Deliver{Message: mailbox.Message{Ref: d.ref, Date: 1}}
		for _, a := range d.accounts {
			if shardOf(a) == shard {
				c.Accounts = append(c.Accounts, a)
			}
		}
		if len(c.Accounts) == 0 {
			continue
		}
		r := w.command(shard, &mailbox.Command{Deliver: c})
		if r == nil {
			again.accounts = append(again.accounts, c.Accounts...) // no answer: the sender tries again, with other bytes
			continue
		}
		if r.Code == mailbox.Condemned {
			w.lost++
			again.accounts = append(again.accounts, c.Accounts...)
		}
	}
	if len(again.accounts) > 0 && again.tries < 3 {
		again.ref = w.put(d.body)
		w.paused = append(w.paused, again)
	}
}

// settle lets everybody come to rest, and then expects everything dead to be gone, and all else to be where it was.
func (w *world) settle() {
	w.calm = true
	for len(w.paused) > 0 {
		d := w.paused[0]
		w.paused = w.paused[1:]
		w.deliver(d)
	}
	for len(w.open) > 0 {
		w.close(0)
	}
	for range 3 {
		for n := range w.nodes {
			w.mend(n)
		}
		for n := range w.nodes {
			c := w.collector(n)
			c.cfg.Garbage = 1
			c.Round(context.Background())
			for n := range w.nodes {
				w.mend(n)
			}
		}
	}
	w.check()
	w.onlyLive()
}

// onlyLive checks that copies are equal and hold what is referred to, and nothing else.
func (w *world) onlyLive() {
	entries := w.entries(0)
	for id, e := range entries {
		live := roaring.New()
		for _, l := range w.shards[1:] {
			v := l.replicas[0].View()
			w.must(v.References(id, func(r index.Reference) error { live.Add(uint32(r.Record)); return nil }))
			w.must(v.Close())
		}
		var copies []*volume.Volume
		for _, name := range e.Copies {
			v, err := w.node(name).set.Get(id)
			w.must(err)
			copies = append(copies, v)
			census, err := v.Census(live)
			w.must(err)
			if dead := census.Bytes - census.StayBytes; live.IsEmpty() || dead*100 >= census.Bytes {
				w.t.Errorf("seed %d: %d of %d bytes of volume %s, generation %d, are dead on %s", w.seed, dead, census.Bytes, id, e.Generation, name)
			}
			w.keysOf(name, id, live, max(v.Header().Records, uint64(census.Here.GetCardinality())))
			if len(w.node(name).set.Nexts()) > 0 {
				w.t.Errorf("seed %d: a next file is left on %s", w.seed, name)
			}
		}
		if !same(copies[0], copies[1]) {
			w.t.Errorf("seed %d: copies of volume %s differ", w.seed, id)
		}
	}
	for _, d := range w.nodes {
		for _, id := range d.set.List() {
			if _, known := entries[id]; !known {
				w.t.Errorf("seed %d: volume %s is left on %s", w.seed, id, d.name)
			}
		}
	}
}

// keysOf checks that live records have their keys and no others have.
func (w *world) keysOf(node string, id volume.ID, live *roaring.Bitmap, highest uint64) {
	w.must(w.node(node).set.UseKeys(id, func(f *keys.File) error {
		for n := uint32(1); n <= uint32(highest); n++ {
			_, err := f.Record(uint64(n))
			if gone := errors.Is(err, keys.ErrDestroyed); gone == live.Contains(n) || err != nil && !gone {
				w.t.Errorf("seed %d: key of record %d of volume %s on %s: %v, live: %v", w.seed, n, id, node, err, live.Contains(n))
			}
		}
		return nil
	}))
}
