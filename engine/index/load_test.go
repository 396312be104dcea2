package index

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fill gives a shard some content that depends on tag, with larger values so that a stream has several frames.
func fill(t testing.TB, s *Shard, tag byte, entries uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(tag), 0))
	for index := uint64(1); index <= entries; index++ {
		entry(t, s, index, func(tx *Txn) {
			must(t, tx.EnsureAccount(uint64(tag), 1))
			_, _, err := tx.AddMessages(uint64(tag), 1, []NewMessage{{Ref: testRef(index), Size: index, Summary: []byte{tag}}})
			must(t, err)
			value := make([]byte, 20<<10)
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			must(t, tx.Put(fmt.Append(nil, index), value))
		})
	}
}

func save(t testing.TB, s *Shard) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := s.Save(&b)
	must(t, err)
	return b.Bytes()
}

// Two shards whose numbers are neighbours: loading one changes no byte of the other, nor of those around.
func TestShardsDoNotMeet(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	ids := []uint32{0, 1, 2, 0xfffffffe, 0xffffffff}
	dumps := map[uint32][]byte{}
	for i, id := range ids {
		fill(t, db.Shard(id), byte(10+i), 5+uint64(i))
		dumps[id] = dump(t, db.Shard(id))
	}
	source := openTest(t, vfs.NewMem())
	defer closeTest(t, source)
	for _, id := range ids {
		fill(t, source.Shard(id), 77, 30)
		must(t, db.Shard(id).Load(bytes.NewReader(save(t, source.Shard(id)))))
		dumps[id] = dump(t, source.Shard(id))
		for _, other := range ids {
			if !bytes.Equal(dump(t, db.Shard(other)), dumps[other]) {
				t.Fatalf("shard %d after load of %d", other, id)
			}
		}
		if got := db.Shard(id).Flushed(); got != 30 {
			t.Fatal(got)
		}
	}
	// An empty shard replaces a full one.
	nothing := openTest(t, vfs.NewMem())
	defer closeTest(t, nothing)
	must(t, db.Shard(1).Load(bytes.NewReader(save(t, nothing.Shard(1)))))
	if len(dump(t, db.Shard(1))) != 0 || !bytes.Equal(dump(t, db.Shard(2)), dumps[2]) {
		t.Fatal("empty load")
	}
	if applied, err := db.Shard(1).Applied(); err != nil || applied != 0 || db.Shard(1).Flushed() != 0 {
		t.Fatal(applied, err)
	}
}

// Cut anywhere, or with a bit flipped anywhere, a stream is refused and nothing changes.
func TestDamagedStreams(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	source := openTest(t, vfs.NewMem())
	defer closeTest(t, source)
	fill(t, db.Shard(1), 1, 3)
	fill(t, source.Shard(1), 2, 40)
	fill(t, source.Shard(2), 2, 1)
	before, whole := dump(t, db.Shard(1)), save(t, source.Shard(1))
	if len(whole) < 2*frameTarget {
		t.Fatal("one frame is too few")
	}
	try := func(what string, r io.Reader) {
		t.Helper()
		if err := db.Shard(1).Load(r); err == nil {
			t.Fatalf("%s was loaded", what)
		}
		if applied, err := db.Shard(1).Applied(); err != nil || applied != 3 {
			t.Fatal(what, applied, err)
		}
		if !bytes.Equal(dump(t, db.Shard(1)), before) {
			t.Fatalf("%s changed something", what)
		}
	}
	cuts := []int{0, 1, headerLen - 1, headerLen, headerLen + 5, headerLen + frameHeadLen, len(whole) / 2, len(whole) - trailerLen - 1, len(whole) - trailerLen, len(whole) - 1}
	for _, cut := range cuts {
		try(fmt.Sprintf("%d of %d bytes", cut, len(whole)), bytes.NewReader(whole[:cut]))
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		at := r.IntN(len(whole))
		if r.IntN(2) == 0 {
			at = cuts[r.IntN(len(cuts))] % len(whole)
		}
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1 << r.IntN(8)
		try(fmt.Sprintf("a flipped bit at %d", at), bytes.NewReader(damaged))
	}
	try("another shard", bytes.NewReader(save(t, source.Shard(2))))
	broken := errors.New("broken pipe")
	try("a broken reader", io.MultiReader(bytes.NewReader(whole[:len(whole)-5]), errReader{broken}))
	must(t, db.Shard(1).Load(bytes.NewReader(append(whole, "the caller's next bytes"...))))
	if !bytes.Equal(dump(t, db.Shard(1)), dump(t, source.Shard(1))) {
		t.Fatal("the whole stream gave something else")
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// powerCut keeps what a disk would hold if power failed at a given step. Pebble's own goroutines take steps too.
type powerCut struct {
	fs *vfs.MemFS
	at int // which write, counted from arm

	mu    sync.Mutex // guards the fields below
	armed bool
	count int
	after *vfs.MemFS
}

func (c *powerCut) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = true
}

// MaybeError implements errorfs.Injector.
func (c *powerCut) MaybeError(op errorfs.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed && c.after == nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		if c.count++; c.count == c.at {
			c.after = c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(c.at), 0))})
		}
	}
	return nil
}

