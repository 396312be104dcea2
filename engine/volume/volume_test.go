package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/effort"
)

const testDir = "/v"

var testHeader = Header{ID: 0x2a, Epoch: 3, Primary: "s1", Copies: []string{"s1", "n1"}, Created: 1_700_000_000, Salt: 0x5eed}

// memFS gives a file system in memory with the tests' directory in it.
func memFS(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	must(t, fs.MkdirAll(testDir, 0o700))
	must(t, durable.SyncDir(fs, "/"))
	return fs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mail makes a message of n bytes that looks a little like one: half text, half noise.
func mail(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		if i/512%2 == 0 {
			p[i] = "Subject: hongyan carries letters\r\n"[i%34]
		} else {
			p[i] = byte(rng.Uint32())
		}
	}
	return p
}

func newBlob(t testing.TB, fs vfs.FS, dir string, p []byte) *Blob {
	t.Helper()
	s := NewSpool(fs, dir, 1<<20)
	if _, err := s.Write(p); err != nil {
		t.Fatal(err)
	}
	b, err := s.Finish()
	must(t, err)
	return b
}

// put appends a message and checks the reference.
func put(t testing.TB, v *Volume, meta string, p []byte) Ref {
	t.Helper()
	b := newBlob(t, v.fs, testDir, p)
	defer b.Close()
	ref, end, err := v.Append(context.Background(), KindMessage, []byte(meta), b)
	must(t, err)
	if end > v.Durable() {
		t.Fatalf("answered at %d, durable to %d", end, v.Durable())
	}
	if ref.Volume != v.header.ID || ref.Length != uint64(len(p)) || ref.Hash != sha256.Sum256(p) {
		t.Fatalf("reference %+v", ref)
	}
	return ref
}

func fetch(v *Volume, record, off, n uint64) ([]byte, error) {
	r, err := v.Open(record, off, n)
	if err != nil {
		return nil, err
	}
	return readClose(r)
}

func readClose(r io.ReadCloser) ([]byte, error) {
	p, err := io.ReadAll(r)
	return p, errors.Join(err, r.Close())
}

// expect checks that a record has these contents.
func expect(t testing.TB, v *Volume, record uint64, meta string, want []byte) {
	t.Helper()
	info, err := v.Get(record)
	must(t, err)
	if info.Kind != KindMessage || string(info.Meta) != meta || info.Length != uint64(len(want)) || info.Hash != sha256.Sum256(want) {
		t.Fatalf("record %d: %+v", record, info)
	}
	got, err := fetch(v, record, 0, info.Length)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("record %d: other bytes than were appended", record)
	}
}

var sizes = []int{0, 1, 7, 100, 4096, 10 << 10, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 17, 2 << 20}

func TestAppendReadReopen(t *testing.T) {
	for name, base := range map[string]struct {
		fs  vfs.FS
		dir string
	}{"memory": {memFS(t), testDir}, "disk": {vfs.Default, t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			path := base.fs.PathJoin(base.dir, "a.vol")
			v, err := Create(base.fs, path, testHeader, Options{})
			must(t, err)
			var mails [][]byte
			for i, n := range sizes {
				mails = append(mails, mail(rng, n))
				b := newBlob(t, base.fs, base.dir, mails[i])
				ref, _, err := v.Append(context.Background(), KindMessage, fmt.Appendf(nil, "meta %d", i), b)
				must(t, err)
				must(t, b.Close())
				if ref.Record != uint64(i)+1 {
					t.Fatalf("record %d, want %d", ref.Record, i+1)
				}
			}
			for i, p := range mails {
				expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i), p)
			}
			durable := v.Durable()
			must(t, v.Close())
			v, err = Open(base.fs, path, Options{})
			must(t, err)
			if s := v.Stats(); s.Bytes != durable || s.Records != uint64(len(mails)) || s.Cut != 0 || s.Damaged != 0 || !s.Sealed || s.Failed != nil {
				t.Fatalf("reopened: %+v", s)
			}
			for i, p := range mails {
				expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i), p)
			}
			b := newBlob(t, base.fs, base.dir, []byte("late"))
			defer b.Close()
			if _, _, err := v.Append(context.Background(), KindMessage, nil, b); !errors.Is(err, ErrSealed) {
				t.Fatalf("append to an opened volume: %v", err)
			}
			must(t, v.Close())
		})
	}
}

func TestRangedReads(t *testing.T) {
	fs := memFS(t)
	rng := rand.New(rand.NewPCG(3, 4))
	v, err := Create(fs, testDir+"/a", testHeader, Options{})
	must(t, err)
	defer v.Close()
	for _, n := range sizes {
		p := mail(rng, n)
		ref := put(t, v, "", p)
		for range effort.Times(50, 1) {
			off, want := rng.Uint64N(uint64(n)+10), rng.Uint64N(uint64(n)+10)
			got, err := fetch(v, ref.Record, off, want)
			must(t, err)
			lo := min(off, uint64(n))
			hi := lo + min(want, uint64(n)-lo)
			if !bytes.Equal(got, p[lo:hi]) {
				t.Fatalf("%d bytes: range %d+%d differs", n, off, want)
			}
		}
	}
}
