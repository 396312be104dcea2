package volume

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/keys"
)

const (
	volumeSuffix = ".vol"
	lockName     = "LOCK"
	tmpName      = "tmp"
)

// SetOptions apply to all volumes of a node.
type SetOptions struct {
	MaxSize int64  // at which a volume seals itself; 0 is DefaultMaxSize
	Reserve uint64 // bytes of disk space that appending leaves free
	// Master wraps the keys of this node's volumes. Without it new volumes are not encrypted, and encrypted ones cannot be read.
	Master keys.Master
}

// Set is all volume copies of a node: one file each in one directory, which only one process uses at a
// time. Volumes are opened, and scanned, when they are first asked for.
type Set struct {
	fs   vfs.FS
	dir  string
	o    SetOptions
	lock io.Closer

	mu      sync.Mutex // guards entries, nexts and closed; never held during input or output
	entries map[ID]*entry
	nexts   map[ID]struct{} // volumes with a next file, see compact.go
	closed  bool
}

// entry is one file of the set. Its lock orders opening, creating and removing it.
type entry struct {
	mu     sync.Mutex // guards volume and gone
	volume *Volume    // nil until it is opened
	gone   bool
	keys   *keyFile // which exists if the volume is encrypted
}

// OpenSet opens the directory, making it if need be, and removes what a crash left unfinished in it.
func OpenSet(fs vfs.FS, dir string, o SetOptions) (*Set, error) {
	s := &Set{fs: fs, dir: dir, o: o, entries: map[ID]*entry{}, nexts: map[ID]struct{}{}}
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("open volumes in %s: %w", dir, err)
	}
	lock, err := fs.Lock(fs.PathJoin(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open volumes in %s: lock: %w", dir, err)
	}
	s.lock = lock
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("open volumes in %s: %w", dir, err), lock.Close())
	}
	return s, nil
}

// makeDir makes a directory and what is missing above it, durably.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for missing := dir; ; missing = fs.PathDir(missing) {
		_, err := fs.Stat(missing)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parents = append(parents, fs.PathDir(missing))
	}
	if len(parents) == 0 {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}

// prepare lists the volumes and cleans up.
func (s *Set) prepare() error {
	if err := s.fs.MkdirAll(s.TmpDir(), 0o700); err != nil {
		return err
	}
	if err := RemoveLeftovers(s.fs, s.TmpDir()); err != nil {
		return err
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, ok := parseName(name); ok {
			s.entries[id] = &entry{keys: s.keyFile(id)}
		}
	}
	for _, name := range names {
		if err := s.removeLeftover(name); err != nil {
			return fmt.Errorf("remove left-over %s: %w", name, err)
		}
		if id, ok := parseName(strings.TrimSuffix(name, nextSuffix)); ok && strings.HasSuffix(name, nextSuffix) {
			s.nexts[id] = struct{}{}
		}
	}
	return syncDir(s.fs, s.dir)
}

// removeLeftover removes a file that a crash in the making of a volume left. A key file is made while the volume's file has
// its temporary name.
func (s *Set) removeLeftover(name string) error {
	unfinished, ok := strings.CutSuffix(name, temporarySuffix)
	id, isVolume := parseName(unfinished)
	switch {
	case !ok || !isVolume && !keys.Leftover(name) && !strings.HasSuffix(unfinished, nextSuffix):
		return nil
	case isVolume && s.entries[id] == nil:
		if err := s.keyFile(id).remove(); err != nil {
			return err
		}
	}
	return s.fs.Remove(s.fs.PathJoin(s.dir, name))
}

// parseName gives the id of a volume's file name.
func parseName(name string) (ID, bool) {
	digits, ok := strings.CutSuffix(name, volumeSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	return ID(id), err == nil && ID(id).String() == digits
}

func (s *Set) path(id ID) string { return s.fs.PathJoin(s.dir, id.String()+volumeSuffix) }

// TmpDir is where spools may put their temporary files; what a crash leaves there is removed by OpenSet.
func (s *Set) TmpDir() string { return s.fs.PathJoin(s.dir, tmpName) }

// options are those of a volume; without its keys it is not appended to or read.
func (s *Set) options(tap Tap, k *keyFile) Options {
	o := Options{Tap: tap, MaxSize: s.o.MaxSize, Reserve: s.o.Reserve}
	if k != nil {
		o.Keys = k
	}
	return o
}

// Create makes a new volume, for Append with a Tap, or for Receive without one. It is encrypted with the keys of that seed, if
// there is one.
func (s *Set) Create(h Header, seed *keys.Seed, tap Tap) (*Volume, error) {
	var secret *keys.Secret
	h.Encrypted = seed != nil
	if seed != nil {
		var err error
		if secret, err = seed.Secret(); err != nil {
			return nil, fmt.Errorf("create volume %s: %w", h.ID, err)
		}
	}
	block, err := encodeFileHeader(h)
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", h.ID, err)
	}
	return s.create(block, secret, tap)
}

// CreateCopy makes a new volume, for Receive or Extend, with the header block of another copy, and that one's keys if it is encrypted.
func (s *Set) CreateCopy(block []byte, secret *keys.Secret) (*Volume, error) {
	return s.create(block, secret, nil)
}

