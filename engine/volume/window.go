package volume

import "github.com/cockroachdb/pebble/v2/vfs"

// windowSize has room for the largest part of a record: a chunk with its header and tag.
const windowSize = maxChunkSize + sector

// window reads a file from front to back in large steps, and gives any part of it that fits. What the disk does not give
// reads as zeros, sector by sector, and is remembered.
type window struct {
	file vfs.File
	end  int64
	pace func(n int) error

	memory *buffer
	buf    []byte // bytes of the file from off on
	off    int64
	bad    []int64 // sectors of buf that the disk did not give
}

// at gives n bytes from off on. They are good until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		if err := w.load(off, n); err != nil {
			return nil, err
		}
	}
	return w.buf[off-w.off:][:n], nil
}

// load keeps what is there already, and reads on from its end.
func (w *window) load(off int64, n int) error {
	if w.memory == nil {
		w.memory = newBuffer(windowSize)
	}
	have := 0
	if off >= w.off && off < w.off+int64(len(w.buf)) {
		have = copy(w.memory.b[:cap(w.memory.b)], w.buf[off-w.off:])
	}
	size := int(min(w.end-off, int64(max(n, windowSize))))
	if size > cap(w.memory.b) {
		grown := newBuffer(size)
		copy(grown.b[:have], w.memory.b[:have])
		w.memory.release()
		w.memory = grown
	}
	w.buf, w.off = w.memory.b[:size], off
	for len(w.bad) > 0 && w.bad[0]+sector <= off {
		w.bad = w.bad[1:]
	}
	if w.pace != nil {
		if err := w.pace(size - have); err != nil {
			return err
		}
	}
	w.read(w.buf[have:], off+int64(have))
	return nil
}

// read takes bytes from the disk itself as far as the system lets us: pages that lie in memory are dropped before,
// since it is the disk that is to be checked, and afterwards, since nobody may ask for them soon.
func (w *window) read(p []byte, at int64) {
	forgetPages(w.file, at, int64(len(p)))
	defer forgetPages(w.file, at, int64(len(p)))
	if n, _ := w.file.ReadAt(p, at); n == len(p) {
		return
	}
	for len(p) > 0 {
		n := min(int64(len(p)), sector-at%sector)
		if got, _ := w.file.ReadAt(p[:n], at); got < int(n) {
			clear(p[:n])
			w.bad = append(w.bad, at-at%sector)
		}
		p, at = p[n:], at+n
	}
}

// unreadable says whether the disk did not give a part of these bytes.
func (w *window) unreadable(off, n int64) bool {
	for _, at := range w.bad {
		if at < off+n && off < at+sector {
			return true
		}
	}
	return false
}

func (w *window) close() { w.memory.release() }
