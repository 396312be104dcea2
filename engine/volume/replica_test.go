package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

func readFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	must(t, err)
	defer f.Close()
	p, err := io.ReadAll(f)
	must(t, err)
	return p
}

func writeFile(t testing.TB, fs vfs.FS, path string, p []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(bytes.Clone(p))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, durable.SyncDir(fs, testDir))
}

// example makes a volume with these messages and returns its bytes and where each record ends.
func example(t testing.TB, messages ...[]byte) (file []byte, ends []int64) {
	t.Helper()
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", testHeader, Options{})
	must(t, err)
	for i, p := range messages {
		put(t, v, fmt.Sprintf("meta %d", i+1), p)
		ends = append(ends, v.Durable())
	}
	must(t, v.Close())
	return readFile(t, fs, testDir+"/a"), ends
}

func mails(seed uint64, sizes ...int) [][]byte {
	rng := rand.New(rand.NewPCG(seed, seed))
	var out [][]byte
	for _, n := range sizes {
		out = append(out, mail(rng, n))
	}
	return out
}

// TestTapMakesIdenticalCopy sends what the Tap sees to a second volume, cut at random places.
func TestTapMakesIdenticalCopy(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	fs := memFS(t)
	copyFS := memFS(t)
	replica, err := Create(copyFS, testDir+"/a", testHeader, Options{})
	must(t, err)
	feed := func(off int64, p []byte) error {
		if len(p) > pieceSize {
			return fmt.Errorf("piece of %d bytes", len(p))
		}
		for len(p) > 0 {
			n := 1 + rng.IntN(len(p))
			if err := replica.Receive(off, p[:n]); err != nil {
				return err
			}
			off, p = off+int64(n), p[n:]
		}
		return nil
	}
	v, err := Create(fs, testDir+"/a", testHeader, Options{Tap: tapFunc(feed)})
	must(t, err)
	for i, n := range sizes {
		put(t, v, fmt.Sprintf("meta %d", i), mail(rng, n))
		if replica.Durable() == v.Durable() {
			t.Fatal("durable before Commit")
		}
		durable, err := replica.Commit()
		must(t, err)
		if durable != v.Durable() || replica.Durable() != durable {
			t.Fatalf("replica durable to %d, primary to %d", durable, v.Durable())
		}
	}
	fsyncs := replica.Stats().Fsyncs
	if _, err := replica.Commit(); err != nil || replica.Stats().Fsyncs != fsyncs {
		t.Fatalf("a Commit of nothing cost an fsync, or %v", err)
	}
	must(t, v.Close())
	must(t, replica.Close())
	if !bytes.Equal(readFile(t, fs, testDir+"/a"), readFile(t, copyFS, testDir+"/a")) {
		t.Fatal("the copies differ")
	}
}

