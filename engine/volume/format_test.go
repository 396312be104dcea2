package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file anew")

// goldenFile is a file that version 1 wrote once, and how one like it is made.
type goldenFile struct {
	path   string
	header Header
	keys   recordKeys
	make   func(t *testing.T) []byte
	// what the file holds: records[i] is the number of the record that has goldenMessages()[i], 0 if none has
	records []uint64
}

func goldenFiles() []goldenFile {
	later := testHeader
	later.Generation, later.Records = 1, 5
	return []goldenFile{
		{"testdata/volume-1.vol", testHeader, nil, func(t *testing.T) []byte { return goldenExample(t, testHeader, nil) }, []uint64{1, 2, 3, 4, 5}},
		{"testdata/volume-1-sealed.vol", secretHeader(), testKeys{}, func(t *testing.T) []byte {
			return goldenExample(t, secretHeader(), testKeys{})
		}, []uint64{1, 2, 3, 4, 5}},
		{"testdata/volume-1-later.vol", later, nil, func(t *testing.T) []byte {
			file, _ := laterGeneration(t, goldenExample(t, testHeader, nil), 5, 2, 1)
			return file
		}, []uint64{1, 2, 0, 0, 5}},
	}
}

// goldenMessages has a message of each shape: empty, compressed, stored plain, several chunks of both kinds, base64.
func goldenMessages() [][]byte {
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(i*i*i>>3 ^ i*167)
	}
	text := []byte(strings.Repeat("Subject: wild goose\r\n\r\nA letter tied to its foot.\r\n", 40))
	attached := []byte("Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QSB3aWxkIGdvb3NlIGNhcnJpZXMgYSBsZXR0ZXIu\r\n", 8) + "Z29vc2U=\r\n")
	return [][]byte{nil, text, noise, append(bytes.Repeat([]byte("hongyan "), chunkSize/8), noise...), attached}
}

// goldenKind is the kind of a record in a golden file.
func goldenKind(n uint64) Kind {
	if n == 2 {
		return KindCheckpoint
	}
	return KindMessage
}

// goldenExample makes a volume with the golden messages.
func goldenExample(t *testing.T, h Header, k recordKeys) []byte {
	t.Helper()
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", h, Options{Keys: k})
	must(t, err)
	for i, p := range goldenMessages() {
		b := newBlob(t, fs, testDir, p)
		_, _, err := v.Append(t.Context(), goldenKind(uint64(i)+1), fmt.Appendf(nil, "meta %d", i+1), b)
		must(t, err)
		must(t, b.Close())
	}
	must(t, v.Close())
	return readFile(t, fs, testDir+"/a")
}

// TestGoldenFiles: what version 1 wrote once is read for ever.
func TestGoldenFiles(t *testing.T) {
	for _, g := range goldenFiles() {
		t.Run(g.path, func(t *testing.T) {
			if *update {
				must(t, os.WriteFile(g.path, g.make(t), 0o644))
			}
			file, err := os.ReadFile(g.path)
			must(t, err)
			fs := memFS(t)
			writeFile(t, fs, testDir+"/a", file)
			v, err := Open(fs, testDir+"/a", Options{Keys: g.keys})
			must(t, err)
			defer v.Close()
			g.read(t, v, file)
			g.encodeAgain(t, v, file)
		})
	}
}

// read holds the file's contents against what was put into it.
func (g goldenFile) read(t *testing.T, v *Volume, file []byte) {
	t.Helper()
	if s := v.Stats(); s.Cut != 0 || s.Damaged != 0 || s.Bytes != int64(len(file)) {
		t.Fatalf("%+v", s)
	}
	if got, want := fmt.Sprintf("%+v", v.Header()), fmt.Sprintf("%+v", g.header); got != want {
		t.Fatalf("header %s, want %s", got, want)
	}
	for i, p := range goldenMessages() {
		n := uint64(i) + 1
		info, err := v.Get(n)
		if g.records[i] == 0 {
			if !errors.Is(err, ErrNotFound) {
				t.Fatalf("record %d: %+v, %v", n, info, err)
			}
			continue
		}
		must(t, err)
		r, err := v.OpenRef(Ref{Volume: v.header.ID, Record: n, Length: uint64(len(p)), Hash: sha256.Sum256(p)}, 0, MaxLength)
		must(t, err)
		got, err := readClose(r)
		must(t, err)
		if info.Kind != goldenKind(n) || string(info.Meta) != fmt.Sprintf("meta %d", n) || !bytes.Equal(got, p) {
			t.Fatalf("record %d: %+v", n, info)
		}
	}
}

// encodeAgain: what is written today is the same, but for what zstd makes of a chunk.
func (g goldenFile) encodeAgain(t *testing.T, v *Volume, file []byte) {
	t.Helper()
	block, err := encodeFileHeader(g.header)
	must(t, err)
	if !bytes.Equal(block, file[:fileHeaderSize]) {
		t.Fatal("the file header is encoded otherwise now")
	}
	for i := range g.records {
		if g.records[i] == 0 {
			continue
		}
		h, off, err := v.record(g.records[i])
		must(t, err)
		var again [recordHeaderSize]byte
		h.encode(again[:], v.rules.seed)
		if !bytes.Equal(again[:], file[off:off+recordHeaderSize]) {
			t.Fatalf("the header of record %d is encoded otherwise now", h.number)
		}
	}
}

