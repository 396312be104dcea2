package replica

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// TestDirectoryNotReadYet: b is back with a damaged last record, or with a file of which nothing is known, before it could read the directory. Until then it changes
// nothing, and what it does not serve it does not deny.
func TestDirectoryNotReadYet(t *testing.T) {
	t.Parallel() // it mostly waits
	g, _ := newChecked(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	e, acked := sealedOne(t, g, 3)
	b := g.at("b")
	path := filepath.Join(b.dir, e.ID.String()+".vol")
	b.kill()
	g.rot("b", e, len(acked), len(acked)-1)
	if err := os.Remove(filepath.Join(b.dir, e.ID.String()+".idx")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	length := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	g.dir.setBlind(true)
	b.start(nil)
	a := g.at("a").m
	eventually(t, "b is up", 10*time.Second, func() error {
		if !a.Up("b") {
			return errors.New("not yet")
		}
		return nil
	})
	file := &otherCopy{m: a, ctx: t.Context(), entry: e, node: "b"}
	if _, err := file.ReadAt(make([]byte, 16), e.Length-100); !errors.Is(err, wire.ErrUnavailable) || Answered(file) {
		t.Errorf("what b may have: %v", err)
	}
	if _, err := file.ReadAt(make([]byte, 16), 4096); err != nil {
		t.Errorf("what b has: %v", err)
	}
	if _, err := a.fenceThere(t.Context(), a.cfg.Net.Call, "b", e); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("b ends a copy of which it does not know how long it is: %v", err)
	}
	empty, err := b.set.Create(volume.Header{ID: 1 << 40, Epoch: 1, Primary: "a", Copies: []string{"a", "b"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	b.m.sweep(&mending{orphans: map[volume.ID]time.Time{e.ID: long, empty.Header().ID: long}})
	if !g.has("b", e.ID) || !g.has("b", empty.Header().ID) || length() != e.Length {
		t.Errorf("b has changed what it does not know: volumes %v, %d bytes of %d", b.set.List(), length(), e.Length)
	}
	g.dir.setBlind(false)
	b.m.kick()
	g.wholeOn("b", e)
	eventually(t, "b's last record is mended in its place", 20*time.Second, func() error {
		if length() != e.Length {
			t.Fatalf("%d bytes of %d", length(), e.Length)
		}
		good, err := g.at("a").raw(e.ID, e.Length)
		return errors.Join(err, g.same(e, good, "b"))
	})
}

// TestSealedHere: a file that its entry does not name any more may be what the others are mended from.
func TestSealedHere(t *testing.T) {
	e := Entry{ID: 7, State: Sealed, Generation: 2, Length: 8192, Last: 3, Copies: []string{"a", "c"}}
	open, cold := e, e
	open.State, cold.Cold = Open, &Cold{}
	for name, c := range map[string]struct {
		entries map[volume.ID]Entry
		want    volume.Sealed
	}{
		"unknown":   {nil, volume.Sealed{Unsure: true}},
		"elsewhere": {map[volume.ID]Entry{7: e}, volume.Sealed{Generation: 2, Length: 8192, Last: 3}},
		"open":      {map[volume.ID]Entry{7: open}, volume.Sealed{}},
		"cold":      {map[volume.ID]Entry{7: cold}, volume.Sealed{}},
	} {
		m := &Manager{cfg: Config{ID: "b"}, entries: c.entries}
		if got := m.sealedHere(7); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
