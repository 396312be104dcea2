package volume

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/effort"
)

// damaged opens a good file and then changes it on the disk, as bit rot does.
func damaged(t testing.TB, fs vfs.FS, good, bad []byte) *Volume {
	t.Helper()
	writeFile(t, fs, testDir+"/a", good)
	v, err := Open(fs, testDir+"/a", Options{})
	must(t, err)
	if _, err := v.file.WriteAt(bytes.Clone(bad), 0); err != nil {
		t.Fatal(err)
	}
	return v
}

func content(t testing.TB, v *Volume) []byte {
	t.Helper()
	b := make([]byte, v.Durable())
	if _, err := v.file.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

// generations gives the same messages as a file that was appended to and as one that was compacted.
func generations(t testing.TB, messages ...[]byte) map[string][]byte {
	t.Helper()
	first, _ := example(t, messages...)
	var numbers []uint64
	for i := len(messages); i > 0; i-- {
		numbers = append(numbers, uint64(i))
	}
	later, _ := laterGeneration(t, first, numbers...)
	return map[string][]byte{"first generation": first, "later generation": later}
}

func TestVerifyWholeFile(t *testing.T) {
	for name, file := range generations(t, mails(1, 0, 300, 1_000_000, 3, 300_000)...) {
		v, _ := openBytes(t, file)
		var ranges [][32]byte
		var paced int
		out, err := v.Verify(Check{
			Pace:  func(n int) error { paced += n; return nil },
			Range: func(sum [32]byte) error { ranges = append(ranges, sum); return nil },
		})
		must(t, err)
		if out.Records != 5 || out.Damaged+out.Mended > 0 || len(out.Findings) > 0 || out.Digest != sha256.Sum256(file) ||
			out.Length != int64(len(file)) || out.Generation != v.header.Generation {
			t.Errorf("%s: %+v", name, out)
		}
		if paced != len(file) {
			t.Errorf("%s: %d bytes were read of %d", name, paced, len(file))
		}
		for i, sum := range ranges {
			if sum != sha256.Sum256(file[i*RangeSize:min((i+1)*RangeSize, len(file))]) {
				t.Errorf("%s: digest of range %d", name, i)
			}
		}
		if want := (len(file) + RangeSize - 1) / RangeSize; len(ranges) != want {
			t.Errorf("%s: %d ranges, want %d", name, len(ranges), want)
		}
		must(t, v.Close())
	}
}

// TestEveryFlippedBitIsMended: whatever bit flips on the disk of an open volume, checking finds it, says in which record, and
// takes only what is right from the other copy, which has damage of its own elsewhere.
func TestEveryFlippedBitIsMended(t *testing.T) {
	for name, file := range generations(t, mails(2, 200, 0, 900, 60)...) {
		fs := memFS(t)
		v := damaged(t, fs, file, file)
		for bit := 0; bit < len(file)*8; bit += effort.Of(13, 1+bit%5, 1+bit%5) {
			if bit > 100*8 && bit < 4000*8 && bit%97 > 0 || (bit/8+fileHeaderSize)%len(file) < fileHeaderSize && bit/8 < fileHeaderSize {
				continue // the zeros of the header block
			}
			bad, other := bytes.Clone(file), bytes.Clone(file)
			bad[bit/8] ^= 1 << (bit % 8)
			other[(bit/8+fileHeaderSize)%len(file)] ^= 1
			if _, err := v.file.WriteAt(bad, 0); err != nil {
				t.Fatal(err)
			}
			want := uint64(0)
			for i, p := range allPlaces(t, v) {
				if int64(p)*alignment <= int64(bit/8) && bit/8 >= fileHeaderSize && (want == 0 || p > allPlaces(t, v)[want-1]) {
					want = uint64(i) + 1
				}
			}
			out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(other[:100]), bytes.NewReader(other)}})
			must(t, err)
			if out.Mended != 1 || out.Damaged != 0 || len(out.Findings) != 1 || out.Digest != sha256.Sum256(file) {
				t.Fatalf("%s: bit %d: %+v", name, bit, out)
			}
			f := out.Findings[0]
			if f.Record != want || !f.Mended || f.Start > int64(bit/8) || f.End <= int64(bit/8) || f.Reason == "" {
				t.Fatalf("%s: bit %d: %+v, want record %d", name, bit, f, want)
			}
			if !bytes.Equal(content(t, v), file) {
				t.Fatalf("%s: bit %d: not mended", name, bit)
			}
		}
		must(t, v.Close())
	}
}

