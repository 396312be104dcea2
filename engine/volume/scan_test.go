package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/effort"
)

func openBytes(t testing.TB, file []byte) (*Volume, vfs.FS) {
	t.Helper()
	fs := memFS(t)
	writeFile(t, fs, testDir+"/a", file)
	v, err := Open(fs, testDir+"/a", Options{})
	must(t, err)
	return v, fs
}

// TestTornTail cuts a file at every length, with nothing, zeros or noise behind.
func TestTornTail(t *testing.T) {
	messages := mails(1, 0, 300, 1000)
	file, ends := example(t, messages...)
	rng := rand.New(rand.NewPCG(1, 1))
	noise := mail(rng, 10_000)
	for length := fileHeaderSize; length <= len(file); length++ {
		whole, boundary := 0, int64(fileHeaderSize)
		for whole < len(ends) && ends[whole] <= int64(length) {
			boundary = ends[whole]
			whole++
		}
		var tail []byte
		switch length % 3 {
		case 1:
			tail = make([]byte, rng.IntN(9000))
			if whole < len(ends) && bytes.Equal(file[length:ends[whole]], make([]byte, ends[whole]-int64(length))) {
				tail = nil // zeros would complete the padding
			}
		case 2:
			tail = append([]byte{0xff}, noise[:rng.IntN(len(noise))]...)
		}
		v, _ := openBytes(t, append(bytes.Clone(file[:length]), tail...))
		s := v.Stats()
		if s.Bytes != boundary || s.Records != uint64(whole) || s.Damaged != 0 || s.Failed != nil || s.Cut != int64(length+len(tail))-boundary {
			t.Fatalf("cut at %d, tail of %d: %+v, want %d records to %d", length, len(tail), s, whole, boundary)
		}
		for i := range whole {
			expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), messages[i])
		}
		must(t, v.Close())
	}
}

// TestFlippedBits: whatever bit of the body flips, the volume opens, every other record is served, and the one
// that is hit is an error or, as the last, gone; never other bytes.
func TestFlippedBits(t *testing.T) {
	messages := mails(2, 200, 0, 900, 60)
	file, ends := example(t, messages...)
	starts := append([]int64{fileHeaderSize}, ends...)
	for bit := fileHeaderSize * 8; bit < len(file)*8; bit += effort.Of(11, 1, 1) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		v, _ := openBytes(t, bad)
		for i, want := range messages {
			record := uint64(i) + 1
			hit := int64(bit/8) >= starts[i] && int64(bit/8) < ends[i]
			if !hit {
				expect(t, v, record, fmt.Sprintf("meta %d", i+1), want)
				continue
			}
			info, metaErr := v.Get(record)
			got, err := fetch(v, record, 0, 1<<20)
			if metaErr == nil && string(info.Meta) != fmt.Sprintf("meta %d", i+1) || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("bit %d: other contents without an error", bit)
			}
			for _, err := range []error{metaErr, err} {
				var corrupt *CorruptError
				last := i == len(messages)-1 && errors.Is(err, ErrNotFound)
				if err != nil && !last && (!errors.As(err, &corrupt) || corrupt.Volume != testHeader.ID || corrupt.Record != record) {
					t.Fatalf("bit %d: %v", bit, err)
				}
			}
		}
		must(t, v.Close())
	}
}

func TestDamageIsReportedAndMended(t *testing.T) {
	messages := mails(3, 200, 5000, 300, 700, 100)
	file, ends := example(t, messages...)
	bad := bytes.Clone(file)
	// The header of record 2, and all of record 3, are lost.
	clear(bad[ends[0] : ends[0]+8])
	clear(bad[ends[1]:ends[2]])
	v, fs := openBytes(t, bad)
	if s := v.Stats(); s.Records != 5 || s.Damaged != 2 || s.Cut != 0 || s.Bytes != ends[4] {
		t.Fatalf("%+v", s)
	}
	if d := v.Damage(); len(d) != 1 || d[0] != (Span{ends[0], ends[2]}) {
		t.Fatalf("damage %v", d)
	}
	for _, record := range []uint64{2, 3} {
		var corrupt *CorruptError
		if _, err := v.Open(record, 0, 1); !errors.As(err, &corrupt) || corrupt.Offset != fileHeaderSize {
			t.Fatalf("record %d: %v", record, err)
		}
	}
	for _, i := range []int{0, 3, 4} {
		expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), messages[i])
	}
	// No boundary is known inside the damage.
	if err := v.Truncate(ends[1]); !errors.Is(err, ErrMisplaced) {
		t.Fatalf("truncate inside the damage: %v", err)
	}
	// Mended from another copy: back to before the damage, and on from there.
	must(t, v.Truncate(ends[0]))
	must(t, v.Extend(ends[0], file[ends[0]:]))
	if durable, err := v.Commit(); err != nil || durable != ends[4] {
		t.Fatalf("mended to %d, %v", durable, err)
	}
	for i, p := range messages {
		expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
	}
	must(t, v.Close())
	if !bytes.Equal(readFile(t, fs, testDir+"/a"), file) {
		t.Fatal("the mended copy differs")
	}
}

