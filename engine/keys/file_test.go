package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// wanted computes a record's key as docs/formats/keys.md says, apart from the code.
func wanted(s *Secret, n uint64) (k [32]byte) {
	mac := hmac.New(sha256.New, s.Key[:])
	mac.Write(s.Slots[(n-1)*16 : n*16])
	mac.Write(binary.LittleEndian.AppendUint64(nil, n))
	return [32]byte(mac.Sum(nil))
}

// expect checks all record keys: those of gone are destroyed.
func expect(t *testing.T, f *File, s *Secret, gone ...uint64) {
	t.Helper()
	for n := uint64(1); n <= uint64(f.Slots()); n++ {
		k, err := f.Record(n)
		if slices.Contains(gone, n) {
			if !errors.Is(err, ErrDestroyed) || k != [32]byte{} {
				t.Fatalf("record %d was destroyed: %v", n, err)
			}
		} else if err != nil || k != wanted(s, n) {
			t.Fatalf("record %d has another key: %v", n, err)
		}
	}
}

func TestRecordKeys(t *testing.T) {
	fs, s := memFS(t), NewSecret(100)
	m := testMaster(t, "old", "new")
	f := newFile(t, fs, m, s)
	expect(t, f, s)
	for _, n := range []uint64{0, 101, 1 << 60} {
		if _, err := f.Record(n); !errors.Is(err, ErrNoSlot) {
			t.Errorf("record %d: %v", n, err)
		}
	}
	closed(t, f)
	f, err := Open(fs, testPath, m)
	must(t, err)
	expect(t, f, s)
	if f.Volume() != testVolume || f.Slots() != 100 || f.MasterID() != "new" {
		t.Errorf("volume %x, %d slots, wrapped by %s", f.Volume(), f.Slots(), f.MasterID())
	}
	closed(t, f)
	content, err := vfsRead(fs, testPath)
	must(t, err)
	if bytes.Contains(content, s.Key[:]) {
		t.Error("the volume key is in the clear")
	}
}

func vfsRead(fs vfs.FS, path string) ([]byte, error) {
	h, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := h.Stat()
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	b := make([]byte, info.Size())
	_, err = h.ReadAt(b, 0)
	return b, errors.Join(err, h.Close())
}

func TestDestroy(t *testing.T) {
	fs, s, m := memFS(t), NewSecret(1000), testMaster(t, "a")
	f := newFile(t, fs, m, s)
	gone := []uint64{1000, 1, 2, 31, 30, 500, 2}
	must(t, f.Destroy(gone))
	must(t, f.Destroy(nil))
	expect(t, f, s, gone...)
	if err := f.Destroy([]uint64{5, 1001}); !errors.Is(err, ErrNoSlot) {
		t.Errorf("no such slot: %v", err)
	}
	got, err := f.Secret()
	must(t, err)
	closed(t, f)
	f, err = Open(fs, testPath, m)
	must(t, err)
	expect(t, f, s, gone...)
	closed(t, f)
	content, err := vfsRead(fs, testPath)
	must(t, err)
	for _, n := range gone {
		if slot := s.Slots[(n-1)*16 : n*16]; bytes.Contains(content, slot) {
			t.Errorf("slot %d is still in the file", n)
		}
	}
	// A copy made from it has the same keys destroyed.
	other := memFS(t)
	f, err = Create(other, testPath, testMaster(t, "of another node"), testVolume, got)
	must(t, err)
	expect(t, f, s, gone...)
	closed(t, f)
}

func TestRotation(t *testing.T) {
	fs, s := memFS(t), NewSecret(10)
	f := newFile(t, fs, testMaster(t, "a"), s)
	must(t, f.Destroy([]uint64{3}))
	for _, m := range []*Keyring{testMaster(t, "a", "b"), testMaster(t, "c")} {
		must(t, f.Rewrap(t.Context(), m))
		if f.MasterID() != m.ID() {
			t.Fatalf("wrapped by %s", f.MasterID())
		}
	}
	closed(t, f)
	if _, err := Open(fs, testPath, testMaster(t, "a", "b")); !errors.Is(err, ErrUnknownKey) {
		t.Fatalf("opened with keys of before: %v", err)
	}
	wrong := testMaster(t, "x")
	wrong.keys[0].id = "c"
	if _, err := Open(fs, testPath, wrong); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("opened with another key of that name: %v", err)
	}
	f, err := Open(fs, testPath, testMaster(t, "c"))
	must(t, err)
	expect(t, f, s, 3)
	closed(t, f)
	// Neither copy of the header needs the old keys.
	for off := range int64(headers) {
		flip(t, fs, off*headerSize+100)
		f, err := Open(fs, testPath, testMaster(t, "c"))
		must(t, err)
		closed(t, f)
		flip(t, fs, off*headerSize+100)
	}
}

// forgetful is a key service that gives back another key.
type forgetful struct{ *Keyring }

func (forgetful) Unwrap(context.Context, string, []byte, []byte) ([]byte, error) {
	return make([]byte, 32), nil
}

func TestRewrapDistrustsTheMaster(t *testing.T) {
	fs, s, m := memFS(t), NewSecret(10), testMaster(t, "a")
	f := newFile(t, fs, m, s)
	if err := f.Rewrap(t.Context(), forgetful{testMaster(t, "b")}); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("took it: %v", err)
	}
	closed(t, f)
	f, err := Open(fs, testPath, m)
	must(t, err)
	expect(t, f, s)
	closed(t, f)
}

