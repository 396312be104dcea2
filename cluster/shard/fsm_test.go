package shard

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/cluster/feature"
	"hongyan/engine/effort"
)

func newTestFSM(t *testing.T, fs vfs.FS) (*fsm, *tally) {
	t.Helper()
	r := mustRoom(t, fs, raft.NewInmemStore())
	return r.fsm, &r.tally
}

// entries makes a run of log entries that begins at first.
func entries(first uint64, commands ...Command) []*raft.Log {
	var out []*raft.Log
	for i, c := range commands {
		out = append(out, &raft.Log{Index: first + uint64(i), Term: 1, Type: raft.LogCommand, Data: c.Encode()})
	}
	return out
}

func outcomes(t *testing.T, f *fsm, logs []*raft.Log) []outcome {
	t.Helper()
	var out []outcome
	for _, o := range f.ApplyBatch(logs) {
		out = append(out, o.(outcome))
	}
	return out
}

// A request that is in the log twice, in one batch or in two, is applied once, and both proposals get its result.
func TestRequestIsAppliedOnce(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	a, b := commandEntry("x", 1), commandEntry("x", 2)
	got := outcomes(t, f, entries(1, a, b, a))
	got = append(got, outcomes(t, f, entries(4, b, a))...)
	for i, want := range []uint64{1, 2, 1, 2, 1} {
		if got[i].err != nil || count(got[i].result) != want || got[i].index != uint64(1+i) {
			t.Errorf("entry %d: %d at %d, %v", i+1, count(got[i].result), got[i].index, got[i].err)
		}
	}
	if n := stored(t, f.store, "x"); n != 2 {
		t.Errorf("applied %d times", n)
	}
}

// Commands that share an entry are applied one behind the other, each with its result, all of them once.
func TestBundleIsAppliedOnce(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	c := Command{Level: feature.Bundles, ID: RequestID{7}, Bodies: [][]byte{[]byte("x"), []byte("refused"), []byte("y"), []byte("x")}}
	for i, o := range outcomes(t, f, entries(1, c, c)) {
		results, err := decodeList(o.result)
		if o.err != nil || err != nil || len(results) != len(c.Bodies) {
			t.Fatalf("entry %d: %q, %v, %v", i+1, o.result, o.err, err)
		}
		if count(results[0]) != 1 || string(results[1]) != "no" || count(results[2]) != 1 || count(results[3]) != 2 {
			t.Errorf("entry %d: %q", i+1, results)
		}
	}
	if x, y := stored(t, f.store, "x"), stored(t, f.store, "y"); x != 2 || y != 1 {
		t.Errorf("applied %d and %d times", x, y)
	}
}

// If the store fails in the middle of an entry nothing of it is applied.
func TestBundleOfAFailedStore(t *testing.T) {
	f, m := newTestFSM(t, vfs.NewMem())
	m.failsAt.Store("y")
	c := Command{Level: feature.Bundles, ID: RequestID{7}, Bodies: [][]byte{[]byte("x"), []byte("y")}}
	if got := outcomes(t, f, entries(1, c)); got[0].err == nil || f.failure() == nil {
		t.Error("it goes on")
	}
	if n := stored(t, f.store, "x"); n != 0 {
		t.Errorf("applied %d times", n)
	}
}

// A refusal is a result like any other: the same when the request is repeated, although it might be granted by now.
func TestRefusalIsRemembered(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	c := commandEntry("refused", 1)
	got := outcomes(t, f, entries(1, c, c))
	if string(got[0].result) != "no" || string(got[1].result) != "no" {
		t.Errorf("%q, then %q", got[0].result, got[1].result)
	}
}

