package atrest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestLogEntries(t *testing.T) {
	k := testKey(1)
	stored := make(map[uint64][]byte)
	place := uint64(0)
	for range maxOpenings + 5 { // openings
		l := k.Log("a")
		for range 3 {
			place++
			stored[place] = l.Seal(fmt.Appendf(nil, "entry %d", place), place)
		}
	}
	l := k.Log("a")
	for round := range 2 {
		for p, b := range stored {
			got, err := l.Open(b, p)
			if err != nil || string(got) != fmt.Sprint("entry ", p) {
				t.Fatalf("round %d, entry %d: %q, %v", round, p, got, err)
			}
			if bytes.Contains(b, []byte("entry")) || len(b) != len(got)+EntryOverhead {
				t.Fatalf("stored as %q", b)
			}
		}
	}
	if len(l.older) > maxOpenings {
		t.Errorf("%d ciphers are kept", len(l.older))
	}
}

func TestRefusedEntries(t *testing.T) {
	l := testKey(1).Log("a")
	good := l.Seal([]byte("entry"), 5)
	change := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		stored []byte
		place  uint64
		want   error
	}{
		"empty":         {nil, 5, ErrPlain},
		"short":         {good[:EntryOverhead-1], 5, ErrPlain},
		"newer":         {change(0), 5, ErrVersion},
		"salt":          {change(1), 5, ErrWrongKey},
		"number":        {change(1 + entrySalt), 5, ErrWrongKey},
		"content":       {change(entryHeader), 5, ErrWrongKey},
		"another place": {good, 6, ErrWrongKey},
	} {
		if _, err := l.Open(c.stored, c.place); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, other := range map[string]*Log{"log": testKey(1).Log("b"), "key": testKey(2).Log("a")} {
		if _, err := other.Open(good, 5); !errors.Is(err, ErrWrongKey) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestNoncesDiffer(t *testing.T) {
	l := testKey(1).Log("a")
	var mu sync.Mutex
	seen := make(map[string]bool)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				b := l.Seal([]byte("the same"), 1)
				mu.Lock()
				seen[string(b[:entryHeader])] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 2000 {
		t.Errorf("%d different of 2000", len(seen))
	}
}

func FuzzOpenEntry(f *testing.F) {
	l := testKey(1).Log("a")
	f.Add(l.Seal([]byte("entry"), 5), uint64(5))
	f.Add([]byte{1}, uint64(0))
	f.Fuzz(func(t *testing.T, stored []byte, place uint64) {
		if got, err := l.Open(stored, place); err == nil && len(got)+EntryOverhead != len(stored) {
			t.Fatalf("%d bytes of %d", len(got), len(stored))
		}
	})
}

func FuzzOpenHeader(f *testing.F) {
	k := testKey(1)
	f.Add(k.header(salt()))
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := k.open(b); err == nil && !bytes.Equal(k.header([saltSize]byte(b[16:48]))[tagAt:], b[tagAt:headerSize]) {
			t.Fatal("took a header of another key")
		}
	})
}
