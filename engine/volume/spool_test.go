package volume

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func files(t testing.TB, fs vfs.FS) int {
	t.Helper()
	names, err := fs.List(testDir)
	must(t, err)
	return len(names)
}

// TestSpoolInAnyPieces: how a message arrives, and where it is kept, changes nothing.
func TestSpoolInAnyPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range sizes {
		p := mail(rng, size)
		var stored []byte
		for _, limit := range []int{0, 1000, chunkSize, 8 << 20} {
			fs := memFS(t)
			s := NewSpool(fs, testDir, limit)
			for rest := p; len(rest) > 0; {
				n := min(1+rng.IntN(1+rng.IntN(2*chunkSize)), len(rest))
				got, err := s.Write(rest[:n])
				if err != nil || got != n {
					t.Fatalf("wrote %d of %d: %v", got, n, err)
				}
				rest = rest[n:]
			}
			b, err := s.Finish()
			must(t, err)
			if b.Length() != uint64(size) || b.Hash() != sha256.Sum256(p) {
				t.Fatalf("length %d of %d", b.Length(), size)
			}
			if n := files(t, fs); n != 0 {
				t.Fatalf("%d temporary files have names", n)
			}
			got := storedBytes(t, b)
			if stored == nil {
				stored = got
			}
			if !bytes.Equal(got, stored) || uint64(len(got)) != b.StoredLength() {
				t.Fatalf("%d bytes, limit %d: stored bytes differ", size, limit)
			}
			checkRanges(t, rng, b, p)
			must(t, b.Close())
			must(t, b.Close())
			if _, err := b.Stored(); !errors.Is(err, ErrClosed) {
				t.Fatalf("read a closed blob: %v", err)
			}
			if _, err := s.Write([]byte("x")); !errors.Is(err, ErrClosed) {
				t.Fatalf("write after Finish: %v", err)
			}
			must(t, s.Abort())
		}
	}
}

func storedBytes(t testing.TB, b *Blob) []byte {
	t.Helper()
	r, err := b.Stored()
	must(t, err)
	p, err := io.ReadAll(r)
	must(t, err)
	must(t, r.Close())
	must(t, r.Close())
	return p
}

func checkRanges(t *testing.T, rng *rand.Rand, b *Blob, p []byte) {
	t.Helper()
	for range 5 {
		off, n := rng.IntN(len(p)+1), rng.IntN(len(p)+1)
		r, err := b.Open(uint64(off), uint64(n))
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		if !bytes.Equal(got, p[off:min(off+n, len(p))]) {
			t.Fatalf("range %d+%d of %d differs", off, n, len(p))
		}
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Fatal("read after Close")
		}
	}
}

// TestReadersOutliveTheBlob: memory is given back when the last reader is done, not before.
func TestReadersOutliveTheBlob(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	fs := memFS(t)
	p := mail(rng, 3*chunkSize)
	b := newBlob(t, fs, testDir, p)
	stored, err := b.Stored()
	must(t, err)
	raw, err := b.Open(0, MaxLength)
	must(t, err)
	must(t, b.Close())
	for range 5 { // would use the memory if it had been given back
		must(t, newBlob(t, fs, testDir, mail(rng, 3*chunkSize)).Close())
	}
	got, err := io.ReadAll(raw)
	must(t, err)
	must(t, raw.Close())
	if !bytes.Equal(got, p) {
		t.Fatal("other bytes after Close")
	}
	b2, err := ReceiveBlob(stored, b.Length(), b.StoredLength(), b.Hash(), nil, fs, testDir, 0)
	must(t, err)
	must(t, stored.Close())
	must(t, b2.Close())
}

func TestReceiveBlob(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	fs := memFS(t)
	for _, size := range sizes {
		p := mail(rng, size)
		b := newBlob(t, fs, testDir, p)
		sent := storedBytes(t, b)
		for _, limit := range []int{0, 8 << 20} {
			got, err := ReceiveBlob(bytes.NewReader(sent), b.Length(), b.StoredLength(), b.Hash(), nil, fs, testDir, limit)
			must(t, err)
			if got.Hash() != b.Hash() || !bytes.Equal(storedBytes(t, got), sent) {
				t.Fatal("received something else")
			}
			checkRanges(t, rng, got, p)
			must(t, got.Close())
		}
		must(t, b.Close())
	}
}

func TestReceiveBlobRefuses(t *testing.T) {
	fs := memFS(t)
	p := mail(rand.New(rand.NewPCG(4, 4)), chunkSize+1000)
	b := newBlob(t, fs, testDir, p)
	defer b.Close()
	sent := storedBytes(t, b)
	length, stored := b.Length(), b.StoredLength()
	receive := func(p []byte, length, stored uint64) error {
		got, err := ReceiveBlob(bytes.NewReader(p), length, stored, b.Hash(), nil, fs, testDir, 1000)
		if err == nil {
			must(t, got.Close())
		}
		return err
	}
	must(t, receive(sent, length, stored))
	for name, err := range map[string]error{
		"cut off":            receive(sent[:len(sent)-1], length, stored),
		"shorter than said":  receive(sent, length, stored+1),
		"longer than said":   receive(sent, length, stored-1),
		"one chunk too many": receive(sent, 2*chunkSize+1, stored),
		"one chunk too few":  receive(sent, chunkSize, stored),
		"length over limit":  receive(sent, MaxLength+1, stored),
		"impossible lengths": receive(sent, 10, 1<<63),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for bit := 0; bit < len(sent)*8; bit += 1001 {
		bad := bytes.Clone(sent)
		bad[bit/8] ^= 1 << (bit % 8)
		if receive(bad, length, stored) == nil {
			t.Fatalf("flipped bit %d: taken", bit)
		}
	}
	if n := files(t, fs); n != 0 {
		t.Fatalf("%d files are left", n)
	}
}

// TestSpoolFailures: each call to the file system fails in turn; the spool says so, and leaves nothing behind.
func TestSpoolFailures(t *testing.T) {
	p := mail(rand.New(rand.NewPCG(5, 5)), 4*chunkSize)
	for call := 0; ; call++ {
		mem := memFS(t)
		n := -1
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if n++; n == call {
				return errorfs.ErrInjected
			}
			return nil
		}))
		s := NewSpool(fs, testDir, chunkSize)
		_, writeErr := s.Write(p)
		b, err := s.Finish()
		if n < call {
			must(t, err)
			must(t, b.Close())
			break
		}
		if writeErr == nil && err == nil || !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("call %d: %v, %v", call, writeErr, err)
		}
		must(t, RemoveLeftovers(mem, testDir))
		if n := files(t, mem); n != 0 {
			t.Fatalf("call %d: %d files are left", call, n)
		}
	}
}

func TestSpoolLimit(t *testing.T) {
	s := NewSpool(memFS(t), testDir, 1000)
	s.length = MaxLength - 10
	if _, err := s.Write(make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("over the limit: %v", err)
	}
	if _, err := s.Finish(); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("finish: %v", err)
	}
}
