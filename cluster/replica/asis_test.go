package replica

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hongyan/engine/volume"
)

// TestDiskRebuiltFromADamagedOne: b's disk is replaced while a's has lost a record. What lies behind it comes to b all the same, and the lost record is an
// error on both, also if it is the last, and after a restart.
func TestDiskRebuiltFromADamagedOne(t *testing.T) {
	for name, hit := range map[string]func(length int) int{
		"in the middle": func(n int) int { return n / 2 }, // ten records of one size: within the sixth
		"at the end":    func(n int) int { return n - 100 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			rebuiltFromADamagedOne(t, hit)
		})
	}
}

func rebuiltFromADamagedOne(t *testing.T, hit func(length int) int) {
	g := newGroup(t, place{id: "a", region: "south"}, place{id: "b", region: "north"})
	g.openWith("a", "b")
	acked := g.at("a").putMany(10)
	g.at("b").kill()
	if err := os.RemoveAll(g.at("b").dir); err != nil {
		t.Fatal(err)
	}
	id := acked[0].Volume
	path := filepath.Join(g.at("a").dir, id.String()+".vol")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xee}, 16), int64(hit(len(b))))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	g.sealed(acked)
	g.at("b").start(nil)
	g.identical(60 * time.Second)
	g.wholeOn("b", must(g.dir.entry(id)))
	g.at("b").kill()
	if err := os.Remove(filepath.Join(g.at("b").dir, id.String()+".idx")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	g.at("b").start(nil)
	g.wholeOn("b", must(g.dir.entry(id)))
	lost := 0
	for seed, ref := range acked {
		if ref.Volume != id {
			continue
		}
		err := holds(g.at("b").set, ref)
		var corrupt *volume.CorruptError
		if errors.As(err, &corrupt) || err == nil && g.at("b").verify(ref, seed) != nil {
			lost++
		} else if err != nil {
			t.Errorf("message %d on b: %v", seed, err)
		}
	}
	if lost != 1 {
		t.Errorf("%d records are lost, one was damaged", lost)
	}
}
