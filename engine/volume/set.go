package volume

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
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
	Ahead   int64  // how far a growing file is filled with zeros; 0 is not at all
	MaxOpen int    // volumes whose file is open at a time, where idle ones can be closed; 0 is DefaultMaxOpen
	Slots   int    // that a new volume's key file has at most, one for each record; 0 is MaxRecords
	// Master wraps the keys of this node's volumes. Without it new volumes are not encrypted, and encrypted ones cannot be read.
	Master keys.Master
}

// Set is all volume copies of a node: one file each in one directory, which only one process uses at a
// time. Volumes are opened when they are first asked for: by their index file, or else by a scan.
type Set struct {
	fs     vfs.FS
	dir    string
	o      SetOptions
	lock   io.Closer
	shared *shared

	mu      sync.Mutex // guards what follows; never held during input or output
	entries map[ID]*entry
	nexts   map[ID]struct{} // volumes with a next file, see compact.go
	closed  bool
	sealed  func(ID) Sealed // what KnowSealed was given; may be nil
}

// entry is one file of the set. Its lock orders opening, creating and removing it.
type entry struct {
	size atomic.Int64 // of the file, as last seen

	mu     sync.Mutex // guards volume and gone
	volume *Volume    // nil until it is opened
	gone   bool
	keys   *keyFile // which exists if the volume is encrypted
}

// bytes is how long the file is. It does not wait for one that is being opened.
func (e *entry) bytes() int64 {
	if e.mu.TryLock() {
		if e.volume != nil {
			e.size.Store(e.volume.Durable())
		}
		e.mu.Unlock()
	}
	return e.size.Load()
}

// OpenSet opens the directory, making it if need be, and removes what a crash left unfinished in it.
func OpenSet(fs vfs.FS, dir string, o SetOptions) (*Set, error) {
	if o.MaxOpen <= 0 {
		o.MaxOpen = DefaultMaxOpen
	}
	s := &Set{fs: fs, dir: dir, o: o, shared: newShared(o.MaxOpen), entries: map[ID]*entry{}, nexts: map[ID]struct{}{}}
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

// options are those of a volume; without its keys it is not appended to or read.
func (s *Set) options(tap Tap, k *keyFile) Options {
	o := Options{Tap: tap, MaxSize: s.o.MaxSize, Reserve: s.o.Reserve, Ahead: s.o.Ahead, shared: s.shared}
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
	if v := e.volume; v != nil && v.unsure && !s.known(id).Unsure {
		e.volume = nil
		if err := v.Close(); err != nil {
			return nil, err
		}
	}
	if e.volume == nil {
		if e.volume, err = s.open(id, e.keys, 0); err != nil {
			return nil, err
		}
	}
	return e.volume, nil
}

// KnowSealed has the set ask how a volume was sealed before it opens its file, and again while the answer was that nobody knows. The answer is not to wait for the set.
func (s *Set) KnowSealed(ask func(ID) Sealed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = ask
}

// known is how a volume was sealed. Where nobody is to be asked files are what they look like.
func (s *Set) known(id ID) Sealed {
	s.mu.Lock()
	ask := s.sealed
	s.mu.Unlock()
	if ask == nil {
		return Sealed{}
	}
	return ask(id)
}

func (s *Set) open(id ID, k *keyFile, trusted int64) (*Volume, error) {
	o := s.options(nil, k)
	o.trusted, o.known = trusted, s.known(id)
	v, err := Open(s.fs, s.path(id), o)
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
	var trusted int64
	if old := e.volume; old != nil {
		if st := old.Stats(); st.Failed != nil && !st.Unreadable {
			trusted = st.Bytes
		}
		e.volume = nil
		if err := old.Close(); err != nil {
			return nil, err
		}
	}
	e.volume, err = s.open(id, e.keys, trusted)
	return e.volume, err
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
		if err := e.volume.close(false); err != nil {
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
	for _, path := range []string{indexPath(s.path(id)), s.path(id)} {
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove volume %s: %w", id, err)
		}
	}
	if err := durable.SyncDir(s.fs, s.dir); err != nil {
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

// SetStats describes a set at one moment; counts are since it was opened.
type SetStats struct {
	Volumes int
	Bytes   int64 // of all volume files
	Open    int   // volumes whose file is open
	Rests   uint64
	Scans   uint64 // volumes that were opened without an index file
	Saves   uint64 // index files written, and
	Unsaved uint64 // those that could not be
	Mail    uint64 // bytes of messages that were appended here, and
	Disk    uint64 // the bytes that they take in one copy, with their metadata and dictionaries
}

// Stats describes the set now.
func (s *Set) Stats() SetStats {
	s.mu.Lock()
	entries := slices.Collect(maps.Values(s.entries))
	s.mu.Unlock()
	st := SetStats{Volumes: len(entries), Open: s.shared.handles.count(), Rests: s.shared.handles.rests.Load(),
		Scans: s.shared.scans.Load(), Saves: s.shared.saves.Load(), Unsaved: s.shared.saveFailures.Load(),
		Mail: s.shared.mail.Load(), Disk: s.shared.disk.Load()}
	for _, e := range entries {
		st.Bytes += e.bytes()
	}
	return st
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
