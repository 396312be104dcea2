package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// TestPowerCut takes what both disks would hold after a power cut, again and again under load: whatever was
// acknowledged before must be whole on both (I1).
func TestPowerCut(t *testing.T) {
	a, b := vfs.NewCrashableMem(), vfs.NewCrashableMem()
	g := newGroup(t, place{id: "a", region: "south", fs: a}, place{id: "b", region: "north", fs: b})
	g.openWith("a", "b")
	g.openWith("b", "a")
	w := g.write(6, "a", "b")
	rnd := rand.New(rand.NewPCG(1, 2))
	checked := 0
	for round := range 8 {
		time.Sleep(time.Duration(20+rnd.IntN(80)) * time.Millisecond)
		w.mu.Lock()
		var acked []volume.Ref
		for _, ref := range w.acked {
			acked = append(acked, ref)
		}
		w.mu.Unlock()
		percent := []int{0, 0, 50}[round%3]
		for id, fs := range map[string]*vfs.MemFS{"a": a, "b": b} {
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rnd})
			set, err := volume.OpenSet(clone, "/"+id, volume.SetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range acked {
				if err := holds(set, ref); err != nil {
					t.Fatalf("round %d: %s after a power cut: %v", round, id, err)
				}
				checked++
			}
			if err := set.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d acknowledged, %d checks", len(w.end()), checked)
}

func holds(set *volume.Set, ref volume.Ref) error {
	vol, err := set.Get(ref.Volume)
	if err != nil {
		return err
	}
	r, err := vol.OpenRef(ref, 0, ref.Length)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// full is a disk that can be filled: writes fail with ENOSPC as those of a file system do.
type full struct {
	vfs.FS
	on *atomic.Bool
}

func newFull() *full {
	on := new(atomic.Bool)
	fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate:
			if on.Load() {
				return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
			}
		}
		return nil
	}))
	return &full{FS: fs, on: on}
}

func (f *full) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	free := uint64(1 << 40)
	if f.on.Load() {
		free = 0
	}
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 41, UsedBytes: 1<<41 - free}, nil
}

func TestDiskFull(t *testing.T) {
	disk := newFull()
	places := three()
	g := newGroup(t, places[0], place{id: "b", region: "north", fs: disk}, places[2])
	g.at("b").kill()
	g.at("b").dir = filepath.Join(g.home, "b2")
	g.at("b").start(nil)
	g.ready("a", "b", "c")
	w := g.write(4, "a", "c")
	blob := g.at("a").blob(message(5, 4000))
	defer blob.Close()
	time.Sleep(200 * time.Millisecond)
	disk.on.Store(true)
	eventually(t, "b says why it is not ready", 5*time.Second, func() error {
		if err := g.at("b").m.Ready(); err == nil || !strings.Contains(err.Error(), "disk is full") {
			return fmt.Errorf("ready says %v", err)
		}
		return nil
	})
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if _, err := g.at("b").m.Append(ctx, Anywhere("north"), volume.KindMessage, nil, blob); !errors.Is(err, wire.ErrFull) {
		t.Errorf("append on a full disk: %v", err)
	}
	ref, err := g.at("b").m.Put(ctx, Anywhere("north"), volume.KindMessage, nil, blob)
	if err != nil {
		t.Errorf("put at a node whose disk is full: %v", err)
	} else if err := g.at("b").verify(ref, 5); err != nil {
		t.Error(err)
	}
	time.Sleep(500 * time.Millisecond)
	acked := w.end()
	w.stalls(t, 700*time.Millisecond)
	g.verifyAll(acked, "a", "b", "c")
	disk.on.Store(false)
	g.ready("b")
	g.openWith("a", "b", "c")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "b")
}

