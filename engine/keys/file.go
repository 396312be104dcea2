package keys

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	// askTimeout bounds one question to a master key: it may be a command that asks a service.
	askTimeout = 30 * time.Second

	diskCategory = vfs.DiskWriteCategory("volume-keys")
)

// Leftover reports whether a file of that name is one that a crash in Create left.
func Leftover(name string) bool { return strings.HasSuffix(name, ".key"+durable.TemporarySuffix) }

// File is the open key file of one volume. Safe for concurrent use.
type File struct {
	path   string
	f      vfs.File
	volume uint64
	slots  int

	mu       sync.RWMutex // guards what follows and the file's content
	header   header
	stale    [headers]bool // copies of the header that are damaged or older
	key      [32]byte
	writable bool // false after a failed write or fsync
}

// Create makes the key file of a volume, durably, in place of one that an earlier attempt may have left.
func Create(fs vfs.FS, path string, m Master, volume uint64, s *Secret) (*File, error) {
	if err := create(fs, path, m, volume, s); err != nil {
		return nil, fmt.Errorf("create key file %s: %w", path, err)
	}
	return Open(fs, path, m)
}

func create(fs vfs.FS, path string, m Master, volume uint64, s *Secret) error {
	if err := s.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	h := header{Volume: volume, Slots: uint32(len(s.Slots) / slotSize), Sequence: 1}
	var err error
	if h.Master, h.Wrapped, err = wrapKey(ctx, m, volume, &s.Key); err != nil {
		return err
	}
	block, err := encodeHeader(h)
	if err != nil {
		return err
	}
	content := make([]byte, slotsStart+sectors(int(h.Slots))*sectorSize)
	for i := range headers {
		copy(content[i*headerSize:], block)
	}
	rest := s.Slots
	for i := range sectors(int(h.Slots)) {
		b := content[sectorOffset(i):][:sectorSize]
		rest = rest[copy(b[:sectorSlots*slotSize], rest):]
		sealSector(b, volume, i)
	}
	return durable.Replace(fs, path, content, diskCategory)
}

// Open opens a key file and unwraps the volume key. One of the two headers suffices.
func Open(fs vfs.FS, path string, m Master) (*File, error) {
	if _, err := fs.Stat(path); err != nil { // OpenReadWrite would make it
		return nil, fmt.Errorf("open key file: %w", err)
	}
	h, err := fs.OpenReadWrite(path, diskCategory)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	f := &File{path: path, f: h, writable: true}
	if err := f.load(m); err != nil {
		return nil, errors.Join(fmt.Errorf("open key file %s: %w", path, err), h.Close())
	}
	return f, nil
}

// headerCopy is one of the two headers, or what is wrong with it.
type headerCopy struct {
	header
	err error
}

// readHeaders reads both copies. A newer version of either refuses the file.
func readHeaders(file vfs.File, path string) (all [headers]headerCopy, err error) {
	b := make([]byte, headerSize)
	for i := range all {
		off := int64(i) * headerSize
		n, err := file.ReadAt(b, off)
		if err != nil && err != io.EOF {
			return all, fmt.Errorf("read header: %w", err)
		}
		if all[i].header, err = decodeHeader(b[:n]); errors.Is(err, ErrVersion) {
			return all, err
		}
		all[i].err = located(err, path, off)
	}
	return all, nil
}

func (f *File) load(m Master) error {
	all, err := readHeaders(f.f, f.path)
	if err != nil {
		return err
	}
	best := 0
	if all[0].err != nil || all[1].err == nil && all[1].Sequence > all[0].Sequence {
		best = 1
	}
	if all[best].err != nil {
		return errors.Join(all[0].err, all[1].err)
	}
	f.header = all[best].header
	f.volume, f.slots = f.header.Volume, int(f.header.Slots)
	for i, h := range all {
		f.stale[i] = h.err != nil || h.Sequence != f.header.Sequence
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	f.key, err = unwrapKey(ctx, m, f.header)
	return err
}

// volumeAAD binds a wrapped key to what it is for.
func volumeAAD(volume uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte("hongyan volume key "), volume)
}

func wrapKey(ctx context.Context, m Master, volume uint64, key *[32]byte) (id string, wrapped []byte, err error) {
	if id, wrapped, err = m.Wrap(ctx, key[:], volumeAAD(volume)); err != nil {
		return "", nil, fmt.Errorf("wrap the key of volume %016x: %w", volume, err)
	}
	return id, wrapped, nil
}

