package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"hongyan/engine/volume"
)

// earlyThree are nodes that enter early whatever the distance, unless that is given.
func earlyThree(tune ...func(*Config)) []place {
	places := three()
	for i := range places {
		places[i].tune = func(c *Config) {
			c.EarlyFrom, c.AckTimeout = -1, 20*time.Second // a disk that others keep busy is no failure
			for _, f := range tune {
				f(c)
			}
		}
	}
	return places
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	t.Cleanup(stop)
	return ctx
}

// putEarly takes steps 1 and 2 at a node, with the other copy in the region of b.
func (n *member) putEarly(ctx context.Context, seed uint64) *Early {
	n.t.Helper()
	b := n.blob(message(seed, 2000))
	defer b.Close()
	e := n.m.PutEarly(ctx, Anywhere("north"), volume.KindMessage, []byte("meta"), b)
	if e == nil {
		n.t.Fatal("not put early")
	}
	return e
}

// spread says what a node knows of a record.
func (n *member) spread(ref volume.Ref, d time.Duration) (through uint64, sealed bool, err error) {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	return n.m.Spread(ctx, ref.Volume, ref.Record)
}

func TestEarly(t *testing.T) {
	g := newGroup(t, earlyThree()...)
	for _, id := range g.order {
		g.openWith(id, others(id)...)
	}
	a := g.at("a")
	for seed := range uint64(3) {
		e := a.putEarly(within(t, 5*time.Second), seed)
		if err := e.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range g.order {
			if through, sealed, err := g.at(id).spread(e.Ref, 5*time.Second); err != nil || through < e.Ref.Record || sealed {
				t.Errorf("%s: record %d has spread up to %d, sealed %v, %v", id, e.Ref.Record, through, sealed, err)
			}
			if err := g.at(id).verify(e.Ref, seed); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	if got := a.m.Stats(); got.EarlyAppends != 3 || got.Appends != 3 {
		t.Errorf("%d early of %d", got.EarlyAppends, got.Appends)
	}
	big := a.blob(message(9, 2<<20))
	defer big.Close()
	if a.m.PutEarly(t.Context(), Anywhere("south"), volume.KindMessage, nil, big) != nil {
		t.Error("a large blob was put early")
	}
}

// TestEarlyOnlyFar: between near nodes the safe order costs nothing.
func TestEarlyOnlyFar(t *testing.T) {
	g := newGroup(t, earlyThree(func(c *Config) { c.EarlyFrom = time.Hour })...)
	g.openWith("a", "b", "c")
	small := g.at("a").blob(message(9, 2000))
	defer small.Close()
	if g.at("a").m.PutEarly(t.Context(), Anywhere("south"), volume.KindMessage, nil, small) != nil {
		t.Error("put early although the other copy is near")
	}
}

func others(id string) (list []string) {
	for _, other := range []string{"a", "b", "c"} {
		if other != id {
			list = append(list, other)
		}
	}
	return list
}

// lost waits until nodes know a record to be lost, and checks that all who could read it agree.
func (g *group) lost(ref volume.Ref, nodes ...string) {
	g.t.Helper()
	for _, id := range nodes {
		through, sealed, err := g.at(id).spread(ref, 15*time.Second)
		if err != nil || !sealed || through >= ref.Record {
			g.t.Errorf("%s: record %d has spread up to %d, sealed %v, %v", id, ref.Record, through, sealed, err)
			continue
		}
		e, _ := g.at(id).m.Entry(ref.Volume)
		if e.Length == 0 { // dropped, or about to be
			continue
		}
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		if last, err := g.at(id).m.LastRecord(ctx, e); err != nil || last != through {
			g.t.Errorf("%s: the last record is %d, %v; was %d", id, last, err, through)
		}
		stop()
	}
}

// TestEarlyCopyFenced: the copy takes no more after step 1. Nobody may show the record, the wait ends in time for another put, and the
// seal takes the record away.
func TestEarlyCopyFenced(t *testing.T) {
	g := newGroup(t, earlyThree()...)
	g.openWith("a", "b", "c")
	a, b := g.at("a"), g.at("b")
	kept := a.putEarly(within(t, 5*time.Second), 1)
	if err := kept.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := g.putCut(t, 2)
	if through, sealed, err := a.spread(e.Ref, 100*time.Millisecond); err == nil {
		t.Errorf("the primary shows it: up to %d, sealed %v", through, sealed)
	}
	if _, err := b.m.fenceHere(e.Ref.Volume, 1); err != nil {
		t.Fatal(err)
	}
	g.cut("a", "b", false)
	if err := e.Wait(t.Context()); err == nil {
		t.Fatal("acknowledged by nobody")
	}
	ref := a.mustPut(2, 2000)
	if ref.Volume == e.Ref.Volume {
		t.Error("put again on the same volume")
	}
	g.lost(e.Ref, g.order...)
	if through, _, err := a.spread(kept.Ref, time.Second); err != nil || through < kept.Ref.Record {
		t.Errorf("the record before is known up to %d, %v", through, err)
	}
	if err := g.at("c").verify(ref, 2); err != nil {
		t.Error(err)
	}
}

// putCut cuts a from b and puts on the volume that they have, before a doubts b and takes another.
func (g *group) putCut(t *testing.T, seed uint64) *Early {
	t.Helper()
	a := g.at("a")
	for {
		eventually(t, "b is sound", 20*time.Second, func() error {
			if a.m.cfg.Net.InDoubt("b") {
				return errors.New("in doubt")
			}
			return nil
		})
		g.cut("a", "b", true)
		e := a.putEarly(within(t, 20*time.Second), seed)
		if entry, ok := a.m.entry(e.Ref.Volume); ok && entry.Holds("b") {
			return e
		}
		g.cut("a", "b", false)
		if err := e.Wait(t.Context()); err != nil {
			t.Logf("put again: %v", err)
		}
	}
}

// TestEarlyCopyCut: the copy hears nothing after step 1. The wait ends in time for another put.
func TestEarlyCopyCut(t *testing.T) {
	const patience = 4 * time.Second
	g := newGroup(t, earlyThree(func(c *Config) { c.AckTimeout = patience })...)
	g.openWith("a", "b", "c")
	a := g.at("a")
	e := g.putCut(t, 2)
	began := time.Now()
	if err := e.Wait(t.Context()); err == nil {
		t.Fatal("acknowledged by nobody")
	}
	if d := time.Since(began); d > patience {
		t.Errorf("waited %v", d)
	}
	ref := a.mustPut(2, 2000)
	if ref.Volume == e.Ref.Volume {
		t.Error("put again on the same volume")
	}
	if err := g.at("c").verify(ref, 2); err != nil {
		t.Error(err)
	}
	// The primary's node seals the volume without the copy, where it is itself: then the record stays.
	for _, id := range []string{"a", "c"} {
		if through, sealed, err := g.at(id).spread(e.Ref, 15*time.Second); err != nil || !sealed || through < e.Ref.Record {
			t.Errorf("%s: spread up to %d, sealed %v, %v", id, through, sealed, err)
		}
	}
}

// TestEarlyCopyDoubted: somebody waits for a record whose other copy's node is in doubt. Long before that copy counts as late, the primary's node seals the volume,
// with the record in it.
func TestEarlyCopyDoubted(t *testing.T) {
	g := newGroup(t, earlyThree()...)
	g.openWith("a", "b", "c")
	a := g.at("a")
	e := g.putCut(t, 2)
	if through, sealed, err := a.spread(e.Ref, a.m.cfg.AckTimeout/2); err != nil || !sealed || through < e.Ref.Record {
		t.Errorf("spread up to %d, sealed %v, %v", through, sealed, err)
	}
	if err := g.at("c").verify(e.Ref, 2); err != nil {
		t.Error(err)
	}
	if err := e.Wait(t.Context()); err == nil {
		t.Error("acknowledged by nobody")
	}
}

// TestEarlyCopySlow: a hole shorter than what fences a volume. The put is given up, the record gets there all the same.
func TestEarlyCopySlow(t *testing.T) {
	g := newGroup(t, earlyThree(func(c *Config) { c.AckTimeout = 4 * time.Second })...)
	g.openWith("a", "b", "c")
	e := g.putCut(t, 2)
	if err := e.Wait(t.Context()); err == nil {
		t.Fatal("acknowledged by nobody")
	}
	g.cut("a", "b", false)
	for _, id := range g.order {
		if through, _, err := g.at(id).spread(e.Ref, 10*time.Second); err != nil || through < e.Ref.Record {
			t.Errorf("%s: spread up to %d, %v", id, through, err)
		}
		if err := g.at(id).verify(e.Ref, 2); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestEarlyPrimaryDies after step 2, before the copy has the record, and comes back with it on its disk. Its last seal, which it could enter
// without the copy, may keep the record; then all know that, and it is readable once the primary is back.
func TestEarlyPrimaryDies(t *testing.T) {
	for _, directory := range []bool{true, false} {
		t.Run(fmt.Sprintf("directory %v", directory), func(t *testing.T) {
			g := newGroup(t, earlyThree()...)
			g.openWith("a", "b", "c")
			a := g.at("a")
			kept := a.putEarly(within(t, 5*time.Second), 1)
			if err := kept.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			e := g.putCut(t, 2)
			g.dir.setDown(!directory) // for the time of its death
			a.kill()
			g.dir.setDown(false)
			through := make(map[string]uint64)
			for _, id := range []string{"b", "c"} {
				n, sealed, err := g.at(id).spread(e.Ref, 15*time.Second)
				if err != nil || !sealed {
					t.Errorf("%s: spread up to %d, sealed %v, %v", id, n, sealed, err)
				}
				through[id] = n
			}
			if through["b"] != through["c"] || e.Ref.Volume == kept.Ref.Volume && through["b"] < kept.Ref.Record {
				t.Errorf("the last record is %v; %v after %v", through, e.Ref, kept.Ref)
			}
			g.cut("a", "b", false)
			a.start(nil)
			g.identical(30 * time.Second)
			for _, id := range g.order {
				if err := g.at(id).verify(e.Ref, 2); (err == nil) != (through["b"] >= e.Ref.Record) {
					t.Errorf("%s: sealed after record %d, reading %d gives %v", id, through["b"], e.Ref.Record, err)
				}
				if err := g.at(id).verify(kept.Ref, 1); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
}

// TestEarlyShownStays: what the copy's node shows outlives either node, also if no acknowledgement reached the primary.
func TestEarlyShownStays(t *testing.T) {
	for _, dies := range []string{"primary", "copy", "both"} {
		t.Run(dies, func(t *testing.T) {
			g := newGroup(t, earlyThree()...)
			g.openWith("a", "b", "c")
			a, b := g.at("a"), g.at("b")
			e := a.putEarly(within(t, 5*time.Second), 1)
			if through, _, err := b.spread(e.Ref, 5*time.Second); err != nil || through < e.Ref.Record {
				t.Fatalf("spread up to %d, %v", through, err)
			}
			for _, n := range map[string][]*member{"primary": {a}, "copy": {b}, "both": {a, b}}[dies] {
				n.kill()
			}
			if dies == "both" {
				a.start(nil)
				b.start(nil)
			}
			c := g.at("c")
			eventually(t, "the volume is sealed", 15*time.Second, func() error {
				through, sealed, err := c.spread(e.Ref, time.Second)
				entry, _ := c.m.Entry(e.Ref.Volume)
				if err == nil && through < e.Ref.Record {
					t.Fatalf("sealed %v after record %d, %d was shown", sealed, through, e.Ref.Record)
				}
				if entry.State != Sealed {
					return fmt.Errorf("up to %d, sealed %v, %v", through, sealed, err)
				}
				last, err := c.m.LastRecord(within(t, time.Second), entry)
				if err == nil && last < e.Ref.Record {
					t.Fatalf("sealed after record %d, %d was shown", last, e.Ref.Record)
				}
				return err
			})
			if err := c.verify(e.Ref, 1); err != nil {
				t.Error(err)
			}
		})
	}
}
