package volume

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func newSet(t testing.TB, fs vfs.FS) *Set {
	t.Helper()
	s, err := OpenSet(fs, testDir, SetOptions{})
	must(t, err)
	return s
}

func header(id ID) Header {
	h := testHeader
	h.ID = id
	return h
}

func TestSetKeepsVolumes(t *testing.T) {
	fs := memFS(t)
	s := newSet(t, fs)
	for _, id := range []ID{7, 3, 1 << 60} {
		v, err := s.Create(header(id), nil, nil)
		must(t, err)
		put(t, v, "m", []byte(id.String()))
		got, err := s.Get(id)
		must(t, err)
		if got != v {
			t.Fatal("Get gives another volume than Create")
		}
	}
	if _, err := s.Create(header(3), nil, nil); !errors.Is(err, ErrExists) {
		t.Fatalf("create twice: %v", err)
	}
	if _, err := OpenSet(fs, testDir, SetOptions{}); err == nil {
		t.Fatal("opened a directory that is in use")
	}
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Get(7); !errors.Is(err, ErrClosed) {
		t.Fatalf("get after Close: %v", err)
	}

	s = newSet(t, fs)
	defer s.Close()
	if ids := s.List(); !slices.Equal(ids, []ID{3, 7, 1 << 60}) {
		t.Fatalf("volumes %v", ids)
	}
	for _, id := range s.List() {
		v, err := s.Get(id)
		must(t, err)
		expect(t, v, 1, "m", []byte(id.String()))
		if !v.Stats().Sealed {
			t.Fatal("an opened volume is not sealed")
		}
	}
	if _, err := s.Get(4); !errors.Is(err, ErrNotFound) {
		t.Fatalf("get what is not there: %v", err)
	}
}

// TestSetDirectoryIsDurable: a power cut right after the first append to a new node.
func TestSetDirectoryIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := OpenSet(fs, "/data/node/volumes", SetOptions{})
	must(t, err)
	v, err := s.Create(header(1), nil, nil)
	must(t, err)
	b := newBlob(t, fs, s.TmpDir(), []byte("x"))
	_, _, err = v.Append(t.Context(), KindMessage, []byte("m"), b)
	must(t, err)
	must(t, b.Close())
	after, err := OpenSet(fs.CrashClone(vfs.CrashCloneCfg{}), "/data/node/volumes", SetOptions{})
	must(t, err)
	defer after.Close()
	v, err = after.Get(1)
	must(t, err)
	expect(t, v, 1, "m", []byte("x"))
	must(t, s.Close())
}

func TestSetRemove(t *testing.T) {
	fs := memFS(t)
	s := newSet(t, fs)
	defer s.Close()
	v, err := s.Create(header(5), nil, nil)
	must(t, err)
	ref := put(t, v, "m", bytes.Repeat([]byte("x"), 1000))
	r, err := v.Open(ref.Record, 0, 1000)
	must(t, err)
	must(t, s.Remove(5))
	if p := make([]byte, 1000); true {
		if n, err := r.Read(p); n != 1000 || err != nil {
			t.Fatalf("a reader that was open: %d, %v", n, err)
		}
	}
	must(t, r.Close())
	if _, err := s.Get(5); !errors.Is(err, ErrNotFound) {
		t.Fatalf("get: %v", err)
	}
	if err := s.Remove(5); !errors.Is(err, ErrNotFound) {
		t.Fatalf("remove twice: %v", err)
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{})
	again := newSet(t, after)
	defer again.Close()
	if ids := again.List(); len(ids) != 0 {
		t.Fatalf("after a power cut: %v", ids)
	}
}

