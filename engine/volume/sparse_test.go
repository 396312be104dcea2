package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// laterGeneration gives the bytes of a file of generation 1 with these records of another, in this order, and where each ends.
func laterGeneration(t testing.TB, first []byte, numbers ...uint64) (file []byte, ends []int64) {
	t.Helper()
	v, _ := openBytes(t, first)
	defer v.Close()
	h := v.Header()
	h.Generation, h.Records = 1, v.Stats().Records
	file, err := encodeFileHeader(h)
	must(t, err)
	_, seed, err := decodeFileHeader(file)
	must(t, err)
	for _, n := range numbers {
		head, off, err := v.record(n)
		must(t, err)
		at := len(file)
		file = append(file, first[off:off+head.size()]...)
		head.encode(file[at:], seed)
		ends = append(ends, int64(len(file)))
	}
	return file, ends
}

// TestLaterGeneration: any of the records, in any order, are found by their old numbers, when the file is opened and when
// it comes piece by piece.
func TestLaterGeneration(t *testing.T) {
	messages := mails(20, 100, 2000, 0, 5000, 300, 40)
	first, _ := example(t, messages...)
	numbers := []uint64{5, 2, 6, 3}
	file, ends := laterGeneration(t, first, numbers...)
	check := func(t *testing.T, v *Volume, have []uint64) {
		t.Helper()
		if s := v.Stats(); s.Records != uint64(len(have)) || s.Damaged != 0 || s.Cut != 0 || s.Failed != nil {
			t.Fatalf("%+v", s)
		}
		for n := uint64(0); n <= 7; n++ {
			if !bytes.Contains(asBytes(have), asBytes([]uint64{n})) {
				if _, err := v.Get(n); !errors.Is(err, ErrNotFound) {
					t.Fatalf("record %d: %v", n, err)
				}
				continue
			}
			expect(t, v, n, fmt.Sprintf("meta %d", n), messages[n-1])
		}
	}
	t.Run("opened", func(t *testing.T) {
		v, fs := openBytes(t, file)
		defer v.Close()
		check(t, v, numbers)
		must(t, v.Truncate(ends[1]))
		check(t, v, numbers[:2])
		must(t, v.Extend(ends[1], file[ends[1]:]))
		_, err := v.Commit()
		must(t, err)
		check(t, v, numbers)
		if !bytes.Equal(readFile(t, fs, testDir+"/a"), file) {
			t.Fatal("other bytes")
		}
	})
	t.Run("received", func(t *testing.T) {
		v, err := CreateCopy(memFS(t), testDir+"/b", file[:fileHeaderSize], Options{})
		must(t, err)
		defer v.Close()
		for off := fileHeaderSize; off < len(file); off++ {
			must(t, v.Receive(int64(off), file[off:off+1]))
		}
		_, err = v.Commit()
		must(t, err)
		check(t, v, numbers)
		b := newBlob(t, memFS(t), testDir, []byte("new"))
		defer b.Close()
		if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrSealed) {
			t.Fatalf("append to a later generation: %v", err)
		}
	})
	t.Run("the same record twice", func(t *testing.T) {
		twice, _ := laterGeneration(t, first, 5, 2, 5)
		v, err := CreateCopy(memFS(t), testDir+"/b", twice[:fileHeaderSize], Options{})
		must(t, err)
		defer v.Close()
		var corrupt *CorruptError
		if err := v.Receive(fileHeaderSize, twice[fileHeaderSize:]); !errors.As(err, &corrupt) {
			t.Fatalf("received: %v", err)
		}
		opened, _ := openBytes(t, twice)
		defer opened.Close()
		if s := opened.Stats(); s.Records != 2 || s.Cut == 0 {
			t.Fatalf("%+v", s)
		}
	})
}

func asBytes(numbers []uint64) []byte {
	var out []byte
	for _, n := range numbers {
		out = append(out, byte(n))
	}
	return out
}

// TestDamagedLaterGeneration flips bits: every other record is served, and the one that is hit is an error, or gone with the tail.
func TestDamagedLaterGeneration(t *testing.T) {
	messages := mails(21, 200, 0, 900, 60)
	first, _ := example(t, messages...)
	numbers := []uint64{3, 1, 4, 2}
	file, ends := laterGeneration(t, first, numbers...)
	starts := append([]int64{fileHeaderSize}, ends...)
	rng := rand.New(rand.NewPCG(21, 21))
	for range 2000 {
		bit := fileHeaderSize*8 + rng.IntN((len(file)-fileHeaderSize)*8)
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		v, _ := openBytes(t, bad)
		for i, n := range numbers {
			if int64(bit/8) < starts[i] || int64(bit/8) >= ends[i] {
				expect(t, v, n, fmt.Sprintf("meta %d", n), messages[n-1])
				continue
			}
			got, err := fetch(v, n, 0, 1<<20)
			info, metaErr := v.Get(n)
			if err == nil && !bytes.Equal(got, messages[n-1]) || metaErr == nil && string(info.Meta) != fmt.Sprintf("meta %d", n) {
				t.Fatalf("bit %d: other contents of record %d without an error", bit, n)
			}
			var corrupt *CorruptError
			for _, err := range []error{err, metaErr} {
				last := i == len(numbers)-1 && errors.Is(err, ErrNotFound)
				if err != nil && !last && !errors.As(err, &corrupt) {
					t.Fatalf("bit %d: %v", bit, err)
				}
			}
		}
		must(t, v.Close())
	}
}

func TestVolumeSealsItselfAtItsLastRecord(t *testing.T) {
	fs := memFS(t)
	const most = 1000
	v, err := Create(fs, testDir+"/a", testHeader, Options{MaxRecords: most})
	must(t, err)
	defer v.Close()
	b := newBlob(t, fs, testDir, nil)
	defer b.Close()
	failed := make(chan error, 64)
	for range cap(failed) {
		go func() {
			for {
				if _, _, err := v.Append(t.Context(), KindMessage, nil, b); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range cap(failed) {
		if err := <-failed; !errors.Is(err, ErrSealed) {
			t.Fatal(err)
		}
	}
	if s := v.Stats(); !s.Sealed || s.Records != most || s.Failed != nil {
		t.Fatalf("%+v", s)
	}
	if _, err := v.Get(most); err != nil {
		t.Fatal(err)
	}
	// No copy takes more than the format allows.
	var head [recordHeaderSize]byte
	(&recordHeader{kind: KindMessage, number: MaxRecords + 1, chunk: chunkSize}).encode(head[:], v.rules.seed)
	if _, err := v.rules.decode(head[:]); err == nil {
		t.Fatal("a record over the limit is accepted")
	}
}

func TestHeaderOfGenerations(t *testing.T) {
	for name, h := range map[string]Header{
		"first with records":  {ID: 1, Records: 5},
		"later without":       {ID: 1, Generation: 1},
		"later with too many": {ID: 1, Generation: 1, Records: MaxRecords + 1},
	} {
		if _, err := encodeFileHeader(h); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}