// TestMailedRecordIsNotFound: a message that contains a whole record does not put it into a damaged volume, since its
// sender does not know the volume's salt. With the salt it would: that shows that the test can tell.
func TestMailedRecordIsNotFound(t *testing.T) {
	two, ends := example(t, nil, nil)
	forged := two[ends[0]:]
	noise := make([]byte, 4096) // keeps the chunk from being compressed
	for i, rng := 0, rand.New(rand.NewPCG(9, 9)); i < len(noise); i++ {
		noise[i] = byte(rng.Uint32())
	}
	// The chunk begins behind the record header and its own: this puts the forged record where one may begin.
	evil := append(bytes.Clone(forged), noise...)
	for name, c := range map[string]struct {
		salt  uint64
		found bool
	}{"salt unknown": {testHeader.Salt + 1, false}, "salt known": {testHeader.Salt, true}} {
		t.Run(name, func(t *testing.T) {
			h := testHeader
			h.Salt = c.salt
			fs := memFS(t)
			v, err := Create(fs, testDir+"/f", h, Options{})
			must(t, err)
			put(t, v, "", []byte("first"))
			first := v.Durable()
			put(t, v, "", evil)
			put(t, v, "", []byte("last"))
			must(t, v.Close())
			file := readFile(t, fs, testDir+"/f")
			if bytes.Index(file, forged)%alignment != 0 {
				t.Fatal("the forged record is not where it should be")
			}
			clear(file[first : first+8])
			opened, _ := openBytes(t, file)
			defer opened.Close()
			info, err := opened.Get(2)
			if found := err == nil && info.Length == 0; found != c.found {
				t.Fatalf("found the forged record: %v, %v", found, err)
			}
			expect(t, opened, 3, "", []byte("last"))
		})
	}
}

// TestLastRecordsWithoutContent: headers that reached the disk before their contents are a torn tail.
func TestLastRecordsWithoutContent(t *testing.T) {
	messages := mails(5, 200, 5000, 6000, 7000)
	file, ends := example(t, messages...)
	for _, i := range []int{1, 2, 3} {
		clear(file[ends[i-1]+recordHeaderSize+50 : ends[i]])
	}
	v, _ := openBytes(t, file)
	defer v.Close()
	if s := v.Stats(); s.Records != 1 || s.Bytes != ends[0] || s.Damaged != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestUnreadableSectors: where the disk does not answer, the other records are served; nothing is cut because of that.
func TestUnreadableSectors(t *testing.T) {
	messages := mails(6, 9000, 9000, 9000, 9000)
	file, ends := example(t, messages...)
	starts := append([]int64{fileHeaderSize}, ends...)
	for at := starts[0]; at < int64(len(file)); at += sector {
		mem := memFS(t)
		writeFile(t, mem, testDir+"/a", file)
		v, err := Open(badSectorFS{mem, at}, testDir+"/a", Options{})
		must(t, err)
		for i, p := range messages {
			if at >= starts[i+1] || at+sector <= starts[i] {
				expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
			} else if _, err := fetch(v, uint64(i)+1, 0, 1<<20); err == nil {
				t.Fatalf("record %d read in spite of the disk", i+1)
			}
		}
		must(t, v.Close())
		if got := readFile(t, mem, testDir+"/a"); !bytes.Equal(got, file) {
			t.Fatalf("bad sector at %d: the file was changed", at)
		}
	}
}

// badSectorFS opens files of which one sector cannot be read.
type badSectorFS struct {
	vfs.FS
	at int64
}

func (fs badSectorFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	return badSectorFile{f, fs.at}, err
}

type badSectorFile struct {
	vfs.File
	at int64
}

func (f badSectorFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.at+sector && off+int64(len(p)) > f.at {
		return 0, errorfs.ErrInjected
	}
	return f.File.ReadAt(p, off)
}

// TestOpenWithoutFsync: what is read when the disk takes no fsync is served, and nobody is told that it is on the disk.
func TestOpenWithoutFsync(t *testing.T) {
	for _, torn := range []int{0, 10} {
		file, ends := example(t, mails(12, 100, 900)...)
		mem := memFS(t)
		writeFile(t, mem, testDir+"/b", file[:len(file)-torn])
		armed := true
		v, err := Open(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed && (op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync) {
				return errorfs.ErrInjected
			}
			return nil
		})), testDir+"/b", Options{})
		must(t, err)
		if s := v.Stats(); !s.Unreadable || !errors.Is(s.Failed, errorfs.ErrInjected) {
			t.Errorf("%d bytes torn off: %+v", torn, s)
		}
		expect(t, v, 1, "meta 1", mails(12, 100, 900)[0])
		armed = false
		must(t, v.Close())
		v, err = Open(mem, testDir+"/b", Options{})
		must(t, err)
		if s := v.Stats(); s.Unreadable || s.Failed != nil || s.Bytes != ends[1] && torn == 0 {
			t.Errorf("opened again: %+v", s)
		}
		must(t, v.Close())
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	file, _ := example(t, []byte("x"))
	newer := bytes.Clone(file)
	newer[8] = 2
	flipped := bytes.Clone(file)
	flipped[fileHeaderFixed+3] ^= 1
	long := bytes.Clone(file)
	long[14] = 1
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"newer version":   {newer, ErrVersion},
		"flipped bit":     {flipped, nil},
		"empty":           {nil, nil},
		"half a header":   {file[:100], nil},
		"another file":    {bytes.Repeat([]byte("x"), 8192), nil},
		"endless fields":  {long, nil},
		"zeros only":      {make([]byte, 8192), nil},
		"header cut away": {file[fileHeaderSize:], nil},
	} {
		t.Run(name, func(t *testing.T) {
			fs := memFS(t)
			writeFile(t, fs, testDir+"/a", c.file)
			v, err := Open(fs, testDir+"/a", Options{})
			if err == nil {
				must(t, v.Close())
				t.Fatal("opened")
			}
			var corrupt *CorruptError
			if c.want != nil && !errors.Is(err, c.want) || c.want == nil && !errors.As(err, &corrupt) {
				t.Fatal(err)
			}
			if !bytes.Equal(readFile(t, fs, testDir+"/a"), c.file) {
				t.Fatal("the file was changed")
			}
		})
	}
}
