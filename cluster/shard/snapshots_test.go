package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"hongyan/engine/durable"
	"hongyan/engine/index"
)

// machineRoom is what one replica has without raft's goroutines: its index, snapshot record, log and state machine.
type machineRoom struct {
	*fsm
	db   *index.DB
	logs *raft.InmemStore
	tally
}

// openRoom opens what is on fs. The log survives crashes by itself: it stands for a store that fsyncs.
func openRoom(fs vfs.FS, logs *raft.InmemStore) (*machineRoom, error) {
	db, err := index.Open(fs, "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		return nil, err
	}
	r := &machineRoom{db: db, logs: logs}
	snaps, err := openSnapshots(fs, "snapshot", testShard, db.Shard(testShard), logs)
	if err == nil {
		err = syncNames(fs, "/")
	}
	if err == nil {
		r.fsm, err = newFSM(db.Shard(testShard), &r.tally, snaps, slog.New(slog.NewTextHandler(io.Discard, nil)))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return r, nil
}

func mustRoom(t *testing.T, fs vfs.FS, logs *raft.InmemStore) *machineRoom {
	t.Helper()
	r, err := openRoom(fs, logs)
	must(t, err)
	t.Cleanup(func() { must(t, r.db.Close()) })
	return r
}

// fill applies entries first to last, one count of "x" each, and puts them in the log.
func (r *machineRoom) fill(t *testing.T, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		id := RequestID{byte(i), byte(i >> 8)}
		l := entries(i, Command{ID: id, Body: []byte("x")})
		must(t, r.logs.StoreLogs(l))
		if o := outcomes(t, r.fsm, l)[0]; o.err != nil {
			t.Fatal(o.err)
		}
	}
}

// take has the replica take a snapshot of its own, as raft would at entry at.
func (r *machineRoom) take(at uint64) error {
	snap, err := r.Snapshot()
	if err != nil {
		return err
	}
	sink, err := r.snaps.Create(1, at, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return err
	}
	return snap.Persist(sink)
}

// receive writes another replica's snapshot as raft does, up to the moment before its installation.
func (r *machineRoom) receive(stream []byte, at, term uint64) (raft.SnapshotSink, error) {
	sink, err := r.snaps.Create(1, at, term, raft.Configuration{}, 1, nil)
	if err != nil {
		return nil, err
	}
	if _, err := sink.Write(bytes.Clone(stream)); err != nil { // a MemFS may scribble over it
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, sink.Close()
}

func (r *machineRoom) install(id string) error {
	_, body, err := r.snaps.Open(id)
	if err != nil {
		return err
	}
	defer body.Close()
	return r.Restore(body)
}

// catchUp is both.
func (r *machineRoom) catchUp(stream []byte, at, term uint64) error {
	sink, err := r.receive(stream, at, term)
	if err != nil {
		return err
	}
	return r.install(sink.ID())
}

// listed is the index of the snapshot that raft would be shown, 0 for none.
func (r *machineRoom) listed(t testing.TB) uint64 {
	t.Helper()
	list, err := r.snaps.List()
	must(t, err)
	if len(list) == 0 {
		return 0
	}
	return list[0].Index
}

// leaderStream is the saved state of a leader at an entry.
func leaderStream(t *testing.T, at uint64) []byte {
	t.Helper()
	r := mustRoom(t, vfs.NewMem(), raft.NewInmemStore())
	r.fill(t, 1, at)
	var b bytes.Buffer
	_, err := r.store.Save(&b)
	must(t, err)
	return b.Bytes()
}

// powerCuts keeps what a power cut would leave before each write and fsync.
type powerCuts struct {
	fs *vfs.MemFS

	mu    sync.Mutex // guards the rest
	armed bool
	rng   *rand.Rand
	cuts  []*vfs.MemFS
}

func newPowerCuts(seed1, seed2 uint64) *powerCuts {
	return &powerCuts{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed1, seed2))}
}

// MaybeError implements errorfs.Injector.
func (p *powerCuts) MaybeError(op errorfs.Op) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		p.cuts = append(p.cuts, p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p.rng.IntN(101), RNG: p.rng}))
	}
	return nil
}

func (*powerCuts) String() string { return "power cuts" }

func (p *powerCuts) during(f func()) {
	p.arm(true)
	f()
	p.arm(false)
}

func (p *powerCuts) arm(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = on
}