// String implements errorfs.Injector.
func (c *powerCut) String() string { return "power cut" }

// take gives what the disk holds, and whether power never failed.
func (c *powerCut) take() (after *vfs.MemFS, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	if c.after == nil {
		return c.fs.CrashClone(vfs.CrashCloneCfg{}), true
	}
	return c.after, false
}

// Power is cut around a Load at every step it takes on disk: afterwards the shard is wholly old or wholly new, new for certain once
// Load has returned, and its neighbour is what was flushed.
func TestCrashDuringLoad(t *testing.T) {
	source := openTest(t, vfs.NewMem())
	defer closeTest(t, source)
	fill(t, source.Shard(1), 2, 40)
	stream, loaded := save(t, source.Shard(1)), dump(t, source.Shard(1))
	outcomes := map[string]int{}
	for step := 1; ; step++ {
		fs := vfs.NewCrashableMem()
		db := openTest(t, fs)
		fill(t, db.Shard(1), 1, 3)
		fill(t, db.Shard(2), 3, 4)
		must(t, db.Flush())
		old, neighbour := dump(t, db.Shard(1)), dump(t, db.Shard(2))
		must(t, db.Close())

		// pebble's own Open is not under test: it counts on the order of directory entries, which CrashClone shuffles.
		cut := powerCut{fs: fs, at: step}
		db = openTest(t, errorfs.Wrap(fs, &cut))
		cut.arm()
		must(t, db.Shard(1).Load(bytes.NewReader(stream)))
		after, done := cut.take()
		must(t, db.Close())

		db = openTest(t, after)
		switch got := dump(t, db.Shard(1)); {
		case bytes.Equal(got, loaded):
			outcomes["new"]++
		case bytes.Equal(got, old) && !done:
			outcomes["old"]++
		default:
			t.Fatalf("step %d: neither old nor new", step)
		}
		if !bytes.Equal(dump(t, db.Shard(2)), neighbour) {
			t.Fatalf("step %d: the neighbour changed", step)
		}
		if names, err := after.List("index"); err != nil || strings.Contains(strings.Join(names, " "), "incoming") {
			t.Fatalf("step %d: %q, %v", step, names, err)
		}
		closeTest(t, db)
		if done {
			break
		}
	}
	if outcomes["old"] < 3 || outcomes["new"] < 1 {
		t.Fatal(outcomes)
	}
}

// A View from before a Load says so instead of showing half of each; an iteration that runs goes on.
func TestViewOverLoad(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	source := openTest(t, vfs.NewMem())
	defer closeTest(t, source)
	s := db.Shard(1)
	fill(t, s, 1, 5)
	fill(t, source.Shard(1), 2, 9)
	stream := save(t, source.Shard(1))
	v := s.View()
	n := 0
	must(t, v.Scan(nil, func(_, _ []byte) error {
		if n++; n == 1 {
			return s.Load(bytes.NewReader(stream))
		}
		return nil
	}))
	if n != 5 {
		t.Fatal(n)
	}
	if _, err := v.Mailboxes(1); !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
	must(t, v.Close())
	v = s.View()
	if mb, err := v.MailboxByName(2, "INBOX"); err != nil || mb.Messages != 9 {
		t.Fatal(mb, err)
	}
	must(t, v.Close())
	entry(t, s, 10, func(tx *Txn) {
		if _, err := tx.MailboxByName(1, "INBOX"); !errors.Is(err, ErrNoAccount) {
			t.Fatal(err)
		}
	})
}

// A Save that fails on the way says so, and what it wrote does not load.
func TestFailedSave(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	fill(t, s, 1, 40)
	whole := save(t, s)
	for _, room := range []int{0, headerLen, headerLen + 3, len(whole) / 2, len(whole) - 1} {
		w := &fullWriter{room: room}
		if _, err := s.Save(w); !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(room, err)
		}
	}
	// The shard is replaced while its old state is on its way out.
	stream, moved := new(bytes.Buffer), false
	_, err := s.Save(writerFunc(func(p []byte) (int, error) {
		if !moved {
			moved = true
			must(t, s.Load(bytes.NewReader(whole)))
		}
		return stream.Write(p)
	}))
	if !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
	if err := s.Load(stream); !errors.Is(err, ErrBadStream) {
		t.Fatal(err)
	}
}

type fullWriter struct{ room int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
