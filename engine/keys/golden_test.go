package keys

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"testing"

	"hongyan/engine/codec"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/durable"
)

var write = flag.Bool("write-golden", false, "make testdata/keys-1.key anew")

const golden = "testdata/keys-1.key"

// TestGoldenFile: a file of version 1, with slots 2 and 31 destroyed, wrapped by the key "golden", reads as it did.
func TestGoldenFile(t *testing.T) {
	fs, m, s := memFS(t), testMaster(t, "golden"), testSecret(40)
	if *write {
		f := newFile(t, fs, m, s)
		must(t, f.Destroy([]uint64{2, 31}))
		closed(t, f)
		content, err := vfsRead(fs, testPath)
		must(t, err)
		must(t, os.WriteFile(golden, content, 0o644))
	}
	content, err := os.ReadFile(golden)
	must(t, err)
	must(t, durable.Replace(fs, testPath, bytes.Clone(content), diskCategory)) // writing may spoil what is written
	f, err := Open(fs, testPath, m)
	must(t, err)
	expect(t, f, s, 2, 31)
	for n, want := range map[uint64]string{1: goldenKey1, 40: goldenKey40} {
		if k, err := f.Record(n); err != nil || hex.EncodeToString(k[:]) != want {
			t.Errorf("key of record %d is %x, %v", n, k, err)
		}
	}
	block, err := encodeHeader(f.header)
	if err != nil || !bytes.Equal(block, content[:headerSize]) || !bytes.Equal(block, content[headerSize:slotsStart]) {
		t.Errorf("the header is encoded in another way now: %v", err)
	}
	again, err := f.Secret()
	must(t, err)
	closed(t, f)
	_, err = Create(fs, testPath, m, testVolume, again)
	must(t, err)
	now, err := vfsRead(fs, testPath)
	if err != nil || !bytes.Equal(now[slotsStart:], content[slotsStart:]) {
		t.Errorf("slots are written in another way now: %v", err)
	}
}

// TestGoldenSecret: what copies hand each other.
func TestGoldenSecret(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{{Name: "secret", Value: testSecret(2)}})
	var s Secret
	if err := codec.Unmarshal([]byte{0xa0}, &s); err != nil || s.check() == nil {
		t.Errorf("an empty secret: %v", err)
	}
}

// Computed apart from the code: HMAC-SHA256(00 01 … 1f, slot ‖ number).
const (
	goldenKey1  = "3691d42431c3f8d8c714060322272805b525bfffe159914a20bc2c12a4f7d548"
	goldenKey40 = "6c6d98dd32ebefc3a1c3a33691519fbd9dc27fde8dfc70fac75ea4db5cfcb629"
)
