package volume

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

// DefaultMaxSize is the length at which a volume seals itself, unless Options say otherwise.
const DefaultMaxSize = 1 << 30

// temporarySuffix marks a file whose header block is not durable yet.
const temporarySuffix = ".tmp"

// Tap sees every byte that Append writes, in order and before its fsync, so that the copies on other nodes
// are made while this one waits for its disk. It must not keep p. An error fails the batch and the volume.
// While it blocks, so do Append and Seal: it has to give up by itself on a copy that does not answer.
type Tap interface {
	Append(off int64, p []byte) error
}

// Options of one volume.
type Options struct {
	Tap     Tap    // may be nil
	MaxSize int64  // the volume seals itself when it is that long; 0 is DefaultMaxSize
	Reserve uint64 // bytes of free disk space that Append and Receive leave alone
	Ahead   int64  // how far a growing file is filled with zeros ahead of small groups; 0 is not at all
	// Keys of an encrypted volume's records. Without them it can be received, compared and mended, but not appended to or read.
	Keys recordKeys
	// MaxRecords is how many records the volume takes; 0 is MaxRecords of the format.
	MaxRecords uint64

	// ReadOnly is for looking at a file that may not be changed: Open cuts no torn tail and syncs nothing, and nothing writes.
	ReadOnly bool

	known      Sealed       // how the volume was sealed
	trusted    int64        // if not 0, Open gives up what lies behind it: an fsync of that has failed
	shared     *shared      // of a set's volumes
	beforeName func() error // called by CreateCopy when the header block is durable and the file has no name yet
}

// Sealed is how a volume was sealed, as far as somebody knows: a file of that generation that is as long holds all that it should, and nothing at its end is a torn tail.
type Sealed struct {
	Generation uint32
	Length     int64  // 0: it was not sealed, or nobody knows
	Last       uint64 // number of the last record, if that is known
	// Unsure says that nobody knows yet: what would be a torn tail of a volume that was not sealed may be damage in one that was.
	Unsure bool
}

// Volume is one copy of a volume on this node's disk. Its methods may be called by several goroutines at once.
type Volume struct {
	fs     vfs.FS
	path   string
	header Header
	rules  rules
	o      Options
	credit int64 // bytes that may be written before free space is asked for again; the writer's own
	filled int64 // up to where fillAhead wrote zeros; the writer's own
	used   atomic.Int64

	opening sync.Mutex // held while file is opened again
	// file is nil while the volume rests (handles). It is there for who holds the volume (hold), and while the volume is not
	// sealed. ReadAt by anybody; written by the committer, or under disk.
	file vfs.File // changed under mu

	learning sync.Mutex             // guards learned
	learned  map[uint64]*Dictionary // dictionary records that were read, by number

	// disk orders the writes and fsyncs of Receive, Commit, Extend and Truncate, and guards the fields
	// below it. It is taken before mu.
	disk      sync.Mutex
	check     *checker // follows what is received; nil while saved is in use
	tail      int64    // end of what was received
	end       int64    // bytes given up lie between tail and here, if that is more
	broken    error    // why nothing more can be received at tail
	unindexed bool     // no index file is there, durably

	mu           sync.Mutex  // guards what follows; never held during input or output
	wake         *sync.Cond  // pending, sealed or failed changed
	index        []uint32    // index[n-1] is where record n begins, in units of 8 bytes; 0 where it is damaged, or not in this generation
	saved        *savedIndex // in place of index, if not nil: see saved.go
	dictionaries []uint64    // numbers of the dictionary records, ascending
	durable      int64       // end of the last whole record that an fsync covers
	damage       []Span
	found        uint64 // records with a place
	endless      bool   // there may be records at the end, behind those of the index: nobody knows how many
	role         role
	sealed       bool
	failed       error
	pending      []*request    // queued by Append, one for each waiting caller
	stopped      chan struct{} // closed when the committer ends; nil when there is none
	holds        int           // the Volume itself and its open readers; the file is closed with the last one
	closed       bool
	fsyncs       uint64
	cut          int64

	opened bool // by Open; fixed
	unsure bool // nobody could say what lies behind durable (Sealed.Unsure); fixed by Open
	unread bool // the disk did not give what lies behind durable, or it is unsure, or the disk did not take what was read for durable; fixed by Open
}

// role says who may write a created volume: its first writer decides.
type role uint8

const (
	roleNone role = iota
	rolePrimary
	roleReplica
)

