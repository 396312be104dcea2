package volume

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
)

const (
	keySuffix = ".key"
	// bulkRecords is how many records a volume of large messages takes: few fit into it, and each costs a slot in the key file.
	bulkRecords = 8 << 10
)

// NewSeed chooses the keys of a volume to be made with Create, for as many records, or fewer if it cannot take those; nil if this node has no
// master key to wrap them by.
func (s *Set) NewSeed(class uint8, records int) *keys.Seed {
	if s.o.Master == nil {
		return nil
	}
	slots := min(records, MaxRecords)
	if class == ClassBulk {
		slots = min(slots, bulkRecords)
	}
	if s.o.Slots > 0 {
		slots = min(slots, s.o.Slots)
	}
	return keys.NewSeed(slots)
}

// keyFile is the key file of a volume, which is opened when a key is asked for. Safe for concurrent use.
type keyFile struct {
	fs     vfs.FS
	path   string
	master keys.Master // nil: the node has none

	mu   sync.RWMutex // guards what follows; held for reading while file is used
	file *keys.File   // nil while closed
	gone bool         // removed: what has this path now is another volume's
}

// Record implements recordKeys.
func (k *keyFile) Record(n uint64) (key [32]byte, err error) {
	err = k.use(func(f *keys.File) error {
		key, err = f.Record(n)
		return err
	})
	return key, err
}

// use calls do with the open file.
func (k *keyFile) use(do func(*keys.File) error) error {
	for {
		k.mu.RLock()
		if k.file != nil {
			defer k.mu.RUnlock()
			return do(k.file)
		}
		k.mu.RUnlock()
		if err := k.open(); err != nil {
			return err
		}
	}
}

func (k *keyFile) isOpen() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.file != nil
}

func (k *keyFile) open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		return nil
	}
	switch {
	case k.gone:
		return fmt.Errorf("%w: they were removed", ErrNoKeys)
	case k.master == nil:
		return fmt.Errorf("%w: this node has no master key", ErrNoKeys)
	}
	f, err := keys.Open(k.fs, k.path, k.master)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoKeys, err)
	}
	if err != nil {
		return err
	}
	k.file = f
	return nil
}

// rest closes the file until it is needed again, which is also the way back for one that failed.
func (k *keyFile) rest() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == nil {
		return nil
	}
	f := k.file
	k.file = nil
	return f.Close()
}

// replace makes the file anew.
func (k *keyFile) replace(volume ID, s *keys.Secret) error {
	if err := k.rest(); err != nil {
		return err
	}
	if k.master == nil {
		return fmt.Errorf("%w: this node has no master key to keep them by; give it an encryption section in its configuration", ErrNoKeys)
	}
	f, err := keys.Create(k.fs, k.path, k.master, uint64(volume), s)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file = f
	return nil
}

// remove deletes the file, if there is one, durably.
func (k *keyFile) remove() error {
	if err := k.rest(); err != nil {
		return err
	}
	k.mu.Lock()
	k.gone = true
	k.mu.Unlock()
	if err := k.fs.Remove(k.path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.SyncDir(k.fs, k.fs.PathDir(k.path))
}

func (s *Set) keyFile(id ID) *keyFile {
	return &keyFile{fs: s.fs, path: s.fs.PathJoin(s.dir, id.String()+keySuffix), master: s.o.Master}
}

// UseKeys calls do with the key file of a volume, to destroy, wrap anew, compare or mend keys. Reading goes on meanwhile.
// ErrNoKeys if there is no such file, or no master key.
func (s *Set) UseKeys(id ID, do func(*keys.File) error) error {
	k, err := s.keysOf(id)
	if err != nil {
		return err
	}
	open := k.isOpen()
	err = k.use(do)
	if !open || errors.Is(err, keys.ErrFailed) { // a failed one has to be opened anew
		err = errors.Join(err, k.rest())
	}
	if err != nil {
		return fmt.Errorf("keys of volume %s: %w", id, err)
	}
	return nil
}

func (s *Set) keysOf(id ID) (*keyFile, error) {
	e, err := s.find(id)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	return e.keys, nil
}

// Secret gives what another copy needs to make the key file; nil if the volume is not encrypted.
func (s *Set) Secret(id ID) (secret *keys.Secret, err error) {
	v, err := s.Get(id)
	if err != nil || !v.header.Encrypted {
		return nil, err
	}
	err = s.UseKeys(id, func(f *keys.File) error {
		secret, err = f.Secret()
		return err
	})
	return secret, err
}

// KeysLost says that the key file of an encrypted volume is not there, or cannot be opened by this node's master key: another
// copy's keys have to take its place. Damaged sectors are not looked for.
func (s *Set) KeysLost(id ID) (bool, error) {
	v, err := s.Get(id)
	if err != nil || !v.header.Encrypted || s.o.Master == nil {
		return false, err
	}
	var corrupt *keys.CorruptError
	err = s.UseKeys(id, func(*keys.File) error { return nil })
	if errors.Is(err, ErrNoKeys) || errors.Is(err, keys.ErrUnknownKey) || errors.Is(err, keys.ErrWrongKey) || errors.As(err, &corrupt) {
		return true, nil
	}
	return false, err
}

// ReplaceKeys makes the key file of a volume anew, with what another copy gave: its own is missing or damaged beyond mending.
func (s *Set) ReplaceKeys(id ID, secret *keys.Secret) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if err := e.keys.replace(id, secret); err != nil {
		return fmt.Errorf("replace the keys of volume %s: %w", id, err)
	}
	return nil
}
