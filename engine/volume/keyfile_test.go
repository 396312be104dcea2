package volume

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
)

// masterKey makes the master key of a node on fs.
func masterKey(t testing.TB, fs vfs.FS) keys.Master {
	t.Helper()
	must(t, keys.CreateKeyFile(fs, "/master.key"))
	m, err := keys.OpenKeyFile(fs, "/master.key")
	must(t, err)
	return m
}

// TestSetEncrypts: a volume of a node with a master key is encrypted; a copy on another node, which has another master key, is
// the same file and gives the same mail; both do after a restart.
func TestSetEncrypts(t *testing.T) {
	message := []byte("From: goose\r\n\r\na letter that nobody else reads\r\n")
	there := memFS(t)
	other, err := OpenSet(there, testDir, SetOptions{Master: masterKey(t, there)})
	must(t, err)
	var copied *Volume
	tap := tapFunc(func(off int64, p []byte) error { return copied.Receive(off, p) })

	here := memFS(t)
	o := SetOptions{Master: masterKey(t, here)}
	s, err := OpenSet(here, testDir, o)
	must(t, err)
	seed := s.NewSeed(ClassSmall, MaxRecords)
	v, err := s.Create(header(7), seed, tap)
	must(t, err)
	secret, err := seed.Secret()
	must(t, err)
	block, err := v.FileHeader()
	must(t, err)
	copied, err = other.CreateCopy(block, secret)
	must(t, err)
	ref := put(t, v, "meta", message)
	_, err = copied.Commit()
	must(t, err)
	must(t, s.Close())
	must(t, other.Close())
	if a, b := readFile(t, here, s.path(7)), readFile(t, there, s.path(7)); !bytes.Equal(a, b) || bytes.Contains(a, message[20:30]) {
		t.Fatal("the copies differ, or are not encrypted")
	}
	for _, fs := range []vfs.FS{here, there} {
		s, err := OpenSet(fs, testDir, SetOptions{Master: masterKey(t, fs)})
		must(t, err)
		v, err := s.Get(7)
		must(t, err)
		r, err := v.OpenRef(ref, 0, ref.Length)
		must(t, err)
		if got, err := readClose(r); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%q, %v", got, err)
		}
		must(t, s.UseKeys(7, func(f *keys.File) error { return f.Destroy([]uint64{1}) }))
		if _, err := v.Open(1, 0, 1); !errors.Is(err, keys.ErrDestroyed) {
			t.Fatalf("read after the key was destroyed: %v", err)
		}
		must(t, s.Remove(7))
		if n := files(t, fs); n != 2 { // LOCK and tmp
			t.Fatalf("%d files are left", n)
		}
		must(t, s.Close())
	}
}

// TestSetWithoutMasterKey: encrypted copies are refused, and those that are there are not read, but are compared and mended.
func TestSetWithoutMasterKey(t *testing.T) {
	fs := memFS(t)
	s, err := OpenSet(fs, testDir, SetOptions{Master: masterKey(t, fs)})
	must(t, err)
	seed := s.NewSeed(ClassBulk, MaxRecords)
	v, err := s.Create(header(1), seed, nil)
	must(t, err)
	if v.o.MaxRecords != bulkRecords {
		t.Fatalf("room for %d records", v.o.MaxRecords)
	}
	put(t, v, "m", []byte("x"))
	block, err := v.FileHeader()
	must(t, err)
	must(t, s.Close())

	s, err = OpenSet(fs, testDir, SetOptions{})
	must(t, err)
	defer s.Close()
	if s.NewSeed(ClassSmall, MaxRecords) != nil {
		t.Fatal("a seed without a master key")
	}
	v, err = s.Get(1)
	must(t, err)
	if _, err := v.Open(1, 0, 1); !errors.Is(err, ErrNoKeys) {
		t.Fatalf("read: %v", err)
	}
	if st := v.Stats(); st.Records != 1 || st.Damaged != 0 {
		t.Fatalf("%+v", st)
	}
	must(t, s.Remove(1))
	secret, err := seed.Secret()
	must(t, err)
	if _, err := s.CreateCopy(block, secret); !errors.Is(err, ErrNoKeys) {
		t.Fatalf("copy: %v", err)
	}
	if _, err := s.CreateCopy(block, nil); !errors.Is(err, ErrNoKeys) {
		t.Fatalf("copy without keys: %v", err)
	}
	if n := files(t, fs); n != 2 {
		t.Fatalf("%d files are left", n)
	}
}