// Stats describes a volume at one moment.
type Stats struct {
	Records uint64 // durable, damaged ones included as far as they are known
	Bytes   int64  // durable, file header included
	Fsyncs  uint64
	Cut     int64 // bytes of torn tail that Open cut off
	// Damaged is the records that Open did not find although there are some behind; 0 in later generations, where nobody can tell. It is 1 at least where
	// the end is damaged, or may be, and nobody knows which record is the last.
	Damaged uint64
	Sealed  bool
	Failed  error // why nothing is written any more

	Opened     bool  // Open found it: Bytes is what its disk gives, and may be less than what it once held durably
	Unreadable bool  // the disk did not give what lies behind Bytes: there may be whole records; or an fsync of them failed: there may be fewer
	Unsure     bool  // nobody could say whether what lies behind Bytes is a torn tail: it is kept, and the volume is opened anew by who asks for it once that is known
	Whole      int64 // up to where no record is damaged
}

// Span is a part of a volume in which Open found no records.
type Span struct{ Start, End int64 }

// Create makes a new, empty volume. Its header, and the file's name, are durable when it returns.
func Create(fs vfs.FS, path string, h Header, o Options) (*Volume, error) {
	block, err := encodeFileHeader(h)
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", h.ID, err)
	}
	return CreateCopy(fs, path, block, o)
}

// CreateCopy makes a new, empty volume with the header block of another copy (FileHeader), which may be
// of a newer program that writes more fields.
func CreateCopy(fs vfs.FS, path string, block []byte, o Options) (*Volume, error) {
	h, seed, err := decodeFileHeader(block)
	if err != nil {
		return nil, fmt.Errorf("create volume: %w", located(err, h.ID, 0, 0))
	}
	if err := createFile(fs, path, block[:fileHeaderSize], o.beforeName); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", h.ID, err)
	}
	o.beforeName = nil // the volume keeps its options, and would keep 2 MiB of keys with this
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", h.ID, err)
	}
	v := newVolume(fs, path, h, seed, f, o)
	v.o.shared.handles.add(v)
	return v, nil
}

// createFile gives the file its name only when its header block is durable. Only the owner of the
// directory makes files in it, so nobody comes between the look and the renaming.
func createFile(fs vfs.FS, path string, block []byte, beforeName func() error) error {
	if _, err := fs.Stat(path); err == nil {
		return fmt.Errorf("%s: %w", path, ErrExists)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := replaceFile(fs, path, beforeName, func(w io.Writer) error {
		_, err := w.Write(slices.Clone(block))
		return err
	})
	if errors.Is(err, errNameUnsure) {
		return errors.Join(err, fs.Remove(path))
	}
	return err
}

// errNameUnsure: the file has its name, but perhaps not after a crash.
var errNameUnsure = errors.New("the file's name is not durable")

// replaceFile makes a file that has its name only when all that write gave is durable, and beforeName, if any, was called. The
// name is durable, too, when it returns.
func replaceFile(fs vfs.FS, path string, beforeName func() error, write func(io.Writer) error) error {
	temporary := path + temporarySuffix
	f, err := fs.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && beforeName != nil {
		err = beforeName()
	}
	if err == nil {
		err = fs.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, fs.Remove(temporary))
	}
	if err := durable.SyncDir(fs, fs.PathDir(path)); err != nil {
		return fmt.Errorf("%w: %w", errNameUnsure, err)
	}
	return nil
}

// newVolume makes a volume that nobody else knows. Whoever has made it what it is to be adds it to the handles: from then on its file
// may be closed while it is idle.
func newVolume(fs vfs.FS, path string, h Header, seed uint32, f vfs.File, o Options) *Volume {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	o.MaxSize = min(o.MaxSize, maxVolume/2)
	if o.MaxRecords == 0 {
		o.MaxRecords = MaxRecords
	}
	o.MaxRecords = min(o.MaxRecords, MaxRecords)
	r := h.rules(seed)
	if o.shared == nil {
		o.shared = newShared(math.MaxInt)
	}
	v := &Volume{fs: fs, path: path, header: h, rules: r, o: o, file: f, holds: 1,
		durable: fileHeaderSize, tail: fileHeaderSize, check: newChecker(r, r.orderAfter(nil), fileHeaderSize)}
	v.wake = sync.NewCond(&v.mu)
	return v
}

// Header is what the file says of itself.
func (v *Volume) Header() Header { return v.header }

// FileHeader is the header block as it is in the file, for CreateCopy on another node.
func (v *Volume) FileHeader() ([]byte, error) {
	block := make([]byte, fileHeaderSize)
	if _, err := v.ReadRaw(0, block); err != nil {
		return nil, err
	}
	return block, nil
}

// Durable is the end of the last whole record that is safely on this disk.
func (v *Volume) Durable() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.durable
}

