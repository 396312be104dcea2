package cold

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGoldenFiles: fragments that version 1 wrote once are read for ever, and written the same today. One holds data, the other parity.
func TestGoldenFiles(t *testing.T) {
	l := layout(2, 1, 2*BlockRoom+1000)
	file := noise(1, l.Length)
	now := encodedFiles(t, l, file)
	fs := vfs.NewMem()
	s, err := OpenStore(fs, "cold", nil)
	must(t, err)
	for index, golden := range map[int]string{1: "testdata/fragment-1-data.frag", 2: "testdata/fragment-1-parity.frag"} {
		if *update {
			must(t, os.WriteFile(golden, now[index], 0o644))
		}
		old, err := os.ReadFile(golden)
		must(t, err)
		if !bytes.Equal(old, now[index]) {
			t.Errorf("%s is written otherwise now", golden)
		}
		writeFile(t, fs, s.path(Name{l.Volume, l.Generation, index}), old)
	}
	must(t, s.Close())
	s, err = OpenStore(fs, "cold", nil)
	must(t, err)
	defer s.Close()
	f, err := s.Get(Name{l.Volume, l.Generation, 2})
	must(t, err)
	if f.Layout() != l || f.Index() != 2 {
		t.Fatalf("%+v, fragment %d", f.Layout(), f.Index())
	}
	expect(t, s, l, file)
}

func writeFile(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(bytes.Clone(b))
	must(t, err)
	must(t, f.Close())
}

func TestHeaderIsRefused(t *testing.T) {
	good, err := header{Layout: layout(4, 2, 1000), Index: 5}.encode()
	must(t, err)
	if h, err := decodeHeader(good); err != nil || h.Layout != layout(4, 2, 1000) || h.Index != 5 {
		t.Fatalf("%+v, %v", h, err)
	}
	var damage *DamageError
	for at := range headerHead + int(binary.LittleEndian.Uint32(good[12:])) { // with the zeros of bytes 20 to 23
		b := bytes.Clone(good)
		b[at] ^= 1
		_, err := decodeHeader(b)
		newer := at >= 8 && at < 12
		if errors.Is(err, ErrVersion) != newer || errors.As(err, &damage) == newer {
			t.Errorf("bit of byte %d: %v", at, err)
		}
	}
	for name, change := range map[string]func(h *header){
		"no data":        func(h *header) { h.Layout.Data = 0 },
		"too much data":  func(h *header) { h.Layout.Data = MaxData + 1 },
		"no parity":      func(h *header) { h.Layout.Parity = 0 },
		"empty":          func(h *header) { h.Layout.Length = 0 },
		"negative":       func(h *header) { h.Layout.Length = -1 },
		"too long":       func(h *header) { h.Layout.Length = maxLength + 1 },
		"seventh of six": func(h *header) { h.Index = 6 },
	} {
		h := header{Layout: layout(4, 2, 1000), Index: 5}
		change(&h)
		b, err := h.encode()
		must(t, err)
		if _, err := decodeHeader(b); !errors.As(err, &damage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := bytes.Clone(good)
	binary.LittleEndian.PutUint32(long[12:], headerSize)
	if _, err := decodeHeader(long); !errors.As(err, &damage) {
		t.Errorf("fields longer than the block: %v", err)
	}
}

// FuzzFragment opens any bytes as a fragment and reads all of it: an error or the bytes, never a panic, and little memory.
func FuzzFragment(f *testing.F) {
	for _, golden := range []string{"testdata/fragment-1-data.frag", "testdata/fragment-1-parity.frag"} {
		b, err := os.ReadFile(golden)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		writeFile(t, fs, "x", b)
		frag, err := Open(fs, "x")
		if err != nil {
			return
		}
		l := frag.Layout()
		if l.FileSize() != int64(len(b)) {
			t.Fatalf("%+v in %d bytes", l, len(b))
		}
		damaged, err := frag.Verify(t.Context(), nil)
		must(t, err)
		if len(damaged) == 0 {
			w, err := Begin(t.Context(), fs, "y", l, frag.Index())
			must(t, err)
			for first := int64(0); first < l.Blocks(); first++ {
				stored, err := frag.ReadBlocks(t.Context(), first, 1)
				must(t, err)
				must(t, w.Append(t.Context(), stored))
			}
			must(t, w.Finish(t.Context()))
		}
		must(t, frag.Close())
	})
}

// FuzzRead reads any range of a volume of any layout with any fragments missing.
func FuzzRead(f *testing.F) {
	f.Add(uint8(4), uint8(2), uint32(200_000), uint32(70_000), uint16(9000), uint16(0b100001))
	f.Add(uint8(1), uint8(1), uint32(1), uint32(0), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, data, parity uint8, length, off uint32, n, missing uint16) {
		l := layout(1+data%8, 1+parity%4, 1+int64(length%(1<<20)))
		file := noise(uint64(length), l.Length)
		frags := encoded(t, l, file)
		lost := 0
		for i := range frags {
			frags[i].lost = missing>>i&1 != 0
			if frags[i].lost {
				lost++
			}
		}
		p := make([]byte, n)
		at := int64(off) % l.Length
		got, err := reader(t, l, frags).ReadAt(t.Context(), p, at)
		if !bytes.Equal(p[:got], file[at:at+int64(got)]) {
			t.Fatalf("other bytes at %d", at)
		}
		if want := min(int64(n), l.Length-at); lost <= int(l.Parity) && int64(got) != want {
			t.Fatalf("%d of %d bytes: %v", got, want, err)
		}
	})
}
