package keys

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hongyan/engine/durable"
)

// FuzzOpen: whatever is in a key file, it opens or is refused; what opens gives right keys or errors, and can be mended.
func FuzzOpen(f *testing.F) {
	s, m := testSecret(64), testMaster(f, "a")
	fs := memFS(f)
	file := newFile(f, fs, m, s)
	must(f, file.Close())
	content, err := vfsRead(fs, testPath)
	must(f, err)
	f.Add(content[:headerSize], uint16(0), byte(0))
	f.Add(content[:headerSize], uint16(slotsStart+3), byte(1))
	f.Add(content[:100], uint16(headerSize+20), byte(9))
	f.Fuzz(func(t *testing.T, front []byte, at uint16, flip byte) {
		bad := bytes.Clone(content)
		copy(bad[:headerSize], front)
		if int(at) < len(bad) {
			bad[at] ^= flip
		}
		fs := memFS(t)
		must(t, durable.Replace(fs, testPath, bad, diskCategory))
		f, err := Open(fs, testPath, m)
		if err != nil {
			return
		}
		if f.Volume() == testVolume && f.Slots() == 64 {
			for n := uint64(1); n <= 64; n++ {
				if k, err := f.Record(n); err == nil && k != wanted(s, n) || err != nil && !corrupt(err) {
					t.Fatalf("record %d: %v", n, err)
				}
			}
			if _, err := f.Mend(s); err != nil {
				t.Fatal(err)
			}
			if found, err := f.Damage(); err != nil || len(found) != 0 {
				t.Fatalf("mended, and still damaged at %v, %v", found, err)
			}
		}
		must(t, f.Close())
	})
}

func FuzzKeyring(f *testing.F) {
	f.Add(plainHeading + "\n# mine\nk1 " + strings.Repeat("0a", 32) + "\n\nk2 " + strings.Repeat("0b", 32) + "\n")
	f.Add(plainHeading + "\nk1\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseKeyring([]byte(text), plainHeading)
		if err != nil {
			return
		}
		again, err := parseKeyring(formatKeyring(lines, plainHeading), plainHeading)
		if err != nil || len(again) != len(lines) || again[0] != lines[0] {
			t.Fatalf("own text is read as %d lines of %d: %v", len(again), len(lines), err)
		}
		fs := memFS(t)
		must(t, durable.Replace(fs, testPath, []byte(text), diskCategory))
		k, err := OpenKeyFile(fs, testPath)
		if err != nil {
			return
		}
		id, wrapped, err := k.Wrap(t.Context(), []byte("key"), []byte("of a thing"))
		must(t, err)
		if key, err := k.Unwrap(t.Context(), id, wrapped, []byte("of a thing")); err != nil || string(key) != "key" {
			t.Fatalf("unwrapped %q: %v", key, err)
		}
		if _, err := k.Unwrap(t.Context(), id, wrapped, []byte("of another")); !errors.Is(err, ErrWrongKey) {
			t.Fatalf("unwrapped for another thing: %v", err)
		}
	})
}
