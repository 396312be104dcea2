package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// positions makes n places of a volume that is so long; in a later generation some records have none.
func positions(rng *rand.Rand, n int, sparse bool) (at []uint32, length int64) {
	off := int64(fileHeaderSize)
	for range n {
		at = append(at, position(off))
		off += recordHeaderSize + alignment*rng.Int64N(2000)
	}
	if sparse {
		rng.Shuffle(n, func(i, j int) { at[i], at[j] = at[j], at[i] })
		for i := range at {
			if rng.IntN(3) == 0 {
				at[i] = 0
			}
		}
	}
	return at, off + recordHeaderSize
}

func TestIndexFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for i, n := range []int{1, 2, positionsInside - 1, positionsInside, positionsInside + 1, 5000, MaxRecords} {
		fs := memFS(t)
		at, length := positions(rng, n, i%2 == 1)
		f := indexFields{Volume: 7, Generation: uint32(i), Seed: rng.Uint32(), Length: length, Found: countPlaces(at), Dictionaries: []uint64{1}}
		written, err := writeIndex(fs, testDir+"/x.idx", f, at)
		must(t, err)
		read, err := openIndex(fs.CrashClone(vfs.CrashCloneCfg{}), testDir+"/x.idx")
		must(t, err)
		for _, x := range []*savedIndex{written, read} {
			if f.Highest = uint64(n); fmt.Sprint(x.fields) != fmt.Sprint(f) {
				t.Fatalf("fields %+v, expected %+v", x.fields, f)
			}
			all, err := x.all()
			if must(t, err); !slices.Equal(all, at) {
				t.Fatalf("%d positions differ", n)
			}
			for range 100 {
				record := 1 + rng.Uint64N(uint64(n))
				if p, err := x.place(record); err != nil || p != at[record-1] {
					t.Fatalf("record %d is at %d, %v", record, p, err)
				}
			}
			for _, none := range []uint64{0, uint64(n) + 1, 1 << 63} {
				if p, err := x.place(none); p != 0 || err != nil {
					t.Fatalf("record %d is at %d, %v", none, p, err)
				}
			}
			x.forget()
		}
	}
}

// TestIndexFileDamage: whatever byte changes, and wherever the file ends, no other position comes out of it.
func TestIndexFileDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	fs := memFS(t)
	at, length := positions(rng, positionsInside+3, false)
	_, err := writeIndex(fs, testDir+"/x.idx", indexFields{Volume: 7, Seed: 5, Length: length, Found: countPlaces(at)}, at)
	must(t, err)
	file := readFile(t, fs, testDir+"/x.idx")
	try := func(what string, bad []byte) {
		t.Helper()
		writeFile(t, fs, testDir+"/bad.idx", bad)
		x, err := openIndex(fs, testDir+"/bad.idx")
		if err == nil {
			var got []uint32
			if got, err = x.all(); err == nil && !slices.Equal(got, at) {
				t.Fatalf("%s: other positions", what)
			}
		}
		if err != nil && !unusable(err) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range file {
		if i > 200 && i%37 != 0 {
			continue
		}
		bad := bytes.Clone(file)
		bad[i] ^= 1 << rng.IntN(8)
		try(fmt.Sprintf("byte %d", i), bad)
	}
	for _, n := range []int{0, 1, 23, 4095, 4096, 5000, 8192, len(file) - 1} {
		try(fmt.Sprintf("%d bytes", n), file[:n])
	}
	// Blocks that changed places are in order each for itself.
	swapped := slices.Concat(file[:4096], file[8192:], file[4096:8192])
	writeFile(t, fs, testDir+"/bad.idx", swapped)
	x, err := openIndex(fs, testDir+"/bad.idx")
	must(t, err)
	if _, err := x.place(1); !unusable(err) {
		t.Fatalf("a block in another's place: %v", err)
	}
}

const goldenIndex = "testdata/index-1.idx"