// TestNoteFree: between too little and enough, a full disk stays full and says how far it is.
func TestNoteFree(t *testing.T) {
	g := newGroup(t, three()...)
	m := g.at("a").m
	for _, step := range []struct {
		free uint64
		says string // part of the reason, "" when there is none
	}{
		{diskLow, ""},
		{diskLow - 1, "8388607 bytes free beyond the reserve"},
		{diskEnough - 1, "67108863 bytes free beyond the reserve, taken up again at 67108864"},
		{diskEnough, ""},
	} {
		m.noteFree(step.free)
		if err := m.full.reason(); (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("with %d bytes free: %v, expected %q", step.free, err, step.says)
		}
	}
}

// TestPartitionedPrimary: the second copy seals since it thinks the primary dead, which only cannot reach it.
func TestPartitionedPrimary(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	w := g.write(4, "a")
	time.Sleep(100 * time.Millisecond)
	g.cut("a", "b", true)
	time.Sleep(4500 * time.Millisecond) // silence, then PeerDown
	acked := w.end()
	g.cut("a", "b", false)
	g.verifyAll(acked, "a", "b", "c")
	g.openWith("a", "b", "c")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

// TestDirectoryDown: without the directory a failing copy costs nothing but the seal, which comes later.
func TestDirectoryDown(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	g.dir.setDown(true)
	w := g.write(4, "a")
	time.Sleep(100 * time.Millisecond)
	g.at("b").kill()
	time.Sleep(time.Second)
	acked := w.end()
	w.stalls(t, 700*time.Millisecond)
	g.dir.setDown(false)
	g.at("b").start(nil)
	g.ready("a", "b", "c")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
}

// TestLostDisk: a node comes back with nothing, also of volumes that nobody sealed yet.
func TestLostDisk(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	g.openWith("b", "a", "c")
	acked := make(map[uint64]volume.Ref)
	for i := range uint64(40) {
		acked[i] = g.at([]string{"a", "b"}[i%2]).mustPut(i, 3000)
	}
	g.at("b").kill()
	if err := os.RemoveAll(g.at("b").dir); err != nil {
		t.Fatal(err)
	}
	g.at("b").start(nil)
	g.ready("b")
	g.identical(20 * time.Second)
	g.verifyAll(acked, "a", "b", "c")
	if s := g.at("b").m.Stats(); s.Repairs == 0 || s.RepairedBytes == 0 {
		t.Errorf("nothing was repaired: %+v", s)
	}
}

func TestRotation(t *testing.T) {
	places := three()
	for i := range places {
		places[i].tune = func(c *Config) { c.MaxVolume = 256 << 10 }
	}
	g := newGroup(t, places...)
	g.openWith("a", "b", "c")
	w := g.write(6, "a")
	eventually(t, "several volumes are full", 20*time.Second, func() error {
		n := 0
		list, _ := g.dir.Volumes(context.Background())
		for _, e := range list {
			if e.State == Sealed {
				n++
			}
		}
		if n < 3 {
			return fmt.Errorf("%d sealed", n)
		}
		return nil
	})
	acked := w.end()
	// An append may meet a volume that ends before its replacement is open, and is made again elsewhere; none may fail.
	if s := g.at("a").m.Stats(); s.AppendFailures > 0 || s.Fences > 0 {
		t.Errorf("rotation disturbed appends: %d failures, %d fences", s.AppendFailures, s.Fences)
	}
	g.identical(20 * time.Second)
	g.verifyAll(acked, "b")
}

// TestCorruptCopy: damage on this node's disk is reported, and another copy serves, from where the first failed.
func TestCorruptCopy(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	const size = 3 << 20
	ref := g.at("a").mustPut(1, size)
	path := filepath.Join(g.at("a").dir, ref.Volume.String()+".vol")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), size/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.at("a").verify(ref, 1); err != nil {
		t.Error(err)
	}
	if s := g.at("a").m.Stats(); s.CorruptReads == 0 || s.ReadFailovers != 1 {
		t.Errorf("%d corrupt reads, %d failovers", s.CorruptReads, s.ReadFailovers)
	}
}