// Power is cut at every write and fsync while a snapshot is received, installed and listed, and again while the replica
// opens. What is listed then is in the state, and the state is the old or the new one.
func TestPowerCutWhileCatchingUp(t *testing.T) {
	const before, leader, listed = 7, 40, 30
	stream := leaderStream(t, leader)
	p := newPowerCuts(1, 2)
	r := mustRoom(t, errorfs.Wrap(p.fs, p), raft.NewInmemStore())
	r.fill(t, 1, before)
	must(t, r.db.Flush())
	p.during(func() { must(t, r.catchUp(stream, listed, 2)) })
	if len(p.cuts) < 10 {
		t.Fatalf("only %d moments", len(p.cuts))
	}
	old, moved := 0, 0
	for i, fs := range p.cuts {
		logs := raft.NewInmemStore()
		for at := range uint64(before) {
			must(t, logs.StoreLogs(entries(at+1, Command{ID: RequestID{byte(at + 1)}, Body: []byte("x")})))
		}
		again, err := openRoom(fs, logs)
		if err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		switch at, list := again.applied.Load(), again.listed(t); {
		case stored(t, again.store, "x") != at:
			t.Errorf("cut %d: %d counted at %d", i, stored(t, again.store, "x"), at)
		case at == before && list == 0:
			old++
		case at == leader && (list == 0 || list == listed):
			moved++
		default:
			t.Errorf("cut %d: at %d, listed %d", i, at, list)
		}
		if last, err := logs.LastIndex(); err != nil || again.listed(t) > 0 && last != 0 {
			t.Errorf("cut %d: the log goes to %d although a snapshot replaced it, %v", i, last, err)
		}
		if err := again.catchUp(stream, listed, 2); err != nil || again.listed(t) != listed || again.applied.Load() != leader {
			t.Errorf("cut %d: second attempt: listed %d, %v", i, again.listed(t), err)
		}
		must(t, again.db.Close())
	}
	if old == 0 || moved == 0 {
		t.Errorf("%d cuts left the old state, %d the new one", old, moved)
	}
}

// Power is cut at every write and fsync while a replica takes a snapshot of its own.
func TestPowerCutWhileTakingSnapshot(t *testing.T) {
	p := newPowerCuts(3, 4)
	r := mustRoom(t, errorfs.Wrap(p.fs, p), raft.NewInmemStore())
	for n := uint64(1); n <= 3; n++ {
		r.fill(t, n*10-9, n*10)
		p.during(func() { must(t, r.take(n*10)) })
	}
	p.cuts = append(p.cuts, p.fs.CrashClone(vfs.CrashCloneCfg{}))
	for i, fs := range p.cuts {
		again, err := openRoom(fs, raft.NewInmemStore())
		if err != nil {
			t.Fatalf("cut %d of %d: %v", i, len(p.cuts), err)
		}
		if at := again.applied.Load(); at < again.listed(t) || stored(t, again.store, "x") != at {
			t.Errorf("cut %d: state at %d, listed %d", i, at, again.listed(t))
		}
		if i == len(p.cuts)-1 && again.listed(t) != 30 {
			t.Errorf("listed %d after all is done", again.listed(t))
		}
		must(t, again.db.Close())
	}
}

// A snapshot of the replica's own that was begun before, and ends while, another arrives neither takes its place nor
// disturbs its installation: raft takes them in a goroutine of their own.
func TestOwnSnapshotMeetsReceivedOne(t *testing.T) {
	stream := leaderStream(t, 40)
	r := mustRoom(t, vfs.NewMem(), raft.NewInmemStore())
	r.fill(t, 1, 10)
	own, err := r.snaps.Create(1, 10, 1, raft.Configuration{}, 1, nil)
	must(t, err)
	late, err := r.snaps.Create(1, 10, 1, raft.Configuration{}, 1, nil)
	must(t, err)
	snap, err := r.Snapshot()
	must(t, err)
	sink, err := r.receive(stream, 30, 2)
	must(t, err)
	must(t, snap.Persist(own)) // listed between arrival and installation
	must(t, r.install(sink.ID()))
	if r.listed(t) != 30 || r.failure() != nil {
		t.Fatalf("listed %d, %v", r.listed(t), r.failure())
	}
	if err := snap.Persist(late); err == nil {
		t.Error("raft was told that its last snapshot is an older one")
	}
	if r.listed(t) != 30 {
		t.Errorf("listed %d after an older one was taken", r.listed(t))
	}
}

// Entries that a leader of an earlier term left are not what the snapshot stands for. Kept, they would be sent to others as
// committed once this replica leads.
func TestSnapshotReplacesTheLog(t *testing.T) {
	stream := leaderStream(t, 40)
	for _, c := range []struct {
		name       string
		last, term uint64 // of the log; the snapshot is of 30 in term 2
		kept       bool
	}{
		{"shorter", 10, 1, false}, {"of another term", 35, 1, false}, {"the same and longer", 35, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mustRoom(t, vfs.NewMem(), raft.NewInmemStore())
			for i := uint64(1); i <= c.last; i++ {
				must(t, r.logs.StoreLog(&raft.Log{Index: i, Term: c.term, Type: raft.LogNoop}))
			}
			must(t, r.catchUp(stream, 30, 2))
			last, err := r.logs.LastIndex()
			must(t, err)
			if kept := last == c.last; kept != c.kept || !kept && last != 0 {
				t.Errorf("the log ends at %d", last)
			}
		})
	}
}

