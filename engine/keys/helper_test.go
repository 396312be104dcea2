package keys

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	testDir    = "/k"
	testPath   = testDir + "/000000000000002a.key"
	testVolume = 0x2a
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memFS gives a file system in memory with the tests' directory in it.
func memFS(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	must(t, fs.MkdirAll(testDir, 0o700))
	d, err := fs.OpenDir("/")
	must(t, err)
	must(t, errors.Join(d.Sync(), d.Close()))
	return fs
}

// fixed is a source of keys that stay.
type fixed struct{ keys []*masterKey }

func (f fixed) load(context.Context) ([]*masterKey, error) { return f.keys, nil }
func (f fixed) lock() (io.Closer, error)                   { return nil, errors.ErrUnsupported }
func (f fixed) add(_ context.Context, _ []*masterKey, fresh *masterKey) error {
	return errors.ErrUnsupported
}

func testMaster(t testing.TB, names ...string) *Keyring {
	t.Helper()
	var all []*masterKey
	for _, name := range names {
		var key [masterKeySize]byte
		copy(key[:], name)
		m, err := newMasterKey(name, key[:])
		must(t, err)
		all = append(all, m)
	}
	k, err := openKeyring(t.Context(), fixed{all})
	must(t, err)
	return k
}

// testSecret has a known key and known slots.
func testSecret(slots int) *Secret {
	s := &Secret{Slots: make([]byte, slots*slotSize)}
	for i := range s.Key {
		s.Key[i] = byte(i)
	}
	for i := range s.Slots {
		s.Slots[i] = byte(i%251) + 1
	}
	return s
}

func newFile(t testing.TB, fs vfs.FS, m Master, s *Secret) *File {
	t.Helper()
	f, err := Create(fs, testPath, m, testVolume, s)
	must(t, err)
	return f
}

func closed(t testing.TB, f *File) {
	t.Helper()
	must(t, f.Close())
}

// flip damages the file at an offset.
func flip(t testing.TB, fs vfs.FS, off int64) {
	t.Helper()
	h, err := fs.OpenReadWrite(testPath, diskCategory)
	must(t, err)
	var b [1]byte
	_, err = h.ReadAt(b[:], off)
	must(t, err)
	b[0] ^= 0x40
	_, err = h.WriteAt(b[:], off)
	must(t, errors.Join(err, h.Sync(), h.Close()))
}
