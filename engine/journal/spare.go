package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	zeroPiece   = 1 << 20
	gentlePiece = 256 << 10
	gentleRest  = 20 * time.Millisecond // at most, after a piece
	retrySpare  = 500 * time.Millisecond
	maxSpares   = 2 // files kept for later use
	firstSize   = 2 << 20
	wantedAfter = 8 // part of a segment that is written before the next one's file is made: a node that starts has better things to do
)

// spare is a file that is ready to become a segment: all its blocks have been written.
type spare struct {
	path string
	file vfs.File
	size int64
}

// prepared is what the preparer has to give.
type prepared struct {
	spare *spare
	err   error
}

// prepare is the goroutine that has the next segment's file ready before it is needed, and takes in those that are done with.
func (j *Journal) prepare() {
	defer close(j.preparer)
	var ready *spare
	var failure error
	wanted := false
	for {
		var retry <-chan time.Time
		var give chan<- prepared
		if wanted && ready == nil {
			ready, failure = j.makeSpare()
		}
		if wanted {
			give = j.spares
		}
		if failure != nil {
			retry = time.After(retrySpare) // an answer that is old says nothing of the disk any more
		}
		select {
		case give <- prepared{ready, failure}:
			wanted, ready, failure = failure != nil, nil, nil
		case <-j.wanted:
			wanted = true
		case <-retry:
		case s := <-j.returned:
			if err := j.takeIn(s); err != nil {
				j.fail(err)
			}
		case <-j.quit:
			j.leave(ready)
			return
		}
	}
}

// want has the preparer begin with the file of the segment behind s. Only the committer calls it.
func (j *Journal) want(s *segment) {
	if j.asked == s {
		return
	}
	j.asked = s
	select {
	case j.wanted <- struct{}{}:
	default: // it is about to begin
	}
}

// leave closes what is not needed. The files stay, for the next Open.
func (j *Journal) leave(s *spare) {
	if s != nil {
		_ = s.file.Close() // nothing in it is of value
	}
}

// makeSpare gives a file with all its blocks written, one that was used before if there is one.
func (j *Journal) makeSpare() (*spare, error) {
	if s := j.reuse(); s != nil {
		return s, nil
	}
	return j.newSpare(j.o.SegmentSize, j.gently)
}

// firstSpare gives the file that a process begins with: a small one if it must be made, since the others of a machine that starts wait for its disk.
func (j *Journal) firstSpare() (*spare, error) {
	if s := j.reuse(); s != nil {
		return s, nil
	}
	return j.newSpare(min(j.o.SegmentSize, firstSize), inPieces)
}

func (j *Journal) newSpare(size int64, fill filler) (*spare, error) {
	path := j.fs.PathJoin(j.dir, fmt.Sprintf("%s%016x", sparePrefix, rand.Uint64()))
	f, err := j.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("prepare a segment: %w", err)
	}
	if err := fill(f, size); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a segment of %d bytes: %w", size, err), f.Close(), j.fs.Remove(path))
	}
	return &spare{path: path, file: f, size: size}, nil
}

// filler writes all blocks of a file, durably.
type filler func(f vfs.File, size int64) error

// atOnce is for a segment that somebody waits for.
func atOnce(f vfs.File, size int64) error {
	return fill(f, size, zeroPiece, func() error { return nil })
}

// inPieces is for the first segment, before anything is written: only others who share the disk are let in between.
func inPieces(f vfs.File, size int64) error { return fill(f, size, gentlePiece, f.SyncData) }

// gently lets the writer's fsyncs, and those of whoever shares the disk, in between: each piece is durable before the next one, after a rest. Only when the
// writer waits there is none of that.
func (j *Journal) gently(f vfs.File, size int64) error {
	began := time.Now()
	return fill(f, size, gentlePiece, func() error {
		if j.hurry.Load() {
			return nil
		}
		err := f.SyncData()
		if err == nil {
			select {
			case <-time.After(min(time.Since(began), gentleRest)):
			case <-j.quit:
				err = ErrClosed
			}
		}
		began = time.Now()
		return err
	})
}

func fill(f vfs.File, size, piece int64, between func() error) error {
	zeros := make([]byte, min(size, piece))
	for off := int64(0); off < size; {
		n := min(int64(len(zeros)), size-off)
		if _, err := f.WriteAt(zeros[:n], off); err != nil {
			return err
		}
		if off += n; off < size {
			if err := between(); err != nil {
				return err
			}
		}
	}
	return f.Sync()
}

// reuse opens a file that an earlier segment left.
func (j *Journal) reuse() *spare {
	for len(j.kept) > 0 {
		path := j.kept[len(j.kept)-1]
		j.kept = j.kept[:len(j.kept)-1]
		f, err := j.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Size() == j.o.SegmentSize {
			return &spare{path: path, file: f, size: info.Size()}
		}
		_ = f.Close()
		_ = j.fs.Remove(path) // of another size: an earlier configuration's, or made for one large frame
	}
	return nil
}

// takeIn keeps the file of a segment that no log needs any more, or removes it. Its name goes durably first: its header is
// overwritten later, and must not be found under the old number then.
func (j *Journal) takeIn(s *segment) error {
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("close segment %d: %w", s.number, err)
	}
	if err := j.Err(); err != nil {
		return err // an older one may have stayed: there must be no gap behind it
	}
	keep := len(j.kept) < maxSpares && s.size == j.o.SegmentSize
	path := j.fs.PathJoin(j.dir, fmt.Sprintf("%s%016x", sparePrefix, rand.Uint64()))
	err := j.fs.Rename(s.path, path)
	if err == nil {
		err = durable.SyncDir(j.fs, j.dir)
	}
	if err != nil {
		return fmt.Errorf("put segment %d aside: %w", s.number, err)
	}
	if keep {
		j.kept = append(j.kept, path)
		return nil
	}
	if err := j.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the file of segment %d: %w", s.number, err)
	}
	return nil
}

// findSpares takes what an earlier process prepared, if it is whole: a file that was not filled yet is of another size.
func (j *Journal) findSpares(names []string) {
	for _, name := range names {
		if !strings.HasPrefix(name, sparePrefix) {
			continue
		}
		path := j.fs.PathJoin(j.dir, name)
		info, err := j.fs.Stat(path)
		if err == nil && info.Size() == j.o.SegmentSize && len(j.kept) < maxSpares {
			j.kept = append(j.kept, path)
			continue
		}
		_ = j.fs.Remove(path) // in nobody's way
	}
}
