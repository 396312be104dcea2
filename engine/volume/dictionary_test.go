package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// phrases are n strings that only those who know the seed have seen.
func phrases(seed uint64, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("X-Phrase-%x: what all letters of service %x have in common\r\n", (seed+uint64(i))*0x9e3779b97f4a7c15, (seed*31+uint64(i))*0xc2b2ae3d27d4eb4f))
	}
	return out
}

// newDictionary makes one with some phrases.
func newDictionary(t testing.TB, id uint32) *Dictionary {
	t.Helper()
	list := phrases(uint64(id), 40)
	var history []byte
	var contents [][]byte
	for i, p := range list {
		history = append(history, p...)
		contents = append(contents, []byte(p+"own words\r\n"+list[(i*7+3)%len(list)]))
	}
	b, err := zstd.BuildDict(zstd.BuildDictOptions{ID: id, Contents: contents, History: history, Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedFastest})
	must(t, err)
	d, err := NewDictionary(b)
	must(t, err)
	if d.ID() != id || !bytes.Equal(d.Bytes(), b) {
		t.Fatalf("dictionary %d is not as it was given", d.ID())
	}
	return d
}

// phrased is a message of phrases that dictionary id has, with something of its own.
func phrased(id uint32, n int) []byte {
	list := phrases(uint64(id), 40)
	var b bytes.Buffer
	for i := range 8 {
		fmt.Fprintf(&b, "%s%d\r\n", list[(n*5+i*3)%len(list)], n)
	}
	return b.Bytes()
}

func spooled(t testing.TB, d *Dictionary, message []byte) *Blob {
	t.Helper()
	s := NewSpool(memFS(t), testDir, 1<<20)
	s.Use(d)
	_, err := s.Write(message)
	must(t, err)
	b, err := s.Finish()
	must(t, err)
	return b
}

func appended(t testing.TB, v *Volume, d *Dictionary, message []byte) (record uint64) {
	t.Helper()
	b := spooled(t, d, message)
	defer b.Close()
	ref, _, err := v.Append(t.Context(), KindMessage, []byte("m"), b)
	must(t, err)
	return ref.Record
}

func TestBlobWithDictionary(t *testing.T) {
	d, message := newDictionary(t, 40000), phrased(40000, 1)
	plain, b := spooled(t, nil, message), spooled(t, d, message)
	if b.Dictionary() != d || plain.Dictionary() != nil || b.StoredLength() > plain.StoredLength()/3 {
		t.Fatalf("stored in %d bytes, without a dictionary %d", b.StoredLength(), plain.StoredLength())
	}
	r, err := b.Open(5, 100)
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(got, message[5:105]) {
		t.Fatal("read other bytes")
	}
	for _, n := range []int{chunkSize, chunkSize + 1, 2*chunkSize + 9} {
		long := bytes.Repeat(message, n/len(message)+1)[:n]
		if b := spooled(t, d, long); b.Dictionary() != nil {
			t.Errorf("a message of %d bytes took the dictionary", n)
		}
	}
	for name, c := range map[string]struct {
		d  *Dictionary
		ok bool
	}{"the right one": {d, true}, "none": {nil, false}, "another": {newDictionary(t, 40001), false}} {
		got, err := ReceiveBlob(bytes.NewReader(storedBytes(t, b)), b.Length(), b.StoredLength(), b.Hash(), c.d, memFS(t), testDir, 1000)
		if (err == nil) != c.ok {
			t.Errorf("received with %s: %v", name, err)
		}
		if err == nil && got.Dictionary() != c.d {
			t.Errorf("received with %s, and forgotten", name)
		}
	}
}