func TestReceiveInOnePiecePerByte(t *testing.T) {
	file, ends := example(t, mails(1, 0, 10, 3000)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	next := 0
	for off := fileHeaderSize; off < len(file); off++ {
		must(t, v.Receive(int64(off), file[off:off+1]))
		durable, err := v.Commit()
		must(t, err)
		want := int64(fileHeaderSize)
		if int64(off+1) == ends[next] {
			next++
		}
		if next > 0 {
			want = ends[next-1]
		}
		if durable != want {
			t.Fatalf("after byte %d durable to %d, want the record boundary %d", off, durable, want)
		}
	}
	if h := v.Header(); h.Primary != testHeader.Primary || h.Salt != testHeader.Salt {
		t.Fatalf("header %+v", h)
	}
}

// TestReceiveRefusesWhatIsNotAVolume flips each bit of some records in turn: no copy takes them.
func TestReceiveRefusesWhatIsNotAVolume(t *testing.T) {
	file, ends := example(t, mails(2, 100, 700)...)
	for bit := fileHeaderSize * 8; bit < len(file)*8; bit += 3 {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		fs := memFS(t)
		v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
		must(t, err)
		err = v.Receive(fileHeaderSize, bad[fileHeaderSize:])
		var corrupt *CorruptError
		if err == nil && int64(bit/8) < ends[1] || err != nil && !errors.As(err, &corrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if err := v.Receive(fileHeaderSize, file[fileHeaderSize:]); err == nil {
			t.Fatalf("bit %d: went on after refusing", bit)
		}
		must(t, v.Close())
	}
}

func TestReceiveAtTheTailOnly(t *testing.T) {
	file, ends := example(t, mails(3, 100, 700, 50)...)
	v, err := CreateCopy(memFS(t), testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	for _, off := range []int64{0, fileHeaderSize - 8, fileHeaderSize + 8, ends[0]} {
		if err := v.Receive(off, file[off:]); !errors.Is(err, ErrMisplaced) {
			t.Fatalf("at %d: %v", off, err)
		}
	}
	// A record that is missing in between has the wrong number.
	var corrupt *CorruptError
	if err := v.Receive(fileHeaderSize, file[ends[0]:]); !errors.As(err, &corrupt) || corrupt.Record != 1 {
		t.Fatalf("record 2 for record 1: %v", err)
	}
}

// TestForeignRecordIsRefused: the salt makes a record of one volume no record of another.
func TestForeignRecordIsRefused(t *testing.T) {
	file, _ := example(t, mails(4, 100)...)
	other := testHeader
	other.Salt++
	v, err := Create(memFS(t), testDir+"/b", other, Options{})
	must(t, err)
	defer v.Close()
	var corrupt *CorruptError
	if err := v.Receive(fileHeaderSize, file[fileHeaderSize:]); !errors.As(err, &corrupt) {
		t.Fatal(err)
	}
}

func TestPartlyReceivedRecordIsATornTail(t *testing.T) {
	file, ends := example(t, mails(5, 100, 9000)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	must(t, v.Receive(fileHeaderSize, file[fileHeaderSize:ends[1]-10]))
	durable, err := v.Commit()
	must(t, err)
	if durable != ends[0] {
		t.Fatalf("durable to %d, want %d", durable, ends[0])
	}
	must(t, v.Close())
	v, err = Open(fs, testDir+"/b", Options{})
	must(t, err)
	defer v.Close()
	if s := v.Stats(); s.Bytes != ends[0] || s.Cut != ends[1]-10-ends[0] || s.Damaged != 0 {
		t.Fatalf("%+v", s)
	}
	// Repair brings what is missing from another copy.
	must(t, v.Extend(ends[0], file[ends[0]:]))
	if durable, err = v.Commit(); err != nil || durable != ends[1] {
		t.Fatalf("durable to %d, %v", durable, err)
	}
	expect(t, v, 2, "meta 2", mails(5, 100, 9000)[1])
}

func TestSealGivesUpWhatWasNotCommitted(t *testing.T) {
	file, ends := example(t, mails(6, 100, 9000, 20)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	must(t, v.Receive(fileHeaderSize, file[fileHeaderSize:ends[0]]))
	_, err = v.Commit()
	must(t, err)
	must(t, v.Receive(ends[0], file[ends[0]:ends[2]-5]))
	must(t, v.Seal())
	if durable, err := v.Commit(); err != nil || durable != ends[0] {
		t.Fatalf("commit after Seal: %d, %v", durable, err)
	}
	if err := v.Receive(ends[2]-5, file[ends[2]-5:]); !errors.Is(err, ErrSealed) {
		t.Fatalf("receive after Seal: %v", err)
	}
	// Whole records were given up: a mended copy, shorter for now, must not show them.
	must(t, v.Extend(ends[0], file[ends[0]:ends[0]+40]))
	must(t, v.Close())
	v, err = Open(fs, testDir+"/b", Options{})
	must(t, err)
	if s := v.Stats(); s.Records != 1 || s.Bytes != ends[0] {
		t.Fatalf("%+v", s)
	}
	must(t, v.Close())
}

// TestRefusedPieceCommitsNothing: a piece is refused as a whole, also the good records at its beginning.
func TestRefusedPieceCommitsNothing(t *testing.T) {
	file, ends := example(t, mails(9, 100, 900)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	bad := bytes.Clone(file)
	bad[ends[0]] ^= 1
	if err := v.Receive(fileHeaderSize, bad[fileHeaderSize:]); err == nil {
		t.Fatal("took a damaged record")
	}
	if durable, err := v.Commit(); err != nil || durable != fileHeaderSize {
		t.Fatalf("durable to %d, %v", durable, err)
	}
}

func TestExtendStartsAgainAfterABadPeer(t *testing.T) {
	file, ends := example(t, mails(7, 100, 900)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	if err := v.Extend(fileHeaderSize, file[fileHeaderSize:]); !errors.Is(err, ErrMisplaced) {
		t.Fatalf("extend an open volume: %v", err)
	}
	must(t, v.Seal())
	bad := bytes.Clone(file)
	bad[ends[0]+recordHeaderSize+20] ^= 1
	must(t, v.Extend(fileHeaderSize, bad[fileHeaderSize:ends[0]]))
	if err := v.Extend(ends[0], bad[ends[0]:]); err == nil {
		t.Fatal("took a damaged record")
	}
	// What came before it may be committed; then a better peer is asked for the rest.
	durable, err := v.Commit()
	must(t, err)
	must(t, v.Extend(durable, file[durable:]))
	if durable, err = v.Commit(); err != nil || durable != ends[1] {
		t.Fatalf("durable to %d, %v", durable, err)
	}
	got := make([]byte, len(file)+100)
	n, err := v.ReadRaw(0, got)
	if err != io.EOF || !bytes.Equal(got[:n], file) {
		t.Fatalf("read raw %d bytes, %v", n, err)
	}
}

// TestExtendTakesWhatIsWhole: one other copy has lost the second record, another one the third. Together they give all.
func TestExtendTakesWhatIsWhole(t *testing.T) {
	file, ends := example(t, mails(11, 100, 900, 9000, 20)...)
	fs := memFS(t)
	v, err := CreateCopy(fs, testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	must(t, v.Seal())
	durable := int64(fileHeaderSize)
	for _, lost := range []int{1, 2} {
		bad := bytes.Clone(file)
		bad[ends[lost-1]+recordHeaderSize+20] ^= 1
		// Most of a record came, and no more of it.
		must(t, v.Extend(durable, bad[durable:ends[lost-1]+recordHeaderSize+10]))
		if durable, err = v.Commit(); err != nil || durable != ends[lost-1] {
			t.Fatalf("durable to %d, %v", durable, err)
		}
		if err := v.Extend(durable, bad[durable:]); err == nil {
			t.Fatal("took a damaged record")
		}
		if durable, err = v.Commit(); err != nil || durable != ends[lost-1] {
			t.Fatalf("durable to %d, %v", durable, err)
		}
		good := bytes.Clone(file)
		good[ends[lost]+recordHeaderSize+20] ^= 1
		if err := v.Extend(durable, good[durable:]); err == nil {
			t.Fatal("took a damaged record")
		}
		if durable, err = v.Commit(); err != nil || durable != ends[lost] {
			t.Fatalf("durable to %d, want %d, %v", durable, ends[lost], err)
		}
	}
	must(t, v.Extend(durable, file[durable:]))
	if durable, err = v.Commit(); err != nil || durable != ends[3] {
		t.Fatalf("durable to %d, %v", durable, err)
	}
	if got := readFile(t, fs, testDir+"/b"); !bytes.Equal(got, file) {
		t.Fatal("another file than the copies'")
	}
}

func TestTruncateAtRecordsOnly(t *testing.T) {
	for _, base := range []struct {
		name string
		fs   vfs.FS
		dir  string
	}{{"memory", memFS(t), testDir}, {"disk", vfs.Default, t.TempDir()}} {
		t.Run(base.name, func(t *testing.T) {
			path := base.fs.PathJoin(base.dir, "a")
			v, err := Create(base.fs, path, testHeader, Options{})
			must(t, err)
			ends := []int64{fileHeaderSize}
			messages := mails(8, 500, 9000, 10)
			for i, p := range messages {
				b := newBlob(t, base.fs, base.dir, p)
				_, end, err := v.Append(t.Context(), KindMessage, fmt.Appendf(nil, "meta %d", i+1), b)
				must(t, err)
				must(t, b.Close())
				ends = append(ends, end)
			}
			must(t, v.Seal())
			for _, bad := range []int64{-8, 0, fileHeaderSize - 8, ends[1] + 8, ends[3] - 8, ends[3] + 8} {
				if err := v.Truncate(bad); !errors.Is(err, ErrMisplaced) {
					t.Fatalf("truncate to %d: %v", bad, err)
				}
			}
			for keep := 3; keep >= 0; keep-- {
				must(t, v.Truncate(ends[keep]))
				if s := v.Stats(); s.Bytes != ends[keep] || s.Records != uint64(keep) {
					t.Fatalf("%+v", s)
				}
				if _, err := v.Open(uint64(keep)+1, 0, 1); !errors.Is(err, ErrNotFound) {
					t.Fatalf("read a record that was cut: %v", err)
				}
				must(t, v.Close())
				v, err = Open(base.fs, path, Options{})
				must(t, err)
				if s := v.Stats(); s.Bytes != ends[keep] || s.Records != uint64(keep) || s.Failed != nil {
					t.Fatalf("reopened: %+v", s)
				}
				for i := range keep {
					expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), messages[i])
				}
			}
			must(t, v.Close())
		})
	}
}