func TestSetCleansUp(t *testing.T) {
	fs := memFS(t)
	s := newSet(t, fs)
	must(t, s.Close())
	for _, name := range []string{"/0000000000000009.vol.tmp", "/tmp/spool-0123", "/README", "/000000000000000A.vol", "/9.vol"} {
		writeFile(t, fs, testDir+name, []byte("x"))
	}
	s = newSet(t, fs)
	defer s.Close()
	names, err := fs.List(testDir)
	must(t, err)
	slices.Sort(names)
	if want := []string{"000000000000000A.vol", "9.vol", "LOCK", "README", "tmp"}; !slices.Equal(names, want) {
		t.Fatalf("left %v", names)
	}
	if names, err = fs.List(s.TmpDir()); err != nil || len(names) != 0 {
		t.Fatalf("left %v, %v", names, err)
	}
	if ids := s.List(); len(ids) != 0 {
		t.Fatalf("volumes %v", ids)
	}
}

func TestSetDamagedHeader(t *testing.T) {
	file, _ := example(t, []byte("x"))
	fs := memFS(t)
	writeFile(t, fs, testDir+"/0000000000000001.vol", file) // it says that it is 0x2a
	writeFile(t, fs, testDir+"/0000000000000002.vol", file[:100])
	s := newSet(t, fs)
	defer s.Close()
	for id := ID(1); id <= 2; id++ {
		var corrupt *CorruptError
		if _, err := s.Get(id); !errors.As(err, &corrupt) {
			t.Fatalf("volume %s: %v", id, err)
		}
	}
	// Made anew from another copy.
	must(t, s.Remove(2))
	h := header(2)
	block, err := encodeFileHeader(h)
	must(t, err)
	v, err := s.CreateCopy(block, nil)
	must(t, err)
	if v.Header().ID != 2 {
		t.Fatalf("header %+v", v.Header())
	}
	if _, err := s.CreateCopy(file[:50], nil); err == nil {
		t.Fatal("made a copy of half a header")
	}
}

// TestSetReopenAfterFailure: the way back for a volume whose disk was full.
func TestSetReopenAfterFailure(t *testing.T) {
	mem := memFS(t)
	var full bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind == errorfs.OpFileSyncData {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s := newSet(t, fs)
	defer s.Close()
	v, err := s.Create(header(1), nil, nil)
	must(t, err)
	put(t, v, "m", []byte("one"))
	durable := v.Durable()
	full = true
	b := newBlob(t, mem, testDir, []byte("two"))
	defer b.Close()
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	full = false
	v, err = s.Reopen(1)
	must(t, err)
	// The second record reads well, from the system's memory: nobody knows whether it is on the disk, and a further fsync
	// would not say.
	if v.Durable() != durable {
		t.Fatalf("durable up to %d after a failed fsync, expected %d", v.Durable(), durable)
	}
	if st := v.Stats(); st.Failed != nil || st.Records != 1 || !st.Sealed {
		t.Fatalf("%+v", st)
	}
	expect(t, v, 1, "m", []byte("one"))
}

func TestSetFreeBytes(t *testing.T) {
	fs := memFS(t)
	s, err := OpenSet(fs, testDir, SetOptions{Reserve: 100})
	must(t, err)
	defer s.Close()
	for _, c := range []struct{ avail, want uint64 }{{1000, 900}, {100, 0}, {10, 0}} {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: c.avail, TotalBytes: 5000})
		if got, err := s.FreeBytes(); err != nil || got != c.want {
			t.Errorf("%d available: %d free, %v", c.avail, got, err)
		}
	}
}

// TestSetTogether uses one set from many goroutines; it is for the race detector.
func TestSetTogether(t *testing.T) {
	fs := memFS(t)
	s := newSet(t, fs)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			id := ID(worker % 4)
			for range 20 {
				v, err := s.Create(header(id), nil, nil)
				if errors.Is(err, ErrExists) {
					v, err = s.Get(id)
				}
				if err == nil {
					b := newBlob(t, fs, testDir, []byte("together"))
					var ref Ref
					if ref, _, err = v.Append(t.Context(), KindMessage, []byte("m"), b); err == nil {
						_, err = fetch(v, ref.Record, 0, 100)
					}
					must(t, b.Close())
				}
				if err == nil && worker < 4 {
					_ = v.Seal()
					err = s.Remove(id)
				}
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrSealed) && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				s.List()
			}
		})
	}
	wg.Wait()
	must(t, s.Close())
}
