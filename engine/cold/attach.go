package cold

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Beside its fragments a node keeps what one needs to find and decrypt a volume's records: the index file of that generation,
// as volume.Set makes it, and the key file of an encrypted volume.
const (
	indexSuffix = ".idx"
	keySuffix   = ".key"
	maxIndex    = 16 << 20
)

// IndexPath is where the record index of a cold volume lies.
func (s *Store) IndexPath(id volume.ID, generation uint32) string {
	return s.fs.PathJoin(s.dir, fmt.Sprintf("%s-%d%s", id, generation, indexSuffix))
}

func (s *Store) keyPath(id volume.ID) string { return s.fs.PathJoin(s.dir, id.String()+keySuffix) }

// Attach keeps a volume's index file and, if it is encrypted, its keys, durably. Keys that were destroyed here stay destroyed.
func (s *Store) Attach(id volume.ID, generation uint32, index []byte, secret *keys.Secret) error {
	s.beside.Lock()
	defer s.beside.Unlock()
	if len(index) > maxIndex {
		return fmt.Errorf("attach to volume %s: an index of %d bytes: %w", id, len(index), ErrLayout)
	}
	var err error
	if secret != nil {
		err = s.attachKeys(id, secret)
	}
	if err == nil { // last: who has the index has all
		err = durable.Replace(s.fs, s.IndexPath(id, generation), index, vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		return fmt.Errorf("attach to volume %s: %w", id, err)
	}
	return nil
}

// attachKeys makes the key file. The caller holds beside.
func (s *Store) attachKeys(id volume.ID, secret *keys.Secret) error {
	if s.master == nil {
		return fmt.Errorf("%w: give this node an encryption section in its configuration", ErrNoMaster)
	}
	secret = &keys.Secret{Key: secret.Key, Slots: slices.Clone(secret.Slots)}
	old, err := keys.Open(s.fs, s.keyPath(id), s.master)
	if err == nil {
		var had *keys.Secret
		had, err = old.Secret()
		err = errors.Join(err, old.Close())
		if err == nil && len(had.Slots) == len(secret.Slots) && had.Key == secret.Key {
			for n := 0; n+slotSize <= len(had.Slots); n += slotSize {
				if destroyed(had.Slots[n : n+slotSize]) {
					clear(secret.Slots[n : n+slotSize])
				}
			}
		}
	}
	// A file that is damaged or of another key is made anew.
	made, err := keys.Create(s.fs, s.keyPath(id), s.master, uint64(id), secret)
	if err != nil {
		return err
	}
	return made.Close()
}

const slotSize = 16

func destroyed(slot []byte) bool {
	return !slices.ContainsFunc(slot, func(b byte) bool { return b != 0 })
}

// Destroyed lists the records up to last whose keys are destroyed in a secret. There may be many more slots than records.
func Destroyed(secret *keys.Secret, last uint64) (records []uint64) {
	for n := uint64(1); n <= min(last, uint64(len(secret.Slots)/slotSize)); n++ {
		if destroyed(secret.Slots[(n-1)*slotSize : n*slotSize]) {
			records = append(records, n)
		}
	}
	return records
}

// Attached gives what is kept beside the fragments of a volume; the secret is nil if it is not encrypted. ErrNotFound if there is
// no index.
func (s *Store) Attached(id volume.ID, generation uint32) (index []byte, secret *keys.Secret, err error) {
	s.beside.Lock()
	defer s.beside.Unlock()
	index, err = readAll(s.fs, s.IndexPath(id, generation))
	if err != nil {
		return nil, nil, fmt.Errorf("index of cold volume %s: %w", id, err)
	}
	err = s.useKeys(id, func(f *keys.File) error {
		secret, err = f.Secret()
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return index, nil, nil
	}
	return index, secret, err
}

// UseKeys calls do with the key file of a volume. ErrNotFound if there is none.
func (s *Store) UseKeys(id volume.ID, do func(*keys.File) error) error {
	s.beside.Lock()
	defer s.beside.Unlock()
	return s.useKeys(id, do)
}

// useKeys is UseKeys for who holds beside.
func (s *Store) useKeys(id volume.ID, do func(*keys.File) error) error {
	if _, err := s.fs.Stat(s.keyPath(id)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keys of cold volume %s: %w", id, ErrNotFound)
	}
	if s.master == nil {
		return fmt.Errorf("keys of cold volume %s: %w", id, ErrNoMaster)
	}
	f, err := keys.Open(s.fs, s.keyPath(id), s.master)
	if err != nil {
		return fmt.Errorf("keys of cold volume %s: %w", id, err)
	}
	if err := errors.Join(do(f), f.Close()); err != nil {
		return fmt.Errorf("keys of cold volume %s: %w", id, err)
	}
	return nil
}

// KeysMissing says that this node has a master key and no key file of the volume: it is not encrypted, or the file is gone.
func (s *Store) KeysMissing(id volume.ID) (bool, error) {
	if s.master == nil {
		return false, nil
	}
	_, err := s.fs.Stat(s.keyPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("keys of cold volume %s: %w", id, err)
	}
	return false, nil
}

// KeysLost says of an encrypted volume that its key file is not here, or cannot be opened by this node's master key. Damaged sectors are not looked for.
func (s *Store) KeysLost(id volume.ID) (bool, error) {
	err := s.UseKeys(id, func(*keys.File) error { return nil })
	if errors.Is(err, ErrNotFound) || KeysDamaged(err) {
		return true, nil
	}
	return false, err
}

// KeysDamaged says of an error that another node's keys have to take the place of some here, or of all.
func KeysDamaged(err error) bool {
	var corrupt *keys.CorruptError
	return errors.As(err, &corrupt) || errors.Is(err, keys.ErrUnknownKey) || errors.Is(err, keys.ErrWrongKey) || errors.Is(err, syscall.EIO)
}

// Record gives the key of a record.
func (s *Store) Record(id volume.ID, n uint64) (key [32]byte, err error) {
	err = s.UseKeys(id, func(f *keys.File) error {
		key, err = f.Record(n)
		return err
	})
	return key, err
}

// Keyed lists the volumes whose keys are kept here.
func (s *Store) Keyed() ([]volume.ID, error) {
	files, err := s.fs.List(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list keys in %s: %w", s.dir, err)
	}
	var out []volume.ID
	for _, file := range files {
		digits, ok := strings.CutSuffix(file, keySuffix)
		id, err := strconv.ParseUint(digits, 16, 64)
		if ok && err == nil && volume.ID(id).String() == digits {
			out = append(out, volume.ID(id))
		}
	}
	return out, nil
}

// Erase destroys the keys of all records of a volume but those that stay, and says how many there were. A volume that is not encrypted
// has none.
func (s *Store) Erase(id volume.ID, stay func(record uint64) bool) (erased uint64, err error) {
	err = s.UseKeys(id, func(f *keys.File) error {
		erased, err = f.Keep(stay)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return erased, err
}

// Detach removes what is kept beside the fragments of a volume: index files of all generations, and the keys first.
func (s *Store) Detach(id volume.ID) error {
	s.beside.Lock()
	defer s.beside.Unlock()
	files, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("detach from volume %s: %w", id, err)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(b, a) }) // .key stands behind -0.idx
	for _, file := range files {
		if file != id.String()+keySuffix && !(strings.HasPrefix(file, id.String()+"-") && strings.HasSuffix(file, indexSuffix)) {
			continue
		}
		if err := s.fs.Remove(s.fs.PathJoin(s.dir, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("detach from volume %s: %w", id, err)
		}
	}
	return durable.SyncDir(s.fs, s.dir)
}

func readAll(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return b, nil
}

// HasAttached says whether the index of a volume is kept here. Of its keys KeysMissing and KeysLost know.
func (s *Store) HasAttached(id volume.ID, generation uint32) bool {
	_, err := s.fs.Stat(s.IndexPath(id, generation))
	return err == nil
}

// CheckIndex reads the index of a volume: ErrNotFound if it is not kept here, another error if it is of no use.
func (s *Store) CheckIndex(id volume.ID, generation uint32) error {
	b, err := readAll(s.fs, s.IndexPath(id, generation))
	if err != nil {
		return fmt.Errorf("index of cold volume %s: %w", id, err)
	}
	return volume.CheckIndex(b, id, generation)
}

// View opens a cold volume for the reading of records. src is its file; the header is read from there.
func (s *Store) View(id volume.ID, generation uint32, src io.ReaderAt) (*volume.View, error) {
	v, err := volume.OpenView(s.fs, s.IndexPath(id, generation), src, recordKeys{s, id})
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return v, err
}

// recordKeys are those of one volume.
type recordKeys struct {
	store *Store
	id    volume.ID
}

// Record gives the key of a record.
func (k recordKeys) Record(n uint64) ([32]byte, error) { return k.store.Record(k.id, n) }
