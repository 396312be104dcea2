package volume

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzFileHeader(f *testing.F) {
	block, err := encodeFileHeader(testHeader)
	must(f, err)
	f.Add(block)
	f.Add(block[:fileHeaderFixed])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _, err := decodeFileHeader(b)
		if err != nil {
			return
		}
		again, err := encodeFileHeader(h)
		must(t, err)
		if _, _, err := decodeFileHeader(again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
	})
}

func FuzzRecordHeader(f *testing.F) {
	file, _ := example(f, []byte("x"))
	f.Add(file[fileHeaderSize:][:recordHeaderSize], true)
	f.Add(file[fileHeaderSize:][:recordHeaderSize], false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = bytes.Clone(b)
		if mend && len(b) >= recordHeaderSize { // get past the checksum
			sum := recordChecksum(b, 1)
			b[76], b[77], b[78], b[79] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		h, err := decodeRecordHeader(b, 1)
		if err != nil {
			return
		}
		if h.size() < recordHeaderSize || h.size() > recordHeaderSize+MaxMeta+tagSize+2*MaxLength || h.size()%alignment != 0 {
			t.Fatalf("size %d of %+v", h.size(), h)
		}
		var again [recordHeaderSize]byte
		if h.encode(again[:], 1); !bytes.Equal(again[:], b[:recordHeaderSize]) {
			t.Fatalf("encoded again: %x, was %x", again, b)
		}
	})
}

// FuzzReceiveBlob: whatever comes from another node is refused or can be read, in bounded memory.
func FuzzReceiveBlob(f *testing.F) {
	fs := memFS(f)
	for _, p := range append(goldenMessages(), []byte("hongyan")) {
		b := newBlob(f, fs, testDir, p)
		f.Add(storedBytes(f, b), b.Length(), b.StoredLength())
		must(f, b.Close())
	}
	f.Fuzz(func(t *testing.T, sent []byte, length, stored uint64) {
		fs := memFS(t)
		b, err := ReceiveBlob(bytes.NewReader(sent), length, stored, [32]byte{}, nil, fs, testDir, 100)
		if err != nil {
			if n := files(t, fs); n != 0 {
				t.Fatalf("%d files are left", n)
			}
			return
		}
		if got := storedBytes(t, b); !bytes.Equal(got, sent[:stored]) {
			t.Fatal("keeps other bytes than were sent")
		}
		r, err := b.Open(0, length)
		must(t, err)
		n, err := io.Copy(io.Discard, r)
		var corrupt *CorruptError
		if err == nil && uint64(n) != length || err != nil && !errors.As(err, &corrupt) {
			t.Fatalf("read %d of %d bytes: %v", n, length, err)
		}
		must(t, r.Close())
		must(t, b.Close())
	})
}

// FuzzOpen: whatever is behind a good file header, the volume opens; every record is read or reported; what Open
// left is found again, and can be extended.
func FuzzOpen(f *testing.F) {
	file, ends := example(f, goldenMessages()[:3]...)
	f.Add(file[fileHeaderSize:], uint16(0), byte(0))
	f.Add(file[fileHeaderSize:ends[1]-3], uint16(0), byte(0))
	f.Add(file[fileHeaderSize:], uint16(70), byte(1))
	f.Add(file[fileHeaderSize:], uint16(ends[1]-fileHeaderSize), byte(0x80))
	more, _ := example(f, append(goldenMessages()[:3], []byte("one more"))...)
	next := more[len(file):]
	f.Fuzz(func(t *testing.T, body []byte, at uint16, flip byte) {
		bad := append(bytes.Clone(file[:fileHeaderSize]), body...)
		if i := fileHeaderSize + int(at); i < len(bad) {
			bad[i] ^= flip
		}
		v, fs := openBytes(t, bad)
		first := v.Stats()
		if first.Failed != nil || first.Bytes+first.Cut != int64(len(bad)) || first.Damaged > first.Records {
			t.Fatalf("%+v", first)
		}
		for record := uint64(1); record <= first.Records; record++ {
			info, err := v.Get(record)
			p, readErr := fetch(v, record, 0, MaxLength)
			var corrupt *CorruptError
			if err = errors.Join(err, readErr); err != nil && !errors.As(err, &corrupt) || err == nil && uint64(len(p)) != info.Length {
				t.Fatalf("record %d: %d bytes, %v", record, len(p), err)
			}
		}
		if first.Records == 3 {
			must(t, v.Extend(v.Durable(), next))
			durable, err := v.Commit()
			must(t, err)
			if durable != first.Bytes+int64(len(next)) {
				t.Fatalf("extended to %d", durable)
			}
			expect(t, v, 4, "meta 4", []byte("one more"))
			must(t, v.Truncate(first.Bytes))
		}
		must(t, v.Close())
		v, err := Open(fs, testDir+"/a", Options{})
		must(t, err)
		if s := v.Stats(); s.Bytes != first.Bytes || s.Records != first.Records || s.Damaged != first.Damaged {
			t.Fatalf("opened as %+v, again as %+v", first, s)
		}
		must(t, v.Close())
	})
}