func TestDamageIsFoundAndMended(t *testing.T) {
	s, m := NewSecret(100), testMaster(t, "a")
	for name, at := range map[string]int64{"first header": 30, "second header": headerSize + 30, "slots": slotsStart + sectorSize + 5, "end of a sector": slotsStart + 3*sectorSize - 2} {
		t.Run(name, func(t *testing.T) {
			fs := memFS(t)
			f := newFile(t, fs, m, s)
			must(t, f.Destroy([]uint64{1, 95}))
			if found, err := f.Damage(); err != nil || len(found) != 0 {
				t.Fatalf("damage in a whole file: %v, %v", found, err)
			}
			flip(t, fs, at)
			closed(t, f)
			f, err := Open(fs, testPath, m)
			must(t, err)
			start := at / sectorSize * sectorSize
			if found, err := f.Damage(); err != nil || !slices.Equal(found, []int64{start}) {
				t.Fatalf("damage at %v, want %d: %v", found, start, err)
			}
			if at >= slotsStart {
				n := uint64((start-slotsStart)/sectorSize*sectorSlots + 1)
				_, err := f.Record(n)
				if !corrupt(err) || !corrupt(f.Destroy([]uint64{n})) {
					t.Fatalf("record %d of a damaged sector: %v", n, err)
				}
			}
			if n, err := f.Mend(s); n != 1 || err != nil {
				t.Fatalf("mended %d: %v", n, err)
			}
			if found, err := f.Damage(); err != nil || len(found) != 0 {
				t.Fatalf("damage in a mended file: %v, %v", found, err)
			}
			expect(t, f, s, 1, 95)
			closed(t, f)
		})
	}
	t.Run("both headers", func(t *testing.T) {
		fs := memFS(t)
		closed(t, newFile(t, fs, m, s))
		flip(t, fs, 30)
		flip(t, fs, headerSize+30)
		if _, err := Open(fs, testPath, m); !corrupt(err) {
			t.Fatalf("opened: %v", err)
		}
	})
	t.Run("keys of another volume", func(t *testing.T) {
		f := newFile(t, memFS(t), m, s)
		if _, err := f.Mend(NewSecret(100)); !errors.Is(err, ErrWrongKey) {
			t.Fatalf("mended: %v", err)
		}
		closed(t, f)
	})
}

func TestRefusals(t *testing.T) {
	fs, m := memFS(t), testMaster(t, "a")
	if _, err := Open(fs, testPath, m); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := fs.Stat(testPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening made the file: %v", err)
	}
	for _, bad := range []*Secret{{}, {Slots: make([]byte, 15)}, {Slots: make([]byte, (MaxSlots+1)*slotSize)}} {
		if _, err := Create(fs, testPath, m, testVolume, bad); !errors.Is(err, ErrNoSlot) {
			t.Errorf("%d bytes of slots: %v", len(bad.Slots), err)
		}
	}
	f := newFile(t, fs, m, NewSecret(1))
	closed(t, f)
	h, err := fs.OpenReadWrite(testPath, diskCategory)
	must(t, err)
	_, err = h.WriteAt([]byte{2}, 8)
	must(t, errors.Join(err, h.Close()))
	if _, err := Open(fs, testPath, m); !errors.Is(err, ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
	if !Leftover("000000000000002a.key.tmp") || Leftover("000000000000002a.key") || Leftover("000000000000002a.vol.tmp") {
		t.Error("wrong about what a crash leaves")
	}
}

func TestReadersAndDestroyers(t *testing.T) {
	s, m := NewSecret(300), testMaster(t, "a")
	f := newFile(t, memFS(t), m, s)
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			for n := w + 1; n <= 300; n += 4 {
				if err := f.Destroy([]uint64{n}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for n := uint64(1); n <= 300; n++ {
				if k, err := f.Record(n); err == nil && k != wanted(s, n) || err != nil && !errors.Is(err, ErrDestroyed) {
					t.Errorf("record %d: %v", n, err)
				}
			}
		})
	}
	wg.Go(func() { must(t, f.Rewrap(t.Context(), testMaster(t, "b"))) })
	wg.Wait()
	got, err := f.Secret()
	if err != nil || !bytes.Equal(got.Slots, make([]byte, 300*slotSize)) {
		t.Errorf("slots are left: %v", err)
	}
	closed(t, f)
}

// TestFailedSync: what an fsync did not cover is not called destroyed, and nothing is written after it.
func TestFailedSync(t *testing.T) {
	for name, destroy := range map[string]func(*File) error{
		"destroy": func(f *File) error { return f.Destroy([]uint64{7}) },
		"keep": func(f *File) error {
			_, err := f.Keep(func(n uint64) bool { return n != 7 })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { testFailedSync(t, destroy) })
	}
}

func testFailedSync(t *testing.T, destroy func(*File) error) {
	mem, s, m := memFS(t), NewSecret(100), testMaster(t, "a")
	closed(t, newFile(t, mem, m, s))
	failing := true
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync && failing {
			return errorfs.ErrInjected
		}
		return nil
	}))
	f, err := Open(fs, testPath, m)
	must(t, err)
	if err := destroy(f); !errors.Is(err, errorfs.ErrInjected) {
		t.Fatal(err)
	}
	failing = false
	if err := destroy(f); !errors.Is(err, ErrFailed) {
		t.Fatalf("a second fsync was believed: %v", err)
	}
	if err := f.Rewrap(t.Context(), m); !errors.Is(err, ErrFailed) {
		t.Fatalf("written after a failed fsync: %v", err)
	}
	if _, err := f.Record(8); err != nil {
		t.Fatalf("reading goes on: %v", err)
	}
	closed(t, f)
	// Opened anew, the slot reads as zero from memory. It has to be written again all the same.
	f, err = Open(fs, testPath, m)
	must(t, err)
	must(t, destroy(f))
	closed(t, f)
	f, err = Open(mem.CrashClone(vfs.CrashCloneCfg{}), testPath, m)
	must(t, err)
	expect(t, f, s, 7)
	closed(t, f)
}
