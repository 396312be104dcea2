package cold

import (
	"context"
	"sync"
)

// windowSize is how much is read at once where less is asked for: a small record, header and all, in one go.
const windowSize = 2 * BlockRoom

// Window is a volume's file for who reads small pieces that lie close to each other: it keeps the bytes of the last small read, for those behind.
// Several goroutines may use it, one at a time.
type Window struct {
	ctx context.Context
	r   *Reader

	mu  sync.Mutex // guards off and buf
	off int64      // of buf
	buf []byte
}

// NewWindow reads through r as long as ctx lasts.
func NewWindow(ctx context.Context, r *Reader) *Window { return &Window{ctx: ctx, r: r} }

// ReadAt implements io.ReaderAt.
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	if len(p) >= windowSize {
		return w.r.ReadAt(w.ctx, p, off)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := off - w.off; at >= 0 && at+int64(len(p)) <= int64(len(w.buf)) {
		return copy(p, w.buf[at:]), nil
	}
	b := make([]byte, windowSize)
	n, err := w.r.ReadAt(w.ctx, b, off)
	if n < len(p) {
		return copy(p, b[:n]), err
	}
	w.off, w.buf = off, b[:n]
	return copy(p, w.buf), nil
}