func (s *Set) create(block []byte, secret *keys.Secret, tap Tap) (*Volume, error) {
	h, _, err := decodeFileHeader(block)
	if err != nil {
		return nil, fmt.Errorf("create volume: %w", located(err, h.ID, 0, 0))
	}
	id := h.ID
	if h.Encrypted && secret == nil {
		return nil, fmt.Errorf("create encrypted volume %s: %w", id, ErrNoKeys)
	}
	e, err := s.enter(id)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	o, keyed := s.options(tap, e.keys), false
	if h.Encrypted {
		o.MaxRecords = uint64(secret.Records())
		o.beforeName = func() error {
			keyed = true
			return e.keys.replace(id, secret)
		}
	}
	v, err := CreateCopy(s.fs, s.path(id), block, o)
	if err != nil {
		e.gone = true
		s.forget(id)
		if keyed {
			err = errors.Join(err, e.keys.remove())
		}
		return nil, err
	}
	e.volume = v
	return v, nil
}

// enter adds an entry for a new volume, locked.
func (s *Set) enter(id ID) (*entry, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("create volume %s: %w", id, ErrClosed)
	}
	if s.entries[id] != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("create volume %s: %w", id, ErrExists)
	}
	e := &entry{keys: s.keyFile(id)}
	e.mu.Lock()
	s.entries[id] = e
	s.mu.Unlock()
	return e, nil
}

func (s *Set) forget(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, id)
}

// find gives the entry of a volume, locked.
func (s *Set) find(id ID) (*entry, error) {
	s.mu.Lock()
	e, closed := s.entries[id], s.closed
	s.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("volume %s: %w", id, ErrClosed)
	}
	if e == nil {
		return nil, fmt.Errorf("volume %s: %w", id, ErrNotFound)
	}
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		return nil, fmt.Errorf("volume %s: %w", id, ErrNotFound)
	}
	return e, nil
}

// Get gives a volume, and opens it first if nobody has. A *CorruptError means that even its header is lost.
func (s *Set) Get(id ID) (*Volume, error) {
	e, err := s.find(id)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if e.volume == nil {
		if e.volume, err = s.open(id, e.keys); err != nil {
			return nil, err
		}
	}
	return e.volume, nil
}

func (s *Set) open(id ID, k *keyFile) (*Volume, error) {
	v, err := Open(s.fs, s.path(id), s.options(nil, k))
	if err != nil {
		return nil, err
	}
	if v.header.ID != id {
		err := &CorruptError{Volume: id, Reason: "the file holds volume " + v.header.ID.String()}
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// Reopen closes a volume and opens it anew. This is the way back for one that failed: its file is
// read again, and what is not whole is cut, or was not durable before the failure: after an fsync that failed, the system may
// give bytes from its memory that are on no disk, and a second fsync does not write them. It is sealed then, whatever it was.
func (s *Set) Reopen(id ID) (*Volume, error) {
	e, err := s.find(id)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	old := e.volume
	if old != nil {
		e.volume = nil
		if err := old.Close(); err != nil {
			return nil, err
		}
	}
	if e.volume, err = s.open(id, e.keys); err != nil || old == nil {
		return e.volume, err
	}
	durable := old.Durable()
	if st := old.Stats(); st.Failed == nil || st.Unreadable || e.volume.Durable() <= durable {
		return e.volume, nil
	}
	return e.volume, e.volume.Truncate(durable)
}

// List gives the ids of all volumes here, in order.
func (s *Set) List() []ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]ID, 0, len(s.entries))
	for id := range s.entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Remove deletes this node's copy of a volume, for good once it returns. Open readers may go on.
func (s *Set) Remove(id ID) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if e.volume != nil {
		if err := e.volume.Close(); err != nil {
			return fmt.Errorf("remove volume: %w", err)
		}
		e.volume = nil
	}
	if err := s.DropNext(id); err != nil {
		return fmt.Errorf("remove volume %s: %w", id, err)
	}
	// The keys go first: prepare would not know a key file that was left alone.
	if err := e.keys.remove(); err != nil {
		return fmt.Errorf("remove keys of volume %s: %w", id, err)
	}
	if err := s.fs.Remove(s.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", id, err)
	}
	if err := syncDir(s.fs, s.dir); err != nil {
		return fmt.Errorf("remove volume %s: %w", id, err)
	}
	e.gone = true
	s.forget(id)
	return nil
}

// FreeBytes is the disk space left for volumes: what is free beyond the reserve.
func (s *Set) FreeBytes() (uint64, error) {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	return usage.AvailBytes - min(usage.AvailBytes, s.o.Reserve), nil
}

// Close closes all volumes, and waits for callers that append to them.
func (s *Set) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	entries := slices.Collect(maps.Values(s.entries))
	s.mu.Unlock()
	// Nobody begins anything new now; what is under way holds the lock of its entry.
	var failed error
	for _, e := range entries {
		e.mu.Lock()
		if e.volume != nil {
			failed = errors.Join(failed, e.volume.Close())
		}
		failed = errors.Join(failed, e.keys.rest())
		e.mu.Unlock()
	}
	return errors.Join(failed, s.lock.Close())
}