// TestLostKeyFile: the keys come back from another copy.
func TestLostKeyFile(t *testing.T) {
	fs := memFS(t)
	o := SetOptions{Master: masterKey(t, fs)}
	s, err := OpenSet(fs, testDir, o)
	must(t, err)
	v, err := s.Create(header(1), s.NewSeed(ClassSmall, MaxRecords), nil)
	must(t, err)
	put(t, v, "m", []byte("a letter"))
	secret, err := s.Secret(1)
	must(t, err)
	must(t, s.Close())
	must(t, fs.Remove(s.keyFile(1).path))
	s, err = OpenSet(fs, testDir, o)
	must(t, err)
	defer s.Close()
	v, err = s.Get(1)
	must(t, err)
	if _, err := v.Open(1, 0, 1); !errors.Is(err, ErrNoKeys) {
		t.Fatal(err)
	}
	must(t, s.ReplaceKeys(1, secret))
	if got, err := fetch(v, 1, 0, 100); err != nil || string(got) != "a letter" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestPowerCutWhileCreatingEncrypted: whatever call the power is cut before, a volume that is there has its keys, and one that
// is not has left at most a key file, and that only where both names of a renamed file are lost, which this file system in
// memory does and no other.
func TestPowerCutWhileCreatingEncrypted(t *testing.T) {
	mem := memFS(t)
	master := masterKey(t, mem)
	must(t, durable.SyncDir(mem, "/"))
	cuts := newPowerCuts(mem, 1)
	s, err := OpenSet(errorfs.Wrap(mem, cuts), testDir, SetOptions{Master: master})
	must(t, err)
	for id := range ID(4) {
		_, err := s.Create(header(id), s.NewSeed(ClassBulk, MaxRecords), nil)
		must(t, err)
		if id%2 == 0 {
			must(t, s.Remove(id))
		}
	}
	must(t, s.Close())
	if len(cuts.cuts) < 40 {
		t.Fatalf("%d cuts", len(cuts.cuts))
	}
	for _, c := range cuts.cuts {
		s, err := OpenSet(c.fs, testDir, SetOptions{Master: master})
		must(t, err)
		want := 2
		for _, id := range s.List() {
			v, err := s.Get(id)
			must(t, err)
			want += 2
			if _, err := v.cipher(1); errors.Is(err, ErrNoKeys) {
				want-- // it was being removed
				if id%2 == 1 {
					t.Fatalf("%s: volume %s has no keys", c.at, id)
				}
			} else {
				must(t, err)
			}
		}
		if n := files(t, c.fs); n != want && n != want+1 {
			names, err := c.fs.List(testDir)
			t.Fatalf("%s: %d files, expected %d: %v, %v", c.at, n, want, names, err)
		}
		must(t, s.Close())
	}
}

func TestSeedGivesTheSameKeys(t *testing.T) {
	seed := keys.NewSeed(100)
	a, err := seed.Secret()
	must(t, err)
	b, err := seed.Secret()
	must(t, err)
	if a.Key != b.Key || !bytes.Equal(a.Slots, b.Slots) || a.Records() != 100 {
		t.Fatal("other keys from the same seed")
	}
	for _, bad := range []*keys.Seed{{}, {Key: seed.Key}, {Key: seed.Key[1:], Slots: 1}, {Key: seed.Key, Slots: keys.MaxSlots + 1}} {
		if _, err := bad.Secret(); err == nil {
			t.Error(fmt.Sprint("keys from ", len(bad.Key), " bytes for ", bad.Slots))
		}
	}
}

// TestKeysOfRestingVolumes: whoever goes through the keys of all volumes leaves no file open behind.
func TestKeysOfRestingVolumes(t *testing.T) {
	fs := memFS(t)
	o := SetOptions{Master: masterKey(t, fs)}
	s, err := OpenSet(fs, testDir, o)
	must(t, err)
	_, err = s.Create(header(7), s.NewSeed(ClassBulk, MaxRecords), nil)
	must(t, err)
	must(t, s.Close())
	s, err = OpenSet(fs, testDir, o)
	must(t, err)
	must(t, s.UseKeys(7, func(*keys.File) error { return nil }))
	if s.entries[7].keys.file != nil {
		t.Error("the key file of a volume that nobody uses stays open")
	}
	must(t, s.Close())
}
