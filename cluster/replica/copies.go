package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Copies lists this node's copies of sealed volumes that are as long as they should be.
func (m *Manager) Copies() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Entry, 0, len(m.whole))
	for id := range m.whole {
		if e, ok := m.entries[id]; ok && e.State == Sealed && e.Length > 0 && e.Holds(m.cfg.ID) {
			out = append(out, e)
		}
	}
	return out
}

// Recheck has a copy compared with its entry again, and made whole if need be: its file was found changed.
func (m *Manager) Recheck(id volume.ID) {
	m.mu.Lock()
	delete(m.whole, id)
	m.mu.Unlock()
	signal(m.mend)
}

// Others gives the other copies of a volume whose nodes answer, nearest first, as files to read from. Each is given up
// once it has failed to answer a few times.
func (m *Manager) Others(ctx context.Context, e Entry) (nodes []string, files []io.ReaderAt) {
	for _, node := range m.holders(ctx, e.ID) {
		if m.cfg.Net.Up(node) {
			nodes = append(nodes, node)
			files = append(files, &otherCopy{m: m, ctx: ctx, entry: e, node: node})
		}
	}
	return nodes, files
}

// MendKeys looks for damage in the key file of this node's copy, and mends it from another copy. It gives the offset of the
// first damage, and how many places are mended.
func (m *Manager) MendKeys(ctx context.Context, e Entry) (at int64, mended int, err error) {
	var found []int64
	err = m.cfg.Volumes.UseKeys(e.ID, func(f *keys.File) error {
		found, err = f.Damage()
		return err
	})
	if err != nil || len(found) == 0 {
		return 0, 0, err
	}
	head, err := m.fetchHead(ctx, e, true)
	if err == nil && head.Secret == nil {
		err = errors.New("the other copy gave no keys")
	}
	if err == nil {
		err = m.cfg.Volumes.UseKeys(e.ID, func(f *keys.File) error {
			mended, err = f.Mend(head.Secret)
			return err
		})
	}
	if err != nil {
		err = fmt.Errorf("mend %d places of the key file: %w", len(found), err)
	}
	return found[0], mended, err
}

const (
	readAhead    = 1 << 20          // of another copy's file
	otherFailure = 5                // reads without an answer after which another copy is not asked any more
	otherDamage  = 10 * time.Minute // or so long was waited for answers that its disk has not the bytes
)

// otherCopy is another node's file. One goroutine uses it.
type otherCopy struct {
	m        *Manager
	ctx      context.Context
	entry    Entry
	node     string
	buf      []byte // of the file from off on
	off      int64
	failures int
	waited   time.Duration // for answers that were of no use
	err      error         // of the last failure
	silent   bool          // some bytes were not asked for, or no answer came: nothing is known of them
}

// ReadAt implements io.ReaderAt for places in order: damage seldom comes alone.
func (o *otherCopy) ReadAt(p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), o.entry.Length)
	if off < o.off || end > o.off+int64(len(o.buf)) {
		if err := o.load(off, end); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.buf[off-o.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load reads ahead; a sector behind that the other disk does not give costs one more request. That the other copy is damaged, or ends before the place, is an answer:
// it may be right at the next place, and whoever wants its file given up needs one for each (S2).
func (o *otherCopy) load(off, end int64) error {
	answered := false
	for _, to := range []int64{min(off+readAhead, o.entry.Length), end} {
		if o.failures >= otherFailure || o.waited >= otherDamage {
			o.silent = true
			return o.err
		}
		buf := make([]byte, 0, max(to, end)-off)
		req := rawRequest{Volume: o.entry.ID, Off: off, End: max(to, end), Generation: o.entry.Generation}
		began := time.Now()
		_, err := o.m.fetchFrom(o.ctx, o.node, req, func(p []byte) error {
			buf = append(buf, p...)
			return nil
		})
		if err == nil {
			o.buf, o.off = buf, off
			return nil
		}
		o.err = err
		if answered = errors.Is(err, wire.ErrDamaged) || errors.Is(err, wire.ErrNotFound) && o.settled(); answered {
			o.waited += time.Since(began)
		} else {
			o.failures++
		}
	}
	o.silent = o.silent || !answered
	return o.err
}

// settled says that what the other node's file lacks stays so: it is of the generation that was asked for, and so ends before the place, or the node is not named any more. One
// that is named and has another file, or none, is about to have the right one.
func (o *otherCopy) settled() bool {
	if !o.entry.Holds(o.node) {
		return true
	}
	_, err := o.m.fetchFrom(o.ctx, o.node, rawRequest{Volume: o.entry.ID, Generation: o.entry.Generation}, nil)
	return err == nil
}

// isDamage says that a read failed since the disk has not what it should have.
func isDamage(err error) bool {
	var corrupt *volume.CorruptError
	return errors.As(err, &corrupt) || errors.Is(err, syscall.EIO) || errors.Is(err, io.ErrUnexpectedEOF)
}

// noteDamage tells who mends. An open volume is closed, for only sealed ones are mended, and its disk is to be trusted with no
// more of it.
func (m *Manager) noteDamage(id volume.ID, record uint64) {
	if p := m.primaryOf(id); p != nil {
		p.retire()
	}
	m.mu.Lock()
	f := m.followers[id]
	m.mu.Unlock()
	if f != nil {
		f.fence()
	}
	if m.cfg.Damaged != nil {
		m.cfg.Damaged(id, record)
	}
}