func TestGoldenIndex(t *testing.T) {
	fs := memFS(t)
	f := indexFields{Volume: 0x2a, Generation: 3, Seed: 0x5eed, Length: 1 << 20, Found: 3, Dictionaries: []uint64{2, 1025}}
	at := make([]uint32, 1025)
	at[0], at[1], at[1024] = 512, 4000, 600
	_, err := writeIndex(fs, testDir+"/x.idx", f, at)
	must(t, err)
	written := readFile(t, fs, testDir+"/x.idx")
	if *update {
		must(t, os.WriteFile(goldenIndex, written, 0o644))
	}
	file, err := os.ReadFile(goldenIndex)
	must(t, err)
	if !bytes.Equal(file, written) {
		t.Fatal("index files are written otherwise now")
	}
}

// opened opens the volume and says whether it was scanned.
func opened(t testing.TB, fs vfs.FS, o Options) (*Volume, bool) {
	t.Helper()
	o.shared = newShared(10)
	v, err := Open(fs, testDir+"/a.vol", o)
	must(t, err)
	return v, o.shared.scans.Load() > 0
}

// allPlaces is the index of a volume, wherever it is kept.
func allPlaces(t testing.TB, v *Volume) []uint32 {
	t.Helper()
	must(t, v.hold())
	at, _, err := v.places()
	must(t, errors.Join(err, v.drop()))
	return at
}

// sealedVolume makes a volume of these messages, with its index file.
func sealedVolume(t testing.TB, fs vfs.FS, messages [][]byte) (ends []int64) {
	t.Helper()
	v, err := Create(fs, testDir+"/a.vol", testHeader, Options{})
	must(t, err)
	for i, p := range messages {
		put(t, v, fmt.Sprintf("meta %d", i+1), p)
		ends = append(ends, v.Durable())
	}
	must(t, v.Seal())
	must(t, v.Close())
	return ends
}

// TestOpenByIndex: a sealed volume is opened without reading its records, again and again.
func TestOpenByIndex(t *testing.T) {
	fs := memFS(t)
	messages := mails(1, 100, 5000, 0, 70)
	ends := sealedVolume(t, fs, messages)
	for range 3 {
		v, scanned := opened(t, fs, Options{})
		if scanned {
			t.Fatal("the volume was scanned")
		}
		if s := v.Stats(); s.Records != 4 || s.Bytes != ends[3] || !s.Sealed || !s.Opened || s.Failed != nil || s.Whole != ends[3] {
			t.Fatalf("%+v", s)
		}
		for i, p := range messages {
			expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
		}
		for _, record := range []uint64{0, 5, 1 << 40} {
			if _, err := v.Get(record); !errors.Is(err, ErrNotFound) {
				t.Fatalf("record %d: %v", record, err)
			}
		}
		must(t, v.Truncate(ends[3])) // what repair does to every copy
		must(t, v.Close())
	}
}

// TestOutdatedIndex: an index file that is about another state of the volume, damaged, newer or gone is made anew.
func TestOutdatedIndex(t *testing.T) {
	messages := mails(1, 100, 5000, 0, 70)
	for name, spoil := range map[string]func(fs *vfs.MemFS, f indexFields, at []uint32){
		"gone":         func(fs *vfs.MemFS, _ indexFields, _ []uint32) { must(t, fs.Remove(testDir+"/a.idx")) },
		"empty":        func(fs *vfs.MemFS, _ indexFields, _ []uint32) { writeFile(t, fs, testDir+"/a.idx", nil) },
		"noise":        func(fs *vfs.MemFS, _ indexFields, _ []uint32) { writeFile(t, fs, testDir+"/a.idx", make([]byte, 8192)) },
		"a volume cut": func(fs *vfs.MemFS, _ indexFields, _ []uint32) { cut(t, fs, testDir+"/a.vol", 8) },
		"other length": func(fs *vfs.MemFS, f indexFields, at []uint32) { f.Length += 8; rewrite(t, fs, f, at) },
		"other seed":   func(fs *vfs.MemFS, f indexFields, at []uint32) { f.Seed++; rewrite(t, fs, f, at) },
		"generation":   func(fs *vfs.MemFS, f indexFields, at []uint32) { f.Generation++; rewrite(t, fs, f, at) },
		"other volume": func(fs *vfs.MemFS, f indexFields, at []uint32) { f.Volume++; rewrite(t, fs, f, at) },
		"newer version": func(fs *vfs.MemFS, _ indexFields, _ []uint32) {
			b := readFile(t, fs, testDir+"/a.idx")
			b[8] = 2
			writeFile(t, fs, testDir+"/a.idx", b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := memFS(t)
			sealedVolume(t, fs, messages)
			x, err := openIndex(fs, testDir+"/a.idx")
			must(t, err)
			at, err := x.all()
			must(t, err)
			spoil(fs, x.fields, at)
			for round := range 2 {
				v, scanned := opened(t, fs, Options{})
				if scanned != (round == 0 || tailed(t, fs)) {
					t.Fatalf("round %d: scanned %v", round, scanned)
				}
				for i, p := range messages[:v.Stats().Records] {
					expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
				}
				must(t, v.Close())
			}
		})
	}
}

