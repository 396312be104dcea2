package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	// DefaultSegmentSize is small enough that a few segments are no burden on a small disk, and large enough that
	// changing over is rare.
	DefaultSegmentSize = 16 << 20

	batchSize = 4 << 20   // about how much goes into one frame
	moveSize  = 256 << 10 // of old entries that are written anew with a frame
	lockName  = "LOCK"
)

// Options of a journal. Zero values mean the defaults.
type Options struct {
	SegmentSize int64
	Log         *slog.Logger
}

// Journal is an open journal. One process at a time uses its directory.
type Journal struct {
	fs   vfs.FS
	dir  string
	o    Options
	lock io.Closer

	spares   chan prepared             // the next segment's file
	wanted   chan struct{}             // capacity one: that is to be made
	hurry    atomic.Bool               // the writer waits for it
	returned chan *segment             // what no log needs any more
	quit     chan struct{}             // ends the preparer
	preparer chan struct{}             // closed when it has ended
	writer   chan struct{}             // closed when the committer has ended
	kept     []string                  // files for later use; the preparer's own
	frame    []byte                    // the committer's own
	asked    *segment                  // the one whose successor it wanted last; the committer's own
	writing  atomic.Pointer[time.Time] // since when the committer writes; nil while it does not
	busy     atomic.Int64              // nanoseconds that it has written for
	longest  atomic.Int64              // nanoseconds of one write, since Longest was asked

	mu       sync.Mutex // guards what follows, and the logs and segments; not held during input or output
	wake     *sync.Cond // pending, failed or closed changed
	logs     map[uint32]*Log
	segments []*segment // in order; the last is written
	pending  []*request
	failed   error
	closed   bool
	stats    Stats
}

// Stats counts what happened since Open.
type Stats struct {
	Frames   uint64        // each is one write and one fsync
	Busy     time.Duration // of those
	Entries  uint64
	Bytes    uint64 // written in frames
	Moved    uint64 // entries written anew so that their segment could go
	Segments int
	Size     int64 // of the segments' files
}

// request is one caller's change.
type request struct {
	log   *Log
	op    uint8
	flags uint8
	index uint64
	body  []byte   // records
	offs  []uint32 // where each begins in body
	done  chan error
}

// Open opens the journal in dir, or makes one. A *CorruptError means that the disk lost what it had made durable.
func Open(fs vfs.FS, dir string, o Options) (*Journal, error) {
	if o.SegmentSize <= 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{fs: fs, dir: dir, o: o, logs: make(map[uint32]*Log), spares: make(chan prepared), wanted: make(chan struct{}, 1), returned: make(chan *segment, 64),
		quit: make(chan struct{}), preparer: make(chan struct{}), writer: make(chan struct{})}
	j.wake = sync.NewCond(&j.mu)
	if err := j.open(); err != nil {
		return nil, fmt.Errorf("open the journal in %s: %w", dir, err)
	}
	go j.prepare()
	go j.commit()
	return j, nil
}

func (j *Journal) open() (err error) {
	if err := j.fs.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(j.fs, j.fs.PathDir(j.dir)); err != nil {
		return err
	}
	if j.lock, err = j.fs.Lock(j.fs.PathJoin(j.dir, lockName)); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.closeFiles())
		}
	}()
	names, err := j.fs.List(j.dir)
	if err != nil {
		return err
	}
	j.findSpares(names)
	if err := j.replay(names); err != nil {
		return err
	}
	if n := len(j.segments); n > 0 {
		// A process that was killed between a write and its fsync has left a whole frame that the disk may not have. From here on it counts.
		last := j.segments[n-1]
		if err := last.file.Sync(); err != nil {
			return fmt.Errorf("fsync %s: %w", last.path, err)
		}
	}
	s, err := j.firstSpare()
	if err != nil {
		return err
	}
	return j.begin(s)
}

// begin makes a file the segment that is written from now on.
func (j *Journal) begin(s *spare) error {
	h := header{number: 1, salt: rand.Uint64()}
	j.mu.Lock()
	if n := len(j.segments); n > 0 {
		h.number, h.prevEnd = j.segments[n-1].number+1, j.segments[n-1].end
	}
	j.mu.Unlock()
	next, err := openSegment(j.fs, j.dir, s, h)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = append(j.segments, next)
	return nil
}

// Log gives a shard's log. It is empty if nobody has written to it.
func (j *Journal) Log(group uint32) *Log {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.logOf(group)
}

func (j *Journal) logOf(group uint32) *Log {
	l := j.logs[group]
	if l == nil {
		l = &Log{j: j, group: group}
		j.logs[group] = l
	}
	return l
}

// segment finds the segment of a place. The caller holds mu.
func (j *Journal) segment(p place) *segment {
	return j.segments[p.segment-uint32(j.segments[0].number)]
}

// Stats counts.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Busy = time.Duration(j.busy.Load())
	s.Segments = len(j.segments)
	for _, seg := range j.segments {
		s.Size += seg.size
	}
	return s
}

// Err is why nothing is written any more, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// fail ends all writing. The first failure is the one that is kept.
func (j *Journal) fail(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		j.o.Log.Error("the journal takes nothing any more: look at this node's disk, then restart it", "err", err)
		j.wake.Broadcast()
	}
	return j.failed
}

// wait queues a request and waits for its answer.
func (j *Journal) wait(r *request) error {
	r.done = make(chan error, 1)
	j.mu.Lock()
	switch {
	case j.failed != nil:
		defer j.mu.Unlock()
		return j.failed
	case j.closed:
		j.mu.Unlock()
		return ErrClosed
	}
	j.pending = append(j.pending, r)
	j.wake.Signal()
	j.mu.Unlock()
	return <-r.done
}

// Close waits for the writes that are under way and closes the files.
func (j *Journal) Close() error {
	j.mu.Lock()
	again := j.closed
	j.closed = true
	j.wake.Broadcast()
	j.mu.Unlock()
	if again {
		return nil
	}
	<-j.writer
	close(j.quit)
	<-j.preparer
	if err := j.closeFiles(); err != nil {
		return fmt.Errorf("close the journal in %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) closeFiles() error {
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.file.Close())
	}
	for {
		select {
		case s := <-j.returned:
			errs = append(errs, s.file.Close())
			continue
		default:
		}
		break
	}
	return errors.Join(append(errs, j.lock.Close())...)
}