// TestDamageWithoutAnotherCopy: it is reported, nothing is written, and every record but the damaged ones is still counted.
func TestDamageWithoutAnotherCopy(t *testing.T) {
	for name, file := range generations(t, mails(3, 200, 600_000, 900, 60, 5000)...) {
		for seed := range seeds(t, 50) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			at := fileHeaderSize + rng.IntN(len(file)-fileHeaderSize)
			size := 1 + rng.IntN(min(len(file)-at, 1<<rng.IntN(20)))
			bad := bytes.Clone(file)
			clear(bad[at : at+size])
			if bytes.Equal(bad, file) {
				continue
			}
			v := damaged(t, memFS(t), file, bad)
			out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(bad)}})
			must(t, err)
			hit := uint64(0)
			for i := range allPlaces(t, v) {
				start := int64(allPlaces(t, v)[i]) * alignment
				if !bytes.Equal(file[start:endOf(t, v, start)], bad[start:endOf(t, v, start)]) {
					hit++
				}
			}
			if out.Damaged != hit || out.Mended != 0 || out.Digest != [32]byte{} || !bytes.Equal(content(t, v), bad) {
				t.Fatalf("%s: %d zeros at %d hit %d records: %+v", name, size, at, hit, out)
			}
			must(t, v.Close())
		}
	}
}

// endOf is where the record that begins at start ends.
func endOf(t testing.TB, v *Volume, start int64) int64 {
	end := v.durable
	for _, p := range allPlaces(t, v) {
		if at := int64(p) * alignment; at > start {
			end = min(end, at)
		}
	}
	return end
}

// TestMendedFromSeveralCopies: no copy has the whole record, and all together have.
func TestMendedFromSeveralCopies(t *testing.T) {
	for name, file := range generations(t, mails(4, 200, 900_000, 900)...) {
		for seed := range seeds(t, 30) {
			rng := rand.New(rand.NewPCG(uint64(seed), 2))
			bad, one, two := bytes.Clone(file), bytes.Clone(file), bytes.Clone(file)
			clear(bad[:]) // nothing is left here
			half := fileHeaderSize + rng.IntN(len(file)-fileHeaderSize)
			clear(one[half:])
			clear(two[:max(0, half-(chunkSize+100))])
			v := damaged(t, memFS(t), file, bad)
			out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(one), bytes.NewReader(two)}})
			must(t, err)
			if out.Damaged != 0 || out.Mended != 4 || !bytes.Equal(content(t, v), file) {
				t.Fatalf("%s: cut at %d: %+v", name, half, out)
			}
			must(t, v.Close())
		}
	}
}