// Stats describes the volume now.
func (v *Volume) Stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	records := v.found
	if !v.rules.sparse() {
		records = v.highest()
	}
	damaged := records - v.found
	if v.endless {
		damaged = max(damaged, 1)
	}
	return Stats{Records: records, Bytes: v.durable, Fsyncs: v.fsyncs, Cut: v.cut, Damaged: damaged,
		Sealed: v.sealed, Failed: v.failed, Opened: v.opened, Unreadable: v.unread, Unsure: v.unsure, Whole: v.whole()}
}

// whole is up to where no record is damaged. Called under mu.
func (v *Volume) whole() int64 {
	if len(v.damage) > 0 {
		return v.damage[0].Start
	}
	return v.durable
}

// Damage lists where Open found no records although there are some behind.
func (v *Volume) Damage() []Span {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]Span(nil), v.damage...)
}

// Dictionaries gives the numbers of the dictionary records, ascending.
func (v *Volume) Dictionaries() []uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.dictionaries)
}

// Seal ends appending: it waits until the callers that are queued have their answers, and no later one is
// let in. Then it saves the index; so it is to be called after mending, too. It says why if the volume has failed, and may be called again.
func (v *Volume) Seal() error {
	v.stop(true)
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

// stop ends all writing but repair, and waits for what is under way. What was received and never
// committed is given up: it was never acknowledged. That, and zeros, are cut off, unless the volume has failed.
func (v *Volume) stop(save bool) {
	v.disk.Lock()
	defer v.disk.Unlock()
	v.mu.Lock()
	v.sealed = true
	v.wake.Broadcast()
	stopped := v.stopped
	v.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
	v.mu.Lock()
	writable := v.failed == nil && !v.closed
	v.mu.Unlock()
	v.restart()
	if !writable {
		return
	}
	if max(v.end, v.filled) > v.tail {
		_ = v.cutTo(v.tail) // a failure is kept
	}
	if save {
		v.save()
	}
}

// restart makes the end of the durable part the place where bytes are received. The caller holds disk.
func (v *Volume) restart() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.end = max(v.end, v.tail)
	v.tail = v.durable
	v.broken = nil
	if v.saved == nil {
		v.check = newChecker(v.rules, v.rules.orderAfter(v.index), v.durable)
	}
}

// Close seals the volume and gives back its file, once the readers that are still open are closed.
func (v *Volume) Close() error { return v.close(true) }

// close is Close, without the index file for a volume that is going to be removed.
func (v *Volume) close(save bool) error {
	v.stop(save)
	v.mu.Lock()
	again := v.closed
	v.closed = true
	v.mu.Unlock()
	if again {
		return nil
	}
	return v.drop()
}

// fail makes the volume refuse every later write. The first failure is the one that is kept.
func (v *Volume) fail(doing string, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed == nil {
		v.failed = failure(v.header.ID, doing, err)
		v.wake.Broadcast()
	}
	return v.failed
}

// sync makes everything written so far durable.
func (v *Volume) sync() error {
	if err := v.file.SyncData(); err != nil {
		return v.fail("fsync", err)
	}
	v.mu.Lock()
	v.fsyncs++
	v.mu.Unlock()
	return nil
}

// creditSize is how much is written between two looks at the free space: little beside any sensible reserve.
const creditSize = 1 << 20

// room says ErrFull when n more bytes would eat into the reserve. A file system that cannot tell how
// full it is has no reserve; the write itself then finds out.
func (v *Volume) room(n int64) error {
	if v.o.Reserve == 0 {
		return nil
	}
	if n <= v.credit {
		v.credit -= n
		return nil
	}
	usage, err := v.fs.GetDiskUsage(v.path)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("volume %s: ask for free space: %w", v.header.ID, err)
	}
	spare := usage.AvailBytes - min(usage.AvailBytes, v.o.Reserve)
	if spare < uint64(n) {
		return fmt.Errorf("volume %s: %d bytes free, reserve %d: %w", v.header.ID, usage.AvailBytes, v.o.Reserve, ErrFull)
	}
	v.credit = int64(min(spare-uint64(n), creditSize))
	return nil
}

// ReadRaw reads bytes of the durable part of the file as they are, to make or mend another copy.
func (v *Volume) ReadRaw(off int64, p []byte) (int, error) {
	if err := v.hold(); err != nil {
		return 0, err
	}
	n, err := v.readDurable(off, p)
	if dropErr := v.drop(); dropErr != nil {
		return n, dropErr
	}
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("volume %s: read at %d: %w", v.header.ID, off, err)
	}
	return n, err
}

func (v *Volume) readDurable(off int64, p []byte) (int, error) {
	end := v.Durable()
	if off < 0 || off >= end {
		return 0, io.EOF
	}
	if off+int64(len(p)) <= end {
		return v.file.ReadAt(p, off)
	}
	n, err := v.file.ReadAt(p[:end-off], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}
