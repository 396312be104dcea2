package volume

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// testKeys are the keys of a volume's records, some of which are destroyed.
type testKeys struct{ destroyed map[uint64]bool }

var errDestroyed = errors.New("destroyed")

func (k testKeys) Record(n uint64) ([32]byte, error) {
	if k.destroyed[n] {
		return [32]byte{}, errDestroyed
	}
	return sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("test key "), n)), nil
}

// secretHeader is testHeader of an encrypted volume.
func secretHeader() Header {
	h := testHeader
	h.Encrypted = true
	return h
}

// sealedExample is example, encrypted.
func sealedExample(t testing.TB, messages ...[]byte) (file []byte, ends []int64) {
	t.Helper()
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", secretHeader(), Options{Keys: testKeys{}})
	must(t, err)
	for i, p := range messages {
		put(t, v, fmt.Sprintf("meta %d", i+1), p)
		ends = append(ends, v.Durable())
	}
	must(t, v.Close())
	return readFile(t, fs, testDir+"/a"), ends
}

func openSealed(t testing.TB, file []byte, keys recordKeys) *Volume {
	t.Helper()
	fs := memFS(t)
	writeFile(t, fs, testDir+"/a", file)
	v, err := Open(fs, testDir+"/a", Options{Keys: keys})
	must(t, err)
	return v
}

// TestSealedRecords: what is encrypted is read back, in whole and in ranges, and nothing of it is in the file.
func TestSealedRecords(t *testing.T) {
	rng := rand.New(rand.NewPCG(30, 30))
	var messages [][]byte
	for _, n := range sizes {
		messages = append(messages, mail(rng, n))
	}
	file, _ := sealedExample(t, messages...)
	for _, secret := range [][]byte{[]byte("hongyan"), []byte("meta "), messages[5][512:600]} {
		if bytes.Contains(file[fileHeaderSize:], secret) {
			t.Fatalf("the file holds %q", secret)
		}
	}
	v := openSealed(t, file, testKeys{})
	defer v.Close()
	for i, p := range messages {
		n := uint64(i) + 1
		info, err := v.Get(n)
		must(t, err)
		if !info.Sealed || info.Length != uint64(len(p)) || string(info.Meta) != fmt.Sprintf("meta %d", n) {
			t.Fatalf("%+v", info)
		}
		ref := Ref{Volume: v.header.ID, Record: n, Length: uint64(len(p)), Hash: sha256.Sum256(p)}
		for range 20 {
			off, want := rng.Uint64N(uint64(len(p))+10), rng.Uint64N(uint64(len(p))+10)
			r, err := v.OpenRef(ref, off, want)
			must(t, err)
			lo := min(off, uint64(len(p)))
			got, err := readClose(r)
			must(t, err)
			if !bytes.Equal(got, p[lo:lo+min(want, uint64(len(p))-lo)]) {
				t.Fatalf("record %d: range %d+%d differs", n, off, want)
			}
		}
		ref.Hash[3]++
		if _, err := v.OpenRef(ref, 0, 1); !errors.Is(err, ErrNotFound) {
			t.Fatalf("another hash: %v", err)
		}
	}
}

// TestSealedFormat computes a sealed record's parts from the words of docs/formats/volume.md alone.
func TestSealedFormat(t *testing.T) {
	message := []byte("From: wild goose\r\n\r\na letter\r\n")
	file, _ := sealedExample(t, []byte("first"), message)
	v := openSealed(t, file, testKeys{})
	defer v.Close()
	h, off, err := v.record(2)
	must(t, err)
	key, err := testKeys{}.Record(2)
	must(t, err)
	mac := hmac.New(sha256.New, key[:])
	hash := sha256.Sum256(message)
	mac.Write(hash[:])
	if !bytes.Equal(h.hash[:], mac.Sum(nil)) {
		t.Fatal("hash field")
	}
	c, err := newRecordCipher(key, testHeader.ID, 2)
	must(t, err)
	aad := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(testHeader.ID)), 2)
	meta := file[off+recordHeaderSize:][:h.meta]
	if plain, err := c.aead.Open(nil, make([]byte, 12), meta, aad); err != nil || string(plain) != "meta 2" {
		t.Fatalf("metadata %q, %v", plain, err)
	}
	chunk := file[off+recordHeaderSize+int64(h.meta):][:h.stored]
	nonce := make([]byte, 12)
	nonce[4] = 1
	if plain, err := c.aead.Open(nil, nonce, chunk[chunkHeaderSize:], aad); err != nil || !bytes.Equal(plain, message) {
		t.Fatalf("chunk %q, %v", plain, err)
	}
}