// TestMendOne mends a record and leaves the rest of the file alone.
func TestMendOne(t *testing.T) {
	for name, file := range generations(t, mails(5, 200, 9000, 900)...) {
		bad := bytes.Clone(file)
		for i := range bad {
			bad[i] ^= 0x55
		}
		v := damaged(t, memFS(t), file, bad)
		out, err := v.Mend(2, Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
		must(t, err)
		start := int64(allPlaces(t, v)[1]) * alignment
		end := endOf(t, v, start)
		want := append(append(bytes.Clone(bad[:start]), file[start:end]...), bad[end:]...)
		if out.Mended != 1 || out.Damaged != 0 || !bytes.Equal(content(t, v), want) || out.Digest != [32]byte{} {
			t.Errorf("%s: %+v", name, out)
		}
		expect(t, v, 2, "meta 2", mails(5, 200, 9000, 900)[1])
		if _, err := v.Mend(9, Check{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: record that is not there: %v", name, err)
		}
		must(t, v.Close())
	}
}

// TestLostRecordsAreFoundAgain: a volume that was opened with damage serves all its records once it is mended.
func TestLostRecordsAreFoundAgain(t *testing.T) {
	messages := mails(6, 200, 5000, 300, 700, 100)
	for name, file := range generations(t, messages...) {
		fs := memFS(t)
		s, err := OpenSet(fs, testDir, SetOptions{})
		must(t, err)
		good, err := Open(writtenFS(t, file), testDir+"/a", Options{})
		must(t, err)
		bad := bytes.Clone(file)
		clear(bad[int64(allPlaces(t, good)[1])*alignment:][:8])
		clear(bad[int64(allPlaces(t, good)[2])*alignment:][:400])
		must(t, good.Close())
		must(t, s.Close())
		writeFile(t, fs, testDir+"/"+testHeader.ID.String()+volumeSuffix, bad)
		s, err = OpenSet(fs, testDir, SetOptions{})
		must(t, err)
		out, err := s.Verify(testHeader.ID, Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
		must(t, err)
		if out.Mended == 0 || out.Damaged != 0 || out.Digest != sha256.Sum256(file) {
			t.Errorf("%s: %+v", name, out)
		}
		v, err := s.Get(testHeader.ID)
		must(t, err)
		for i, p := range messages {
			expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
		}
		must(t, s.Close())
	}
}

func writtenFS(t testing.TB, file []byte) vfs.FS {
	fs := memFS(t)
	writeFile(t, fs, testDir+"/a", file)
	return fs
}

// TestUnreadableSectorsAreRewritten: what the disk does not give counts as damaged, zeros or not.
func TestUnreadableSectorsAreRewritten(t *testing.T) {
	file, _ := example(t, mails(7, 200, 300_000, 900)...)
	fs := &rottenFS{FS: memFS(t), bad: map[int64]bool{}}
	v := damaged(t, fs, file, file)
	fs.bad[4096], fs.bad[4096*20], fs.bad[4096*21] = true, true, true
	out, err := v.Verify(Check{})
	must(t, err)
	if out.Damaged != 2 || out.Mended != 0 {
		t.Fatalf("%+v", out)
	}
	out, err = v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
	must(t, err)
	if out.Damaged != 0 || out.Mended != 2 || len(fs.bad) > 0 {
		t.Fatalf("%+v, left: %v", out, fs.bad)
	}
	must(t, v.Close())
}

// rottenFS has sectors that cannot be read until they are written.
type rottenFS struct {
	vfs.FS
	bad map[int64]bool
}

func (fs *rottenFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	return &rottenFile{f, fs}, err
}

type rottenFile struct {
	vfs.File
	fs *rottenFS
}

func (f *rottenFile) ReadAt(p []byte, off int64) (int, error) {
	for at := range f.fs.bad {
		if at < off+int64(len(p)) && off < at+sector {
			return 0, errors.New("input/output error")
		}
	}
	return f.File.ReadAt(p, off)
}

func (f *rottenFile) WriteAt(p []byte, off int64) (int, error) {
	for at := range f.fs.bad {
		if at < off+int64(len(p)) && off < at+sector {
			delete(f.fs.bad, at)
		}
	}
	return f.File.WriteAt(p, off)
}

// TestPowerCutWhileMendingInPlace: after a power cut at any call a record is whole, or says that it is not, and checking again
// makes the file whole.
func TestPowerCutWhileMendingInPlace(t *testing.T) {
	messages := mails(8, 3000, 100, 90_000, 20_000, 5)
	for name, file := range generations(t, messages...) {
		for seed := range seeds(t, 30) {
			rng := rand.New(rand.NewPCG(uint64(seed), 3))
			bad := bytes.Clone(file)
			for range 1 + rng.IntN(10) {
				at := fileHeaderSize + rng.IntN(len(file)-fileHeaderSize)
				bad[at] ^= 0xff
			}
			mem := memFS(t)
			cuts := newPowerCuts(mem, uint64(seed))
			fs := errorfs.Wrap(mem, cuts)
			v := damaged(t, fs, file, bad)
			must(t, v.file.Sync())
			cuts.cuts = nil
			_, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
			must(t, err)
			cuts.cut("after mending")
			must(t, v.Close())
			for _, c := range cuts.cuts {
				checkMended(t, name+": "+c.at, c.fs, file)
			}
		}
	}
}

func checkMended(t *testing.T, at string, fs vfs.FS, file []byte) {
	t.Helper()
	v, err := Open(fs, testDir+"/a", Options{})
	must(t, err)
	for record := range uint64(5) {
		info, err := v.Get(record + 1)
		p, readErr := fetch(v, record+1, 0, MaxLength)
		var corrupt *CorruptError
		switch err = errors.Join(err, readErr); {
		case errors.As(err, &corrupt), errors.Is(err, ErrNotFound): // the last one may be cut as a torn tail
		case err != nil || sha256.Sum256(p) != info.Hash:
			t.Fatalf("%s: record %d has other bytes: %v", at, record+1, err)
		}
	}
	out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
	must(t, err)
	if out.Damaged != 0 || !bytes.Equal(content(t, v), file[:v.Durable()]) {
		t.Fatalf("%s: %+v", at, out)
	}
	must(t, v.Close())
}

// TestEachCallFailsWhileMending: an error of the file system ends the check with an error, or is damage that is mended.
func TestEachCallFailsWhileMending(t *testing.T) {
	file, _ := example(t, mails(9, 3000, 100, 90_000, 20_000, 5)...)
	bad := bytes.Clone(file)
	for at := fileHeaderSize; at < len(bad); at += 9000 {
		bad[at] ^= 1
	}
	for call := 0; ; call++ {
		mem := memFS(t)
		var mu sync.Mutex
		n, armed, injected := 0, false, false
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if !armed {
				return nil
			}
			n++
			if n-1 != call {
				return nil
			}
			injected = true
			return fmt.Errorf("call %d: %w", call, errorfs.ErrInjected)
		}))
		v := damaged(t, fs, file, bad)
		armed = true
		out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
		armed = false
		if err == nil && (out.Damaged != 0 || !bytes.Equal(content(t, v), file)) {
			t.Fatalf("call %d: no error, and %+v", call, out)
		}
		if err != nil && out != nil && v.Stats().Failed == nil { // without out, the check did not begin
			t.Fatalf("call %d: %v, and the volume goes on", call, err)
		}
		must(t, v.Close())
		if !injected {
			must(t, err)
			if call < 4 {
				t.Fatalf("only %d calls", call)
			}
			return
		}
		checkMended(t, fmt.Sprintf("call %d", call), mem, file)
	}
}

