package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// manyVolumes makes a set of so many sealed volumes with one record each, and opens it with a limit.
func manyVolumes(t testing.TB, fs vfs.FS, volumes, limit int) *Set {
	t.Helper()
	s := newSet(t, fs)
	for id := ID(1); id <= ID(volumes); id++ {
		v, err := s.Create(header(id), nil, nil)
		must(t, err)
		put(t, v, "m", []byte(id.String()))
		must(t, v.Seal())
	}
	must(t, s.Close())
	s, err := OpenSet(fs, testDir, SetOptions{MaxOpen: limit})
	must(t, err)
	return s
}

// TestFewFilesAreOpen reads many volumes, with readers that stay open: no more than the limit and what is being read has a handle.
func TestFewFilesAreOpen(t *testing.T) {
	const volumes, limit, workers = 100, 8, 4
	s := manyVolumes(t, memFS(t), volumes, limit)
	if st := s.Stats(); st.Volumes != volumes || st.Open != 0 || st.Bytes < volumes*fileHeaderSize {
		t.Fatalf("before anything is read: %+v", st)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 500 {
				id := ID(1 + rng.IntN(volumes))
				v, err := s.Get(id)
				if err != nil {
					t.Error(err)
					return
				}
				if p, err := fetch(v, 1, 0, 100); err != nil || string(p) != id.String() {
					t.Errorf("volume %s: %q, %v", id, p, err)
				}
				if n := s.Stats().Open; n > limit+workers {
					t.Errorf("%d files open", n)
				}
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Scans != 0 || st.Rests == 0 || st.Open > limit+workers {
		t.Fatalf("%+v", st)
	}
	must(t, s.Close())
	if n := s.shared.handles.count(); n != 0 {
		t.Fatalf("%d files open behind Close", n)
	}
}

// TestBusyVolumesStayOpen: what is appended to, received, mended or read is not closed for others.
func TestBusyVolumesStayOpen(t *testing.T) {
	fs := memFS(t)
	s := manyVolumes(t, fs, 20, 1)
	defer s.Close()
	touch := func() { // every other volume, so that the limit is felt
		for _, id := range s.List() {
			if v, err := s.Get(id); id > 4 && id <= 20 {
				must(t, err)
				_, err = v.Get(1)
				must(t, err)
			}
		}
	}
	read, err := s.Get(1)
	must(t, err)
	r, err := read.Open(1, 0, 100)
	must(t, err)
	own, err := s.Create(header(100), nil, nil)
	must(t, err)
	put(t, own, "m", []byte("one"))
	file, ends := example(t, mails(1, 100, 200)...)
	received, err := s.CreateCopy(file[:fileHeaderSize], nil)
	must(t, err)
	must(t, received.Receive(fileHeaderSize, file[fileHeaderSize:ends[0]+10]))
	mended, err := s.Get(2)
	must(t, err)
	rest := readFile(t, fs, s.path(2))[fileHeaderSize:]
	must(t, mended.Truncate(fileHeaderSize))
	must(t, mended.Extend(fileHeaderSize, rest))
	touch()
	for what, v := range map[string]*Volume{"read": read, "own": own, "received": received, "mended": mended} {
		if v.file == nil {
			t.Errorf("the file of the volume that is %s was closed", what)
		}
	}
	put(t, own, "m", []byte("two"))
	must(t, received.Receive(ends[0]+10, file[ends[0]+10:]))
	durable, err := received.Commit()
	if must(t, err); durable != ends[1] {
		t.Fatalf("received up to %d", durable)
	}
	_, err = mended.Commit()
	must(t, err)
	must(t, r.Close())
	for _, v := range []*Volume{own, received, mended} {
		must(t, v.Seal())
	}
	touch()
	if n := s.Stats().Open; n != 1 {
		t.Fatalf("%d files open", n)
	}
	expect(t, own, 2, "m", []byte("two"))
	expect(t, mended, 1, "m", []byte(ID(2).String()))
}

// TestRestingVolumeCannotBeOpened: an error is the reader's; the volume comes back with the file.
func TestRestingVolumeCannotBeOpened(t *testing.T) {
	mem := memFS(t)
	var broken bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && op.Kind == errorfs.OpOpen {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s := manyVolumes(t, fs, 3, 1)
	defer s.Close()
	var all []*Volume
	for _, id := range s.List() {
		v, err := s.Get(id)
		must(t, err)
		all = append(all, v)
	}
	broken = true
	for _, v := range all[:2] {
		if _, err := v.Get(1); !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("read with a broken disk: %v", err)
		}
	}
	broken = false
	for i, v := range all {
		expect(t, v, 1, "m", []byte(ID(i+1).String()))
	}
}

// TestMemoryOfSealedVolumes: the index of a volume that nobody reads takes no memory.
func TestMemoryOfSealedVolumes(t *testing.T) {
	const volumes, records = 24, 100_000
	dir := t.TempDir()
	sparseVolumes(t, dir, volumes, records)
	before := heap()
	s, err := OpenSet(vfs.Default, dir, SetOptions{MaxOpen: 8})
	must(t, err)
	defer s.Close()
	for _, id := range s.List() {
		v, err := s.Get(id)
		must(t, err)
		for record := uint64(1); record <= records; record += positionsInside {
			if _, _, err := v.locate(record); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Eight tables of 4 bytes a record may be there, and a few kilobytes for each volume.
	const limit = 8*4*(records+positionsInside) + volumes*8<<10
	if used := heap() - before; used > limit {
		t.Fatalf("%d bytes for %d records, expected at most %d", used, volumes*records, limit)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// sparseVolumes puts volume files with index files into a directory: their headers are real, the records are holes.
func sparseVolumes(t testing.TB, dir string, volumes, records int) {
	t.Helper()
	const each = 10 << 10
	at := make([]uint32, records)
	for i := range at {
		at[i] = position(fileHeaderSize + int64(i)*each)
	}
	length := int64(fileHeaderSize) + int64(records)*each
	for id := ID(1); id <= ID(volumes); id++ {
		path := fmt.Sprintf("%s/%s%s", dir, id, volumeSuffix)
		v, err := Create(vfs.Default, path, header(id), Options{})
		must(t, err)
		seed := v.rules.seed
		must(t, v.file.(interface{ Truncate(int64) error }).Truncate(length))
		must(t, v.file.Close())
		f := indexFields{Volume: id, Seed: seed, Length: length, Found: uint64(records)}
		_, err = writeIndex(vfs.Default, indexPath(path), f, at)
		must(t, err)
	}
}