func TestFileHeaderLimits(t *testing.T) {
	h := testHeader
	h.Copies = []string{strings.Repeat("n", fileHeaderSize)}
	if _, err := encodeFileHeader(h); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("header over the block: %v", err)
	}
	if _, _, err := decodeFileHeader(make([]byte, fileHeaderSize-1)); err == nil {
		t.Fatal("decoded less than a block")
	}
}

func TestRecordHeaderLimits(t *testing.T) {
	good := recordHeader{kind: KindMessage, number: 1, length: 1000, stored: 500, meta: 10, chunk: chunkSize}
	for name, c := range map[string]struct {
		change func(h *recordHeader)
		raw    func(b []byte)
		ok     bool
	}{
		"good":              {ok: true},
		"empty message":     {change: func(h *recordHeader) { h.length, h.stored = 0, 0 }, ok: true},
		"all plain":         {change: func(h *recordHeader) { h.stored = h.length + chunkHeaderSize }, ok: true},
		"number zero":       {change: func(h *recordHeader) { h.number = 0 }},
		"metadata":          {change: func(h *recordHeader) { h.meta = MaxMeta + 1 }},
		"length":            {change: func(h *recordHeader) { h.length, h.stored = MaxLength+1, MaxLength }},
		"stored too long":   {change: func(h *recordHeader) { h.stored = h.length + chunkHeaderSize + 1 }},
		"stored too short":  {change: func(h *recordHeader) { h.stored = chunkHeaderSize }},
		"stored of nothing": {change: func(h *recordHeader) { h.length = 0 }},
		"stored overflows":  {change: func(h *recordHeader) { h.stored = 1<<64 - 1 }},
		"tiny chunks":       {change: func(h *recordHeader) { h.chunk = minChunkSize - 1 }},
		"no chunks":         {change: func(h *recordHeader) { h.chunk = 0 }},
		"huge chunks":       {change: func(h *recordHeader) { h.chunk = maxChunkSize + 1 }},
		"version":           {raw: func(b []byte) { b[4]++ }},
		"flags":             {raw: func(b []byte) { b[5] = 2 }},
		"no kind":           {raw: func(b []byte) { b[6] = 0 }},
		"reserved kind":     {raw: func(b []byte) { b[6] = 4 }},
		"a dictionary":      {change: func(h *recordHeader) { h.kind = KindDictionary }, ok: true},
		"sealed": {change: func(h *recordHeader) {
			h.sealed, h.stored, h.meta = true, h.length+chunkHeaderSize+tagSize, MaxMeta+tagSize
		}, ok: true},
		"sealed, no tag":   {change: func(h *recordHeader) { h.sealed, h.meta = true, tagSize }},
		"sealed, no meta":  {change: func(h *recordHeader) { h.sealed, h.meta = true, 0 }, ok: true},
		"sealed too short": {change: func(h *recordHeader) { h.sealed, h.stored = true, chunkHeaderSize+tagSize }},
		"number too high":  {change: func(h *recordHeader) { h.number = MaxRecords + 1 }},
		"highest number":   {change: func(h *recordHeader) { h.number = MaxRecords }, ok: true},
		"reserved byte":    {raw: func(b []byte) { b[7] = 1 }},
		"magic":            {raw: func(b []byte) { b[0]++ }},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			if c.change != nil {
				c.change(&h)
			}
			var b [recordHeaderSize]byte
			h.encode(b[:], 7)
			if c.raw != nil {
				c.raw(b[:])
				sum := recordChecksum(b[:], 7) // so that only the change itself is at fault
				binary.LittleEndian.PutUint32(b[76:], sum)
			}
			got, err := decodeRecordHeader(b[:], 7)
			if (err == nil) != c.ok || c.ok && got != h {
				t.Fatalf("%+v, %v", got, err)
			}
			if _, err := decodeRecordHeader(b[:], 8); err == nil {
				t.Fatal("decoded with another file's checksum")
			}
		})
	}
}

func TestChunkHeaderLimits(t *testing.T) {
	for _, c := range []struct {
		word, raw, tag uint32
		ok             bool
	}{
		{1, 2, 0, true}, {0, 2, 0, false}, {2, 2, 0, false}, {3, 2, 0, false}, {1<<31 - 1, chunkSize, 0, false},
		{2 | chunkStoredRaw, 2, 0, true}, {1 | chunkStoredRaw, 2, 0, false}, {3 | chunkStoredRaw, 2, 0, false},
		{chunkStoredRaw, 1, 0, false}, {1<<32 - 1, chunkSize, 0, false},
		{17, 2, 16, true}, {16, 2, 16, false}, {18, 2, 16, false}, {18 | chunkStoredRaw, 2, 16, true}, {2 | chunkStoredRaw, 2, 16, false},
	} {
		b := binary.LittleEndian.AppendUint32(nil, c.word)
		_, err := decodeChunkHeader(append(b, 0, 0, 0, 0), c.raw, c.tag)
		if (err == nil) != c.ok {
			t.Errorf("length word %#x for %d raw bytes: %v", c.word, c.raw, err)
		}
	}
}