// TestVolumeHasItsDictionaries: each stands once in the volume, before the first record that needs it, in plain and in encrypted ones,
// and the file alone suffices to read everything.
func TestVolumeHasItsDictionaries(t *testing.T) {
	for _, h := range []Header{testHeader, secretHeader()} {
		fs := memFS(t)
		v, err := Create(fs, testDir+"/a.vol", h, Options{Keys: testKeys{}})
		must(t, err)
		first, second := newDictionary(t, 40000), newDictionary(t, 40001)
		want := make(map[uint64][]byte)
		for i := range 12 {
			d, id := first, uint32(40000)
			if i%4 == 3 {
				d, id = second, 40001
			}
			if i == 0 {
				d = nil
			}
			message := phrased(id, i)
			want[appended(t, v, d, message)] = message
		}
		if got := v.Dictionaries(); !slices.Equal(got, []uint64{2, 5}) {
			t.Fatalf("dictionaries are records %d", got)
		}
		check := func(v *Volume) {
			t.Helper()
			for n, message := range want {
				r, err := v.Open(n, 0, uint64(len(message)))
				must(t, err)
				got, err := io.ReadAll(r)
				must(t, errors.Join(err, r.Close()))
				if !bytes.Equal(got, message) {
					t.Fatalf("record %d gives other bytes", n)
				}
			}
		}
		check(v)
		if info, err := v.Stat(2); err != nil || info.Kind != KindDictionary || info.Length != uint64(len(first.Bytes())) {
			t.Fatalf("the dictionary's record is %+v: %v", info, err)
		}
		must(t, v.Close())
		v, err = Open(fs, testDir+"/a.vol", Options{Keys: testKeys{}})
		must(t, err)
		check(v)
		must(t, v.Close())
	}
}

// TestDictionaryTogether: callers that come at once bring it in once.
func TestDictionaryTogether(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a.vol", testHeader, Options{})
	must(t, err)
	defer v.Close()
	d := newDictionary(t, 40000)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			message := phrased(40000, i)
			expect(t, v, appended(t, v, d, message), "m", message)
		})
	}
	wg.Wait()
	if got := v.Dictionaries(); len(got) != 1 || v.Stats().Records != 21 {
		t.Fatalf("dictionaries %d, %d records", got, v.Stats().Records)
	}
}

// TestNoRoomForDictionary: a volume that has room for one more record takes none that needs a dictionary.
func TestNoRoomForDictionary(t *testing.T) {
	v, err := Create(memFS(t), testDir+"/a.vol", testHeader, Options{MaxRecords: 2})
	must(t, err)
	defer v.Close()
	put(t, v, "m", []byte("x"))
	b := spooled(t, newDictionary(t, 40000), phrased(40000, 1))
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrSealed) {
		t.Fatalf("appended: %v", err)
	}
}

// TestDictionaryDamaged: records that need it are damaged too, others are not.
func TestDictionaryDamaged(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a.vol", testHeader, Options{})
	must(t, err)
	start := v.Durable()
	message := phrased(40000, 1)
	needs, other := appended(t, v, newDictionary(t, 40000), message), appended(t, v, nil, message)
	must(t, v.Close())
	file := readFile(t, fs, testDir+"/a.vol")
	file[start+recordHeaderSize+chunkHeaderSize+20] ^= 1
	writeFile(t, fs, testDir+"/a.vol", file)
	v, err = Open(fs, testDir+"/a.vol", Options{})
	must(t, err)
	defer v.Close()
	r, err := v.Open(needs, 0, 10)
	must(t, err)
	_, err = io.ReadAll(r)
	must(t, r.Close())
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("read without its dictionary: %v", err)
	}
	expect(t, v, other, "m", message)
}

// TestSharedDictionaries: volumes of a set keep one of each, and forget the oldest of too many.
func TestSharedDictionaries(t *testing.T) {
	var s dictionaries
	d := newDictionary(t, 40000)
	first, err := s.share(d.Bytes())
	must(t, err)
	again, err := s.share(bytes.Clone(d.Bytes()))
	must(t, err)
	if first != again {
		t.Fatal("the same bytes twice")
	}
	for i := range maxShared {
		other := bytes.Clone(d.Bytes())
		binary.LittleEndian.PutUint32(other[4:], 50000+uint32(i)) // its id
		_, err := s.share(other)
		must(t, err)
	}
	if len(s.list) != maxShared || slices.Contains(s.list, first) {
		t.Fatalf("%d dictionaries are kept", len(s.list))
	}
	if _, err := s.share([]byte("no dictionary at all")); err == nil {
		t.Fatal("took what is not a dictionary")
	}
}