// TestReadFailsOver: the node that serves a read dies in the middle of it.
func TestReadFailsOver(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	const size = 5 << 20
	ref := g.at("a").mustPut(1, size)
	e, _ := g.dir.entry(ref.Volume)
	reader := "b"
	if e.Copies[1] == "b" {
		reader = "c"
	}
	first := g.at(reader).m.sources(context.Background(), ref.Volume)[0]
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	r, err := g.at(reader).m.Read(ctx, ref, 100, size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, size-100)
	if _, err := io.ReadFull(r, got[:segment/2]); err != nil {
		t.Fatal(err)
	}
	g.at(first).kill()
	if _, err := io.ReadFull(r, got[segment/2:]); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(message(1, size)[100:]) {
		t.Error("content differs")
	}
}

// TestReadLeavesSilentCopy: the nearest copy's node hangs, so that it neither answers nor breaks a connection. The other copy
// serves long before the silence counts as death.
func TestReadLeavesSilentCopy(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	ref := g.at("a").mustPut(1, 100_000)
	e, _ := g.dir.entry(ref.Volume)
	reader := "b"
	if e.Copies[1] == "b" {
		reader = "c"
	}
	n := g.at(reader)
	if err := n.verify(ref, 1); err != nil { // connections are open
		t.Fatal(err)
	}
	first := n.m.sources(context.Background(), ref.Volume)[0]
	g.cut(reader, first, true)
	defer g.cut(reader, first, false)
	start := time.Now()
	if err := n.verify(ref, 1); err != nil {
		t.Errorf("read while %s is silent: %v", first, err)
	}
	if took := time.Since(start); took > 3*readSilence { // the node is in doubt sooner, mostly
		t.Errorf("read took %v, expected at most some %v", took, readSilence)
	}
	if err := n.verify(ref, 1); err != nil || time.Since(start) > 4*readSilence {
		t.Errorf("the next read asked the silent copy first: %v after %v", err, time.Since(start))
	}
}

func TestReadUnknown(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	ref := g.at("a").mustPut(1, 100)
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	for what, change := range map[string]func(*volume.Ref){
		"volume": func(r *volume.Ref) { r.Volume = 4711 },
		"record": func(r *volume.Ref) { r.Record = 4711 },
		"hash":   func(r *volume.Ref) { r.Hash[0]++ },
		"length": func(r *volume.Ref) { r.Length++ },
	} {
		wrong := ref
		change(&wrong)
		if r, err := g.at("b").m.Read(ctx, wrong, 0, 100); err == nil {
			t.Errorf("another %s: read without an error", what)
			_ = r.Close()
		}
	}
}

func TestNothingLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		g := newGroup(t, three()...)
		g.openWith("a", "b", "c")
		g.at("a").mustPut(1, 2<<20)
		for _, id := range g.order {
			g.at(id).kill()
		}
		for _, r := range g.relays {
			r.close()
		}
	}()
	eventually(t, "goroutines end", 5*time.Second, func() error {
		if now := runtime.NumGoroutine(); now > before+2 {
			buf := make([]byte, 1<<16)
			return fmt.Errorf("%d goroutines, %d before\n%s", now, before, buf[:runtime.Stack(buf, true)])
		}
		return nil
	})
}

// TestClosedBlob: a caller that has gone away with its blob does no harm to the volumes.
func TestClosedBlob(t *testing.T) {
	g := newGroup(t, three()...)
	g.openWith("a", "b", "c")
	blob := g.at("a").blob(message(1, 1000))
	if err := blob.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	if _, err := g.at("a").m.Put(ctx, Anywhere("south"), volume.KindMessage, nil, blob); !errors.Is(err, volume.ErrClosed) {
		t.Errorf("put of a closed blob: %v", err)
	}
	if s := g.at("a").m.Stats(); s.Fences != 0 || s.OpenOwn != 2 {
		t.Errorf("%d fences, %d volumes open", s.Fences, s.OpenOwn)
	}
}