// FuzzOpenSealed is FuzzOpen for what a later generation of an encrypted volume has: whatever is behind its header, what is given is
// what was put in.
func FuzzOpenSealed(f *testing.F) {
	messages := goldenMessages()[:3]
	first, _ := sealedExample(f, messages...)
	file, ends := laterGeneration(f, first, 3, 1, 2)
	f.Add(file[fileHeaderSize:], uint16(0), byte(0))
	f.Add(file[fileHeaderSize:ends[1]-3], uint16(0), byte(0))
	f.Add(file[fileHeaderSize:], uint16(ends[0]-fileHeaderSize+20), byte(1))
	f.Add(append(bytes.Clone(file[fileHeaderSize:]), file[fileHeaderSize:]...), uint16(100), byte(1))
	f.Fuzz(func(t *testing.T, body []byte, at uint16, flip byte) {
		bad := append(bytes.Clone(file[:fileHeaderSize]), body...)
		if i := fileHeaderSize + int(at); i < len(bad) {
			bad[i] ^= flip
		}
		v := openSealed(t, bad, testKeys{})
		s := v.Stats()
		if s.Failed != nil || s.Bytes+s.Cut != int64(len(bad)) || s.Records > 3 {
			t.Fatalf("%+v", s)
		}
		for n := uint64(1); n <= 4; n++ {
			p, err := fetch(v, n, 0, MaxLength)
			var corrupt *CorruptError
			if err == nil && !bytes.Equal(p, messages[n-1]) || err != nil && !errors.As(err, &corrupt) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("record %d: %d bytes, %v", n, len(p), err)
			}
		}
		must(t, v.Close())
	})
}

// FuzzReceive: a replica takes what is the next part of a volume, however it is cut, and nothing else.
func FuzzReceive(f *testing.F) {
	file, ends := example(f, goldenMessages()[:3]...)
	f.Add(file[fileHeaderSize:], uint16(100), uint16(0), byte(0))
	f.Add(file[fileHeaderSize:ends[0]], uint16(1), uint16(80), byte(4))
	f.Fuzz(func(t *testing.T, body []byte, piece, at uint16, flip byte) {
		body = bytes.Clone(body)
		if int(at) < len(body) {
			body[at] ^= flip
		}
		v, err := CreateCopy(memFS(t), testDir+"/a", file[:fileHeaderSize], Options{})
		must(t, err)
		defer v.Close()
		off := int64(fileHeaderSize)
		for rest := body; len(rest) > 0; {
			n := min(1+int(piece), len(rest))
			var corrupt *CorruptError
			if err := v.Receive(off, rest[:n]); errors.As(err, &corrupt) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			off, rest = off+int64(n), rest[n:]
		}
		durable, err := v.Commit()
		must(t, err)
		if durable > off || durable != v.Durable() {
			t.Fatalf("durable to %d of %d", durable, off)
		}
		for record := uint64(1); record <= v.Stats().Records; record++ {
			if _, err := v.Get(record); err != nil {
				t.Fatalf("record %d was taken: %v", record, err)
			}
		}
	})
}