// Entries that the store holds already are passed over: after a restart, which begins at the latest snapshot, and within a batch.
func TestHeldEntriesArePassedOver(t *testing.T) {
	f, m := newTestFSM(t, vfs.NewMem())
	run := entries(1, commandEntry("x", 1), commandEntry("x", 2), commandEntry("x", 3))
	outcomes(t, f, run)
	commits := m.committed.Load()
	outcomes(t, f, run[1:])
	if m.committed.Load() != commits || f.applied.Load() != 3 {
		t.Errorf("committed again, at %d", f.applied.Load())
	}
	again := append(run[2:], entries(4, commandEntry("x", 4))...)
	got := outcomes(t, f, again)
	if got[0].err == nil {
		t.Error("a proposal whose entry was passed over has no result, and no error either")
	}
	if count(got[1].result) != 4 || stored(t, f.store, "x") != 4 || f.applied.Load() != 4 {
		t.Errorf("%d at %d", stored(t, f.store, "x"), f.applied.Load())
	}
}

// Entries of other kinds move the applied index and nothing else.
func TestConfigurationEntry(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	got := outcomes(t, f, []*raft.Log{{Index: 1, Type: raft.LogConfiguration, Data: []byte("not a command")}})
	if got[0].err != nil || f.applied.Load() != 1 {
		t.Errorf("%v, applied %d", got[0].err, f.applied.Load())
	}
}

// A result that is too large to be remembered must not stop the replicas: they would all stop, and again at each start.
func TestLargeResultStopsNobody(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	got := outcomes(t, f, entries(1, commandEntry("large", 1), commandEntry("x", 2), commandEntry("large", 1)))
	for i, o := range got {
		if o.err != nil {
			t.Errorf("entry %d: %v", i+1, o.err)
		}
	}
	if f.failure() != nil || stored(t, f.store, "large") != 1 || stored(t, f.store, "x") != 1 {
		t.Errorf("%v, applied %d and %d times", f.failure(), stored(t, f.store, "large"), stored(t, f.store, "x"))
	}
}

// A store that fails stops the machine for good: nothing of the batch is visible, waiters hear of it, nothing more is applied.
func TestFailedStoreStops(t *testing.T) {
	f, m := newTestFSM(t, vfs.NewMem())
	outcomes(t, f, entries(1, commandEntry("x", 1)))
	waited := make(chan error, 1)
	go func() { waited <- f.wait(context.Background(), 2) }()
	m.fails.Store(true)
	for _, o := range outcomes(t, f, entries(2, commandEntry("x", 2), commandEntry("x", 3))) {
		if !errors.Is(o.err, errDisk) {
			t.Errorf("outcome %v", o.err)
		}
	}
	if err := <-waited; !errors.Is(err, errDisk) {
		t.Errorf("waiter got %v", err)
	}
	m.fails.Store(false)
	if o := outcomes(t, f, entries(2, commandEntry("x", 2))); !errors.Is(o[0].err, errDisk) || stored(t, f.store, "x") != 1 {
		t.Errorf("goes on after a failure: %v", o[0].err)
	}
	if _, err := f.Snapshot(); err == nil {
		t.Error("promises a snapshot")
	}
}

func TestWaitEnds(t *testing.T) {
	f, _ := newTestFSM(t, vfs.NewMem())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := f.wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for nothing: %v", err)
	}
	outcomes(t, f, entries(1, commandEntry("x", 1)))
	must(t, f.wait(context.Background(), 1))
}

// Entries that write much are committed in several batches, though raft gives them at once: a replica that catches up gets 128.
func TestLargeBatchesAreCut(t *testing.T) {
	f, m := newTestFSM(t, vfs.NewMem())
	var commands []Command
	count := effort.Of(20, 40, 40)
	for i := range count {
		commands = append(commands, commandEntry("heavy"+string(rune('0'+i)), byte(i)))
	}
	for i, o := range outcomes(t, f, entries(1, commands...)) {
		if o.err != nil || o.index != uint64(1+i) {
			t.Fatalf("entry %d: %d, %v", i+1, o.index, o.err)
		}
	}
	if n := m.committed.Load(); n < int64(count)*2<<20/maxBatch || n > 8 || f.applied.Load() != uint64(count) {
		t.Errorf("%d batches, applied %d", n, f.applied.Load())
	}
}