// TestHeaderIsMended: a file whose header block is lost is as good as before with the other copy's block.
func TestHeaderIsMended(t *testing.T) {
	messages := mails(10, 200, 5000, 300)
	for name, file := range generations(t, messages...) {
		bad := bytes.Clone(file)
		clear(bad[:fileHeaderSize+8]) // and that of the first record
		fs := memFS(t)
		writeFile(t, fs, testDir+"/"+testHeader.ID.String()+volumeSuffix, bad)
		s, err := OpenSet(fs, testDir, SetOptions{})
		must(t, err)
		var corrupt *CorruptError
		if _, err := s.Get(testHeader.ID); !errors.As(err, &corrupt) {
			t.Fatalf("%s: %v", name, err)
		}
		foreign := testHeader
		foreign.Salt++
		block, err := encodeFileHeader(foreign)
		must(t, err)
		if err := s.MendHeader(testHeader.ID, block); !errors.Is(err, ErrMisplaced) {
			t.Fatalf("%s: block of another file: %v", name, err)
		}
		must(t, s.MendHeader(testHeader.ID, file[:fileHeaderSize]))
		out, err := s.Verify(testHeader.ID, Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
		must(t, err)
		if out.Mended != 1 || out.Digest != sha256.Sum256(file) {
			t.Errorf("%s: %+v", name, out)
		}
		must(t, s.Close())
	}
}

// TestRecheck: a file that is gone, cut or another one under the same name is noticed while the volume is open.
func TestRecheck(t *testing.T) {
	file, _ := example(t, mails(11, 200, 5000, 300)...)
	name := testHeader.ID.String() + volumeSuffix
	for what, change := range map[string]func(fs vfs.FS, path string) error{
		"gone": func(fs vfs.FS, path string) error { return fs.Remove(path) },
		"cut": func(_ vfs.FS, path string) error {
			return os.Truncate(path, int64(len(file)-100))
		},
		"replaced": func(fs vfs.FS, path string) error {
			return errors.Join(os.WriteFile(path+"2", file, 0o600), fs.Rename(path+"2", path))
		},
	} {
		dir := t.TempDir()
		path := vfs.Default.PathJoin(dir, name)
		must(t, os.WriteFile(path, file, 0o600))
		s, err := OpenSet(vfs.Default, dir, SetOptions{})
		must(t, err)
		before, err := s.Get(testHeader.ID)
		must(t, err)
		if moved, err := s.Recheck(testHeader.ID); moved || err != nil {
			t.Fatalf("%s: before: %v, %v", what, moved, err)
		}
		must(t, change(vfs.Default, path))
		if moved, err := s.Recheck(testHeader.ID); !moved || err != nil {
			t.Fatalf("%s: %v, %v", what, moved, err)
		}
		after, err := s.Get(testHeader.ID)
		switch {
		case what == "gone" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %v", what, err)
		case what == "cut" && (err != nil || after.Durable() >= before.Durable()):
			t.Errorf("%s: %v", what, err)
		case what == "replaced" && (err != nil || after.Durable() != before.Durable()):
			t.Errorf("%s: %v", what, err)
		}
		must(t, s.Close())
	}
}

// FuzzVerify: whatever is written over a file, checking does not panic, and with another copy that is whole the file is as before.
func FuzzVerify(f *testing.F) {
	var files [][]byte
	for _, file := range generations(f, mails(12, 200, 0, 9000, 60)...) {
		files = append(files, file)
	}
	f.Add(uint16(4096), false, []byte("\x01HYR"))
	f.Add(uint16(4100), true, make([]byte, 5000))
	f.Add(uint16(0), true, []byte("HYvolume\x02"))
	f.Fuzz(func(t *testing.T, at uint16, flip bool, p []byte) {
		for _, file := range files {
			bad := bytes.Clone(file)
			for i, b := range p {
				switch o := int(at) + i; {
				case o >= len(bad):
				case flip:
					bad[o] ^= b
				default:
					bad[o] = b
				}
			}
			v := damaged(t, memFS(t), file, bad)
			alone, err := v.Verify(Check{})
			must(t, err)
			if (alone.Damaged == 0) != bytes.Equal(bad, file) {
				t.Fatalf("%+v", alone)
			}
			out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(bad), bytes.NewReader(file)}})
			must(t, err)
			if out.Damaged > 0 || !bytes.Equal(content(t, v), file) {
				t.Fatalf("%+v", out)
			}
			must(t, v.Close())
		}
	})
}