func rewrite(t *testing.T, fs vfs.FS, f indexFields, at []uint32) {
	t.Helper()
	_, err := writeIndex(fs, testDir+"/a.idx", f, at)
	must(t, err)
}

// tailed says that zeros stand behind the volume: a file system in memory cannot cut files.
func tailed(t *testing.T, fs vfs.FS) bool {
	t.Helper()
	info, err := fs.Stat(testDir + "/a.vol")
	must(t, err)
	v, err := Open(fs, testDir+"/a.vol", Options{ReadOnly: true})
	must(t, err)
	defer v.Close()
	return info.Size() > v.Durable()
}

func cut(t *testing.T, fs vfs.FS, path string, n int) {
	t.Helper()
	b := readFile(t, fs, path)
	writeFile(t, fs, path, b[:len(b)-n])
}

// TestIndexBlockDamaged: a read that meets a damaged block scans the volume and mends the index file.
func TestIndexBlockDamaged(t *testing.T) {
	for _, by := range []string{"a read", "a check", "mending"} {
		fs := memFS(t)
		messages := mails(2, 100, 300, 900)
		ends := sealedVolume(t, fs, messages)
		b := readFile(t, fs, testDir+"/a.idx")
		b[indexBlockSize+100] ^= 4
		writeFile(t, fs, testDir+"/a.idx", b)
		v, scanned := opened(t, fs, Options{})
		if scanned {
			t.Fatal("scanned although the header is in order")
		}
		switch by {
		case "a check":
			out, err := v.Verify(Check{})
			if must(t, err); out.Damaged != 0 || out.Records != 3 {
				t.Fatalf("%+v", out)
			}
		case "mending":
			must(t, v.Truncate(ends[1]))
			messages = messages[:2]
			must(t, v.Seal())
		}
		for i, p := range messages {
			expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
		}
		must(t, v.Close())
		if v, scanned = opened(t, fs, Options{}); scanned && !tailed(t, fs) {
			t.Fatalf("%s did not mend the index file", by)
		}
		must(t, v.Close())
	}
}