// TestSealedWithoutKeys: a copy is received, scrubbed and mended without keys, and not read; a record whose key is gone is
// gone alone; keys of another volume open nothing.
func TestSealedWithoutKeys(t *testing.T) {
	messages := mails(31, 300, 5000, 70)
	file, ends := sealedExample(t, messages...)
	v, err := CreateCopy(memFS(t), testDir+"/b", file[:fileHeaderSize], Options{})
	must(t, err)
	defer v.Close()
	must(t, v.Receive(fileHeaderSize, file[fileHeaderSize:]))
	durable, err := v.Commit()
	must(t, err)
	if durable != ends[2] {
		t.Fatalf("durable to %d", durable)
	}
	if info, err := v.Stat(2); err != nil || info.Length != 5000 || !info.Sealed {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := v.Get(2); !errors.Is(err, ErrNoKeys) {
		t.Fatalf("get: %v", err)
	}
	if _, err := v.Open(2, 0, 1); !errors.Is(err, ErrNoKeys) {
		t.Fatalf("open: %v", err)
	}
	some := openSealed(t, file, testKeys{destroyed: map[uint64]bool{2: true}})
	defer some.Close()
	if _, err := some.Open(2, 0, 1); !errors.Is(err, errDestroyed) {
		t.Fatalf("open with a destroyed key: %v", err)
	}
	for _, n := range []uint64{1, 3} {
		if got, err := fetch(some, n, 0, 1<<20); err != nil || !bytes.Equal(got, messages[n-1]) {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	other := openSealed(t, file, otherKeys{})
	defer other.Close()
	var corrupt *CorruptError
	if _, err := fetch(other, 1, 0, 1<<20); !errors.As(err, &corrupt) {
		t.Fatalf("read with another key: %v", err)
	}
	if _, err := other.Get(1); !errors.As(err, &corrupt) {
		t.Fatalf("get with another key: %v", err)
	}
}

type otherKeys struct{}

func (otherKeys) Record(uint64) ([32]byte, error) { return [32]byte{1}, nil }

// TestRecordsOfTheOtherSort: a plain record is refused in an encrypted volume and the other way round, even if its checksums
// are right: an attacker at the disk could make it.
func TestRecordsOfTheOtherSort(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		h := testHeader
		h.Encrypted = encrypted
		block, err := encodeFileHeader(h)
		must(t, err)
		_, seed, err := decodeFileHeader(block)
		must(t, err)
		head := recordHeader{kind: KindMessage, sealed: !encrypted, number: 1, chunk: chunkSize}
		var b [recordHeaderSize]byte
		head.encode(b[:], seed)
		v, err := CreateCopy(memFS(t), testDir+"/b", block, Options{})
		must(t, err)
		var corrupt *CorruptError
		if err := v.Receive(fileHeaderSize, b[:]); !errors.As(err, &corrupt) {
			t.Errorf("encrypted %v: received: %v", encrypted, err)
		}
		must(t, v.Close())
	}
}

// TestAppendWithoutAKey: a primary that cannot get a key ends its volume, so that another takes the message.
func TestAppendWithoutAKey(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", secretHeader(), Options{Keys: testKeys{destroyed: map[uint64]bool{2: true}}})
	must(t, err)
	defer v.Close()
	put(t, v, "m", []byte("first"))
	b := newBlob(t, fs, testDir, []byte("second"))
	defer b.Close()
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrFailed) || !errors.Is(err, errDestroyed) {
		t.Fatal(err)
	}
	if got, err := fetch(v, 1, 0, 100); err != nil || string(got) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestSealedFlippedBits: whatever bit of a sealed record flips, it is never read as something else.
func TestSealedFlippedBits(t *testing.T) {
	messages := mails(32, 200, 900)
	file, ends := sealedExample(t, messages...)
	rng := rand.New(rand.NewPCG(33, 33))
	for range 1000 {
		bad := bytes.Clone(file)
		bit := fileHeaderSize*8 + rng.IntN((len(file)-fileHeaderSize)*8)
		bad[bit/8] ^= 1 << (bit % 8)
		v := openSealed(t, bad, testKeys{})
		for i, want := range messages {
			got, err := fetch(v, uint64(i)+1, 0, 1<<20)
			hit := int64(bit/8) < ends[i] && (i == 0 || int64(bit/8) >= ends[i-1])
			if err == nil && !bytes.Equal(got, want) || err != nil && !hit {
				t.Fatalf("bit %d: record %d: %v", bit, i+1, err)
			}
		}
		must(t, v.Close())
	}
}

// TestDamagedBlobIsNotSealed: a blob that is damaged in its temporary file is not sealed as if it were whole.
func TestDamagedBlobIsNotSealed(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", secretHeader(), Options{Keys: testKeys{}})
	must(t, err)
	defer v.Close()
	b := newBlob(t, fs, testDir, []byte("a letter that rots"))
	defer b.Close()
	b.store.chunks[0].b[chunkHeaderSize+3] ^= 4
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); err == nil {
		t.Fatal("appended")
	}
	put(t, v, "m", []byte("the next"))
}