func unwrapKey(ctx context.Context, m Master, h header) (key [32]byte, err error) {
	b, err := m.Unwrap(ctx, h.Master, h.Wrapped, volumeAAD(h.Volume))
	if err != nil {
		return key, fmt.Errorf("unwrap the key of volume %016x: %w", h.Volume, err)
	}
	if len(b) != len(key) {
		return key, fmt.Errorf("unwrap the key of volume %016x: %d bytes instead of 32: %w", h.Volume, len(b), ErrWrongKey)
	}
	return [32]byte(b), nil
}

// Volume is the id of the volume whose keys these are.
func (f *File) Volume() uint64 { return f.volume }

// Slots is how many records the file has keys for.
func (f *File) Slots() int { return f.slots }

// MasterID names the master key that wraps this file.
func (f *File) MasterID() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.header.Master
}

// sector reads one sector into b and checks it. The lock is held.
func (f *File) sector(i int, b []byte) error {
	if _, err := f.f.ReadAt(b, sectorOffset(i)); err == io.EOF {
		return &CorruptError{Path: f.path, Offset: sectorOffset(i), Reason: "the file is cut off"}
	} else if err != nil {
		return fmt.Errorf("read sector %d of key file %s: %w", i, f.path, err)
	}
	return located(checkSector(b, f.volume, i), f.path, sectorOffset(i))
}

// runSectors is how many sectors are read at once by who goes through all: 64 KiB.
const runSectors = 128

// eachRun reads all sectors and gives them to do, a run of neighbours at a time, with what is wrong with each. The lock is held.
func (f *File) eachRun(do func(first int, run []byte, damaged []error) error) error {
	b, wrong := make([]byte, runSectors*sectorSize), make([]error, runSectors)
	for first, all := 0, sectors(f.slots); first < all; first += runSectors {
		n := min(runSectors, all-first)
		run, damaged := b[:n*sectorSize], wrong[:n]
		_, err := f.f.ReadAt(run, sectorOffset(first))
		for i := range n {
			one := run[i*sectorSize : (i+1)*sectorSize]
			if damaged[i] = err; err == nil {
				damaged[i] = checkSector(one, f.volume, first+i)
			}
			if damaged[i] != nil {
				damaged[i] = f.sector(first+i, one) // perhaps only its neighbours cannot be read
			}
		}
		if err := do(first, run, damaged); err != nil {
			return err
		}
	}
	return nil
}

// Record gives the key of record n.
func (f *File) Record(n uint64) ([32]byte, error) {
	if n == 0 || n > uint64(f.slots) {
		return [32]byte{}, fmt.Errorf("record %d of volume %016x: %w", n, f.volume, ErrNoSlot)
	}
	i, at := place(n)
	var b [sectorSize]byte
	f.mu.RLock()
	err := f.sector(i, b[:])
	f.mu.RUnlock()
	if err != nil {
		return [32]byte{}, err
	}
	slot := b[at : at+slotSize]
	if zero(slot) {
		return [32]byte{}, fmt.Errorf("record %d of volume %016x: %w", n, f.volume, ErrDestroyed)
	}
	return recordKey(&f.key, slot, n), nil
}

// Destroy makes the keys of records unreadable for good, once it returns. On an error some may be destroyed; it is repeated then.
func (f *File) Destroy(records []uint64) error {
	if len(records) == 0 {
		return nil
	}
	gone := make([]bool, f.slots+1)
	for _, n := range records {
		if n == 0 || n > uint64(f.slots) {
			return fmt.Errorf("destroy key of record %d of volume %016x: %w", n, f.volume, ErrNoSlot)
		}
		gone[n] = true
	}
	_, err := f.Keep(func(n uint64) bool { return !gone[n] })
	return err
}

func (f *File) write(b []byte, off int64) error {
	if _, err := f.f.WriteAt(b, off); err != nil {
		f.writable = false
		return fmt.Errorf("write key file %s at %d: %w", f.path, off, err)
	}
	return nil
}

func (f *File) sync() error {
	if err := f.f.Sync(); err != nil {
		f.writable = false
		return fmt.Errorf("sync key file %s: %w", f.path, err)
	}
	return nil
}

// Close closes the file. Nothing that was answered depends on it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("close key file %s: %w", f.path, err)
	}
	return nil
}
