package rebuild

import (
	"fmt"
	"testing"

	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// freeze makes 4+2 fragments of a volume and removes its copy and two of the fragments; the index of every other volume as well.
func (w *world) freeze(id volume.ID) {
	for i := len(w.stores); i < 6; i++ {
		s, err := cold.OpenStore(w.fs, fmt.Sprintf("/cold-%d", i), nil)
		must(w.t, err)
		w.t.Cleanup(func() { must(w.t, s.Close()) })
		w.stores = append(w.stores, s)
	}
	v, err := w.set.Get(id)
	must(w.t, err)
	index, err := w.set.IndexFile(id)
	must(w.t, err)
	file, err := w.fs.Open("/volumes/" + id.String() + ".vol")
	must(w.t, err)
	l := cold.Layout{Volume: id, Seed: v.Seed(), Length: v.Durable(), Data: 4, Parity: 2}
	targets := make([]cold.Target, len(w.stores))
	drafts := make([]*cold.Draft, len(w.stores))
	for i, s := range w.stores {
		drafts[i], err = s.Make(w.t.Context(), l, i)
		must(w.t, err)
		targets[i].Sink = drafts[i]
		if id%2 == 0 {
			must(w.t, s.Attach(id, 0, index, nil))
		}
	}
	must(w.t, cold.Encode(w.t.Context(), file, l, targets, nil))
	must(w.t, file.Close())
	for _, d := range drafts {
		must(w.t, d.Finish(w.t.Context()))
		must(w.t, d.Close())
	}
	must(w.t, w.set.Remove(id))
	for _, i := range w.rng.Perm(len(w.stores))[:2] {
		must(w.t, w.stores[i].Remove(cold.Name{Volume: id, Index: i}))
	}
}

// TestRebuildFromFragments: all checkpoints and all mail are in cold volumes, of each of which two fragments are lost.
func TestRebuildFromFragments(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, 100+seed)
			for range 60 {
				w.deliver()
				w.change()
			}
			w.checkpoint()
			for range 20 {
				w.deliver()
			}
			for _, id := range w.set.List() {
				if id > 1 || seed > 0 { // with the first seed one volume is still whole
					w.freeze(id)
				}
			}
			got, report := w.rebuild("/rebuilt", Options{DropMissing: true})
			w.compare(got)
			for _, s := range report.Shards {
				if s.Missing+s.Refused+s.Unreadable > 0 {
					t.Errorf("%+v", s)
				}
			}
			var entries []replica.Entry
			v := got.Shard(placement.DirectoryShard).View()
			must(t, v.Scan([]byte("v/"), func(_, value []byte) error {
				var e replica.Entry
				err := codec.Unmarshal(value, &e)
				entries = append(entries, e)
				return err
			}))
			must(t, v.Close())
			if len(entries) != len(w.open) {
				t.Errorf("%d volumes in the directory, want %d", len(entries), len(w.open))
			}
			for _, e := range entries {
				whole := e.ID == 1 && seed == 0
				if whole != (e.Cold == nil) || whole != (len(e.Copies) > 0) || !whole && e.Length == 0 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// TestClosedVolume: messages of a volume that nobody can open stay, those of one that is nowhere are dropped.
func TestClosedVolume(t *testing.T) {
	w := newWorld(t, 3)
	for range 30 {
		w.deliver()
	}
	closed := w.open[0]
	w.open = w.open[1:]
	w.checkpoint()
	must(t, w.set.Remove(closed.Header().ID))
	got, _ := w.rebuild("/rebuilt", Options{DropMissing: true, Closed: []volume.ID{closed.Header().ID}})
	w.compare(got)
	_, report := w.rebuild("/dropped", Options{DropMissing: true})
	for _, s := range report.Shards {
		if s.Dropped == 0 {
			t.Errorf("%+v", s)
		}
	}
}
