package volume

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultMaxOpen is how many volumes of a set have their file open, unless SetOptions say otherwise.
const DefaultMaxOpen = 256

// shared is what the volumes of a set have in common.
type shared struct {
	handles                    *handles
	dictionaries               dictionaries
	scans, saves, saveFailures atomic.Uint64
	mail, disk                 atomic.Uint64 // bytes of messages appended, and what they and their dictionaries take in files
}

func newShared(maxOpen int) *shared { return &shared{handles: newHandles(maxOpen)} }

// appended counts a record that is durable.
func (s *shared) appended(r *request) {
	if r.head.kind == KindMessage {
		s.mail.Add(r.head.length)
	}
	if r.head.kind != KindCheckpoint {
		s.disk.Add(uint64(r.end - r.start))
	}
}

// handles limits how many volumes have their file open, and with it how much memory the blocks of their index files take. What
// was used least recently is closed, and rests until it is used again. Volumes that are appended to, received, mended or read
// at the moment stay open, above the limit if need be.
type handles struct {
	limit int
	clock atomic.Int64
	rests atomic.Uint64

	mu   sync.Mutex // guards open; taken before a volume's locks
	open map[*Volume]struct{}
}

func newHandles(limit int) *handles {
	return &handles{limit: limit, open: make(map[*Volume]struct{})}
}

// use notes that a volume is read now.
func (h *handles) use(v *Volume) { v.used.Store(h.clock.Add(1)) }

// add notes that a volume has opened its file, and makes room: an eighth of the limit at once, so that this is seldom done.
func (h *handles) add(v *Volume) {
	h.use(v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[v] = struct{}{}
	if len(h.open) <= h.limit {
		return
	}
	type idle struct {
		v    *Volume
		used int64
	}
	all := make([]idle, 0, len(h.open))
	for w := range h.open {
		if w != v {
			all = append(all, idle{w, w.used.Load()})
		}
	}
	slices.SortFunc(all, func(a, b idle) int { return cmp.Compare(a.used, b.used) })
	for _, w := range all {
		if len(h.open) <= h.limit-h.limit/8 {
			return
		}
		if w.v.rest() {
			h.rests.Add(1)
			delete(h.open, w.v)
		}
	}
}

// remove notes that a volume's file is closed for good.
func (h *handles) remove(v *Volume) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, v)
}

func (h *handles) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// hold keeps the file open, or opens it again, until drop.
func (v *Volume) hold() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return fmt.Errorf("volume %s: %w", v.header.ID, ErrClosed)
	}
	v.holds++
	open := v.file != nil
	v.mu.Unlock()
	if open {
		v.o.shared.handles.use(v)
		return nil
	}
	if err := v.wakeUp(); err != nil {
		return errors.Join(err, v.drop())
	}
	return nil
}

func (v *Volume) drop() error {
	v.mu.Lock()
	v.holds--
	last, f := v.holds == 0, v.file
	v.mu.Unlock()
	if !last {
		return nil
	}
	v.o.shared.handles.remove(v)
	if f == nil {
		return nil
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close volume %s: %w", v.header.ID, err)
	}
	return nil
}

// wakeUp opens the file of a volume that rests.
func (v *Volume) wakeUp() error {
	v.opening.Lock()
	defer v.opening.Unlock()
	v.mu.Lock()
	open := v.file != nil
	v.mu.Unlock()
	if open {
		return nil // somebody else did
	}
	f, err := v.fs.OpenReadWrite(v.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open volume %s again: %w", v.header.ID, err)
	}
	if err := v.recognize(f); err != nil {
		return errors.Join(fmt.Errorf("open volume %s again: %w", v.header.ID, err), f.Close())
	}
	v.mu.Lock()
	v.file = f
	v.mu.Unlock()
	v.o.shared.handles.add(v)
	return nil
}

// recognize says whether a file has the header block that this volume was opened with.
func (v *Volume) recognize(f vfs.File) error {
	b := newBuffer(fileHeaderSize)
	defer b.release()
	n, err := f.ReadAt(b.b[:fileHeaderSize], 0)
	if n < fileHeaderSize && err != io.EOF {
		return err
	}
	h, seed, err := decodeFileHeader(b.b[:n])
	if err == nil && (h.ID != v.header.ID || seed != v.rules.seed) {
		err = malformed("another volume's file is in its place")
	}
	return located(err, v.header.ID, 0, 0)
}

// isOpenFile says that the file on the disk is the one that is open, if one is.
func (v *Volume) isOpenFile(info vfs.FileInfo) bool {
	v.mu.Lock()
	f := v.file
	v.mu.Unlock()
	return f == nil || sameFile(info, f)
}

// rest closes the file of a volume that nobody uses, if all that was written to it is durable, and says whether it did.
func (v *Volume) rest() bool {
	if !v.disk.TryLock() {
		return false
	}
	defer v.disk.Unlock()
	v.mu.Lock()
	f, x := v.file, v.saved
	idle := f != nil && v.holds == 1 && !v.closed && v.sealed && v.stoppedCommitting() &&
		v.failed == nil && v.tail == v.durable && max(v.end, v.filled) <= v.durable
	if idle {
		v.file = nil
	}
	v.mu.Unlock()
	if !idle {
		return false
	}
	if x != nil {
		x.forget()
	}
	err := f.Close()
	if k, ok := v.o.Keys.(*keyFile); ok {
		err = errors.Join(err, k.rest())
	}
	if err != nil {
		_ = v.fail("close", err) // kept in Stats; reading goes on with the file opened again
	}
	return true
}

// stoppedCommitting says that no committer runs. The caller holds mu.
func (v *Volume) stoppedCommitting() bool {
	if v.stopped == nil {
		return true
	}
	select {
	case <-v.stopped:
		return true
	default:
		return false
	}
}
