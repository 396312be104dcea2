package atrest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testKey(b byte) *Key { return NewKey([32]byte{b}) }

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// write makes a file in pieces of random sizes.
func write(t *testing.T, fs vfs.FS, name string, content []byte, r *rand.Rand) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	for rest := content; len(rest) > 0; {
		n := min(1+r.IntN(100_000), len(rest))
		piece := bytes.Clone(rest[:n])
		m, err := f.Write(piece)
		if err != nil || m != n || !bytes.Equal(piece, rest[:n]) {
			t.Fatalf("wrote %d of %d, its argument may have changed: %v", m, n, err)
		}
		rest = rest[n:]
	}
	must(t, errors.Join(f.Sync(), f.Close()))
}

func TestReadsWhatWasWritten(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		base := vfs.NewMem()
		fs := testKey(1).FS(base)
		content := noise(r, r.IntN(300_000))
		write(t, fs, "f", content, r)
		f, err := fs.Open("f")
		must(t, err)
		for range 50 {
			off, n := r.IntN(len(content)+10), r.IntN(70_000)
			p := make([]byte, n)
			got, err := f.ReadAt(p, int64(off))
			want := content[min(off, len(content)):min(off+n, len(content))]
			if !bytes.Equal(p[:got], want) || got < n && err != io.EOF || got == n && err != nil {
				t.Fatalf("read %d of %d at %d: %v", got, n, off, err)
			}
		}
		all, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(all, content) {
			t.Fatalf("read %d bytes of %d: %v", len(all), len(content), err)
		}
		inside, err := f.Stat()
		must(t, err)
		outside, err := fs.Stat("f")
		must(t, errors.Join(err, f.Close()))
		if inside.Size() != int64(len(content)) || outside.Size() != int64(len(content)) {
			t.Fatalf("%d bytes are %d and %d", len(content), inside.Size(), outside.Size())
		}
	}
}

func TestNothingInTheClear(t *testing.T) {
	base := vfs.NewMem()
	fs := testKey(1).FS(base)
	content := bytes.Repeat([]byte("From: u0001@example.test\r\n"), 1000)
	r := rand.New(rand.NewPCG(1, 1))
	write(t, fs, "a", content, r)
	write(t, fs, "b", content, r)
	a, b := raw(t, base, "a"), raw(t, base, "b")
	if bytes.Contains(a, []byte("example")) {
		t.Error("the content is in the clear")
	}
	if bytes.Equal(a[headerSize:headerSize+16], b[headerSize:headerSize+16]) {
		t.Error("two files share a key stream")
	}
}

func raw(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return b
}

func put(t *testing.T, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(bytes.Clone(b)) // writing may spoil what is written
	must(t, errors.Join(err, f.Close()))
}

func TestRefusedFiles(t *testing.T) {
	base := vfs.NewMem()
	fs := testKey(1).FS(base)
	write(t, fs, "f", []byte("something"), rand.New(rand.NewPCG(1, 1)))
	good := raw(t, base, "f")
	change := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"plain":   {bytes.Repeat([]byte("x"), 100), ErrPlain},
		"newer":   {change(8), ErrVersion},
		"salt":    {change(20), ErrWrongKey},
		"tag":     {change(63), ErrWrongKey},
		"padding": {change(13), ErrWrongKey},
	} {
		put(t, base, "bad", c.content)
		if _, err := fs.Open("bad"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := testKey(2).FS(base).Open("f"); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := fs.Open("nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestNeverSynced: what a crash leaves of a file that was not synced reads as an empty one.
func TestNeverSynced(t *testing.T) {
	base := vfs.NewMem()
	fs := testKey(1).FS(base)
	for _, left := range []int{0, 1, headerSize - 1, headerSize, headerSize + 100} {
		put(t, base, "f", make([]byte, left))
		if got := raw(t, fs, "f"); len(got) != 0 {
			t.Errorf("%d zeros read as %d bytes", left, len(got))
		}
		f, err := fs.Open("f")
		must(t, err)
		info, err := f.Stat()
		if must(t, errors.Join(err, f.Close())); info.Size() != 0 {
			t.Errorf("%d zeros are a file of %d bytes", left, info.Size())
		}
	}
}

func TestWrittenOnce(t *testing.T) {
	base := vfs.NewMem()
	fs := testKey(1).FS(base)
	if _, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("opened for rewriting: %v", err)
	}
	put(t, fs, "old", []byte("of before"))
	before := raw(t, base, "old")
	f, err := fs.ReuseForWrite("old", "new", vfs.WriteCategoryUnspecified)
	must(t, err)
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("rewritten: %v", err)
	}
	must(t, f.Close())
	if _, err := fs.Stat("old"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old name is left: %v", err)
	}
	if bytes.Equal(before[:headerSize], raw(t, base, "new")) {
		t.Error("a file that is used again has the key of before")
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden: a file and an entry of version 1 read as they did.
func TestGolden(t *testing.T) {
	const file, entry = "testdata/file-1.hex", "testdata/entry-1.hex"
	want := []byte("From: u0001@example.test\r\n\r\nHongyan carries letters.\r\n")
	base := vfs.NewMem()
	fs := testKey(7).FS(base)
	l := testKey(7).Log("shard 0003")
	if *update {
		put(t, fs, "f", want)
		must(t, os.WriteFile(file, []byte(hex.EncodeToString(raw(t, base, "f"))+"\n"), 0o644))
		must(t, os.WriteFile(entry, []byte(hex.EncodeToString(l.Seal(want, 99))+"\n"), 0o644))
	}
	put(t, base, "f", golden(t, file))
	if got := raw(t, fs, "f"); !bytes.Equal(got, want) {
		t.Errorf("the file reads as %q", got)
	}
	if got, err := l.Open(golden(t, entry), 99); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the entry reads as %q: %v", got, err)
	}
}

func golden(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	b, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	must(t, err)
	return b
}