// A snapshot that cannot be read or put in place leaves the replica as it was: the leader will send another.
func TestSnapshotNotInstalled(t *testing.T) {
	stream := leaderStream(t, 40)
	var full error
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate {
			return full
		}
		return nil
	}))
	r := mustRoom(t, fs, raft.NewInmemStore())
	r.fill(t, 1, 10)
	broken := bytes.Clone(stream)
	broken[len(broken)/2] ^= 1
	if err := r.catchUp(broken, 30, 2); err == nil {
		t.Error("a damaged stream was installed")
	}
	sink, err := r.receive(stream, 30, 2)
	must(t, err)
	full = errDisk
	if err := r.install(sink.ID()); !errors.Is(err, errDisk) {
		t.Errorf("installed on a full disk: %v", err)
	}
	if r.failure() != nil || r.applied.Load() != 10 || stored(t, r.store, "x") != 10 || r.listed(t) != 0 {
		t.Fatalf("at %d, listed %d, %v", r.applied.Load(), r.listed(t), r.failure())
	}
	if r.hitch() == nil {
		t.Error("nobody hears of it")
	}
	full = nil
	r.fill(t, 11, 12)
	must(t, r.catchUp(stream, 30, 2))
	if r.applied.Load() != 40 || r.listed(t) != 30 || r.hitch() != nil {
		t.Errorf("at %d, listed %d, %v", r.applied.Load(), r.listed(t), r.hitch())
	}
}

// What a slower leader sends may be older than this replica's state, which came from a faster one. What was seen here stays.
func TestStateNeverGoesBack(t *testing.T) {
	r := mustRoom(t, vfs.NewMem(), raft.NewInmemStore())
	must(t, r.catchUp(leaderStream(t, 40), 20, 2))
	must(t, r.catchUp(leaderStream(t, 35), 30, 3))
	if r.applied.Load() != 40 || stored(t, r.store, "x") != 40 || r.listed(t) != 30 {
		t.Errorf("at %d with %d, listed %d", r.applied.Load(), stored(t, r.store, "x"), r.listed(t))
	}
}

// An index from before the snapshot record, as a restored or swapped disk has it, lacks entries that the log no longer has.
func TestOldIndexIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	logs := raft.NewInmemStore()
	r, err := openRoom(mem, logs)
	must(t, err)
	r.fill(t, 1, 10)
	must(t, r.take(10))
	must(t, r.db.Close())
	must(t, mem.RemoveAll("index"))
	if r, err := openRoom(mem, logs); err == nil {
		must(t, r.db.Close())
		t.Fatal("started on an index that lacks entries 1 to 10")
	}
}

// What a crash left behind is gone after the next start; a record that cannot be read is said.
func TestSnapshotLeftovers(t *testing.T) {
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("snapshot", 0o700))
	for _, name := range []string{receivedName, "outgoing-1.tmp", recordName + ".tmp"} {
		f, err := mem.Create(mem.PathJoin("snapshot", name), vfs.WriteCategoryUnspecified)
		must(t, err)
		must(t, f.Close())
	}
	r := mustRoom(t, mem, raft.NewInmemStore())
	if names, err := mem.List("snapshot"); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	if _, _, err := r.snaps.Open(currentID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opened a snapshot that is not there: %v", err)
	}
	must(t, durable.Replace(mem, mem.PathJoin("snapshot", recordName), []byte("junk"), vfs.WriteCategoryUnspecified))
	if _, err := openSnapshots(mem, "snapshot", testShard, r.store, r.logs); err == nil {
		t.Error("a damaged record was taken for none")
	}
}

// Two followers at once get a snapshot each, and no file is left.
func TestOutgoingSnapshots(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRoom(t, mem, raft.NewInmemStore())
	r.fill(t, 1, 10)
	must(t, r.take(10))
	r.fill(t, 11, 12)
	var bodies []io.ReadCloser
	for range 2 {
		meta, body, err := r.snaps.Open(currentID)
		must(t, err)
		if meta.Index != 10 || meta.Size == 0 {
			t.Errorf("%+v", meta)
		}
		bodies = append(bodies, body)
	}
	for i, body := range bodies {
		b, err := io.ReadAll(body)
		must(t, errors.Join(err, body.Close(), body.Close()))
		other := mustRoom(t, vfs.NewMem(), raft.NewInmemStore())
		must(t, other.catchUp(b, 10, 1))
		if other.applied.Load() != 12 {
			t.Errorf("stream %d is of entry %d", i, other.applied.Load())
		}
	}
	if names, err := mem.List("snapshot"); err != nil || fmt.Sprint(names) != "[snapshot]" {
		t.Errorf("left: %v, %v", names, err)
	}
}