// BenchmarkVerify reads a file of 64 MiB from the disk under the temporary directory, and mends it when all of it is lost; beside it the
// bare cost of reading as many bytes with SHA-256.
func BenchmarkVerify(b *testing.B) {
	rng := rand.New(rand.NewPCG(13, 13))
	var messages [][]byte
	for range 1600 {
		messages = append(messages, mail(rng, 64<<10))
	}
	file, _ := example(b, messages...)
	path := b.TempDir() + "/a"
	must(b, os.WriteFile(path, file, 0o600))
	v, err := Open(vfs.Default, path, Options{})
	must(b, err)
	defer v.Close()
	b.Run("bare read and SHA-256", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		buf := make([]byte, RangeSize)
		for b.Loop() {
			sum := sha256.New()
			for off := int64(0); off < int64(len(file)); off += RangeSize {
				forgetPages(v.file, off, RangeSize)
				n, err := v.file.ReadAt(buf, off)
				if err != nil && err != io.EOF {
					b.Fatal(err)
				}
				sum.Write(buf[:n])
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		b.ReportAllocs()
		for b.Loop() {
			out, err := v.Verify(Check{})
			must(b, err)
			if out.Damaged > 0 {
				b.Fatal(out)
			}
		}
	})
	b.Run("mend all", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			must(b, os.WriteFile(path, make([]byte, len(file)), 0o600))
			out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
			must(b, err)
			if out.Damaged > 0 {
				b.Fatal(out)
			}
		}
	})
}

// TestHeaderBlockFromMemory: an open volume knows its header block, so it does not matter that all copies have lost theirs.
func TestHeaderBlockFromMemory(t *testing.T) {
	for name, file := range generations(t, mails(15, 200, 9000)...) {
		bad := bytes.Clone(file)
		clear(bad[:fileHeaderSize])
		v := damaged(t, memFS(t), file, bad)
		out, err := v.Verify(Check{Others: []io.ReaderAt{bytes.NewReader(bad)}})
		must(t, err)
		if out.Mended != 1 || out.Damaged != 0 || out.Findings[0].Source != FromMemory || !bytes.Equal(content(t, v), file) {
			t.Errorf("%s: %+v", name, out)
		}
		must(t, v.Close())
	}
}
