package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/effort"
)

// TestHugeMessage takes a message through everything that the bytes go through, encrypted, and bounds the memory: spooled, appended,
// received by another copy, read there. It is 2 GiB and a little in the nightly run, which does not fit into 31 bits of anything.
func TestHugeMessage(t *testing.T) {
	length := int64(effort.Of(48<<20, 64<<20, 2<<30) + 12345)
	dir := t.TempDir()
	watch := watchMemory()
	sum := sha256.New()
	s := NewSpool(vfs.Default, dir, 1<<20)
	_, err := io.Copy(s, io.TeeReader(watch.reader(io.LimitReader(&letters{}, length)), sum))
	must(t, err)
	b, err := s.Finish()
	must(t, err)
	defer b.Close()

	copied, err := Create(vfs.Default, dir+"/copy", secretHeader(), Options{Keys: testKeys{}})
	must(t, err)
	defer copied.Close()
	v, err := Create(vfs.Default, dir+"/v", secretHeader(), Options{Keys: testKeys{}, Tap: tapFunc(func(off int64, p []byte) error {
		watch.look()
		return copied.Receive(off, p)
	})})
	must(t, err)
	defer v.Close()
	ref, end, err := v.Append(context.Background(), KindMessage, []byte("meta"), b)
	must(t, err)
	if durable, err := copied.Commit(); err != nil || durable != end {
		t.Fatalf("copy is durable to %d of %d: %v", durable, end, err)
	}
	if ref.Length != uint64(length) || ref.Hash != [32]byte(sum.Sum(nil)) {
		t.Fatalf("%+v", ref)
	}
	r, err := copied.OpenRef(ref, 0, ref.Length)
	must(t, err)
	again := sha256.New()
	_, err = io.Copy(again, watch.reader(r))
	must(t, errors.Join(err, r.Close()))
	if !sameSum(sum, again) {
		t.Fatal("other bytes were read")
	}
	r, err = copied.OpenRef(ref, ref.Length-7, 100)
	must(t, err)
	if end, err := readClose(r); err != nil || len(end) != 7 {
		t.Fatalf("%d bytes at the end, %v", len(end), err)
	}
	if grown := watch.most(); grown > 32<<20 {
		t.Fatalf("memory grew by %d bytes for a message of %d", grown, length)
	}
}

func sameSum(a, b hash.Hash) bool { return string(a.Sum(nil)) == string(b.Sum(nil)) }

// letters is endless text that compresses to about half, like mail.
type letters struct{ state uint64 }

func (l *letters) Read(p []byte) (int, error) {
	for i := range p {
		if i%2 == 0 {
			l.state = l.state*6364136223846793005 + 1442695040888963407
		}
		p[i] = "etaoinshrdlucmfw"[l.state>>(56-i%2*8)&15]
	}
	return len(p), nil
}

// memory notes how much the process has at most, beyond what it had at first. Only one goroutine uses it at a time.
type memory struct {
	first, peak uint64
	n           int64
}

func watchMemory() *memory {
	runtime.GC()
	m := &memory{}
	m.look()
	m.first = m.peak
	return m
}

func (m *memory) look() {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.peak = max(m.peak, s.HeapInuse)
}

func (m *memory) most() uint64 {
	m.look()
	return m.peak - m.first
}

// reader looks every few megabytes.
func (m *memory) reader(r io.Reader) io.Reader { return &watched{m, r} }

type watched struct {
	m *memory
	r io.Reader
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.m.n += int64(n); w.m.n > 4<<20 {
		w.m.n = 0
		w.m.look()
	}
	return n, err
}