// TestIndexAndVolumeDamaged: what a scan of known length cannot make out is damage, and not the end of the volume.
func TestIndexAndVolumeDamaged(t *testing.T) {
	fs := memFS(t)
	messages := mails(3, 100, 300, 900)
	ends := sealedVolume(t, fs, messages)
	v, _ := opened(t, fs, Options{})
	defer v.Close()
	file := readFile(t, fs, testDir+"/a.vol")
	clear(file[ends[1] : ends[1]+100]) // the last record
	f, err := fs.OpenReadWrite(testDir+"/a.vol", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.WriteAt(file[ends[1]:], ends[1])
	must(t, err)
	must(t, f.Close())
	must(t, fs.Remove(testDir+"/a.idx"))
	expect(t, v, 2, "meta 2", messages[1])
	var corrupt *CorruptError
	if _, err := v.Get(3); !errors.As(err, &corrupt) {
		t.Fatalf("read a damaged record: %v", err)
	}
	if s := v.Stats(); s.Bytes != ends[2] || s.Records != 3 || s.Damaged != 1 || s.Whole != ends[1] {
		t.Fatalf("%+v", s)
	}
	if _, err := fs.Stat(testDir + "/a.idx"); err == nil {
		t.Fatal("a damaged volume has an index file")
	}
}

// TestMendedVolumeSavesItsIndex goes through the life of a copy that is cut and filled.
func TestMendedVolumeSavesItsIndex(t *testing.T) {
	fs := memFS(t)
	messages := mails(4, 100, 300, 900, 50)
	ends := sealedVolume(t, fs, messages)
	file := readFile(t, fs, testDir+"/a.vol")
	v, _ := opened(t, fs, Options{})
	must(t, v.Truncate(ends[1]))
	if _, err := fs.Stat(testDir + "/a.idx"); err == nil {
		t.Fatal("the index file outlived a change of the volume")
	}
	must(t, v.Extend(ends[1], file[ends[1]:]))
	if durable, err := v.Commit(); err != nil || durable != ends[3] {
		t.Fatalf("durable to %d, %v", durable, err)
	}
	must(t, v.Seal())
	again, scanned := opened(t, fs.CrashClone(vfs.CrashCloneCfg{}), Options{})
	if scanned || again.Stats().Records != 4 {
		t.Fatalf("after a power cut: scanned %v, %+v", scanned, again.Stats())
	}
	must(t, again.Close())
	for i, p := range messages {
		expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
	}
	must(t, v.Close())
}

func TestIndexNamesDictionaries(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a.vol", testHeader, Options{})
	must(t, err)
	for i := range 6 {
		kind := KindMessage
		if i%3 == 1 {
			kind = KindDictionary
		}
		b := newBlob(t, fs, testDir, []byte("words"))
		_, _, err := v.Append(t.Context(), kind, nil, b)
		must(t, err)
		must(t, b.Close())
	}
	must(t, v.Close())
	for _, scan := range []bool{false, true} {
		if scan {
			must(t, fs.Remove(testDir+"/a.idx"))
		}
		v, scanned := opened(t, fs, Options{})
		if d := v.Dictionaries(); !slices.Equal(d, []uint64{2, 5}) || scanned != scan {
			t.Fatalf("dictionaries %v, scanned %v", d, scanned)
		}
		must(t, v.Close())
	}
}

func TestReadOnlyLeavesIndexAlone(t *testing.T) {
	fs := memFS(t)
	sealedVolume(t, fs, mails(5, 10, 20))
	must(t, fs.Remove(testDir+"/a.idx"))
	v, _ := opened(t, fs, Options{ReadOnly: true})
	must(t, v.Close())
	if _, err := fs.Stat(testDir + "/a.idx"); err == nil {
		t.Fatal("wrote an index file")
	}
}

func FuzzIndex(f *testing.F) {
	file, err := os.ReadFile(goldenIndex)
	must(f, err)
	f.Add(file, false)
	f.Add(file, true)
	f.Add(file[:indexBlockSize], true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if n := int(byte(len(b))); mend && len(b) >= indexBlockSize { // get past the checksum
			b[12], b[13], b[14], b[15] = byte(n), 0, 0, 0
			sum := fileHeaderChecksum(b, n)
			b[16], b[17], b[18], b[19] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		fs := vfs.NewMem()
		must(t, fs.MkdirAll(testDir, 0o700))
		writeFile(t, fs, testDir+"/a.idx", b)
		x, err := openIndex(fs, testDir+"/a.idx")
		if err != nil {
			return
		}
		at, err := x.all()
		if err != nil {
			return
		}
		for i, p := range at {
			if q, err := x.place(uint64(i) + 1); err != nil || q != p || p != 0 && int64(p)*alignment >= x.fields.Length {
				t.Fatalf("record %d at %d, then at %d: %v", i+1, p, q, err)
			}
		}
	})
}
