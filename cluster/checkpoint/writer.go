package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/pause"
	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

const (
	// partSize is how much of a saved state one record holds: little enough that it holds up no mail on its way to a disk.
	partSize = 8 << 20
	// partMemory is how much of a part's stored bytes are kept in memory; the rest is spooled.
	partMemory = 1 << 20
	// burst is how fast parts are written.
	burst = 16 << 20 // bytes a second
)

// Store takes records. It is the part of replica.Manager that this package needs.
type Store interface {
	Put(ctx context.Context, to replica.Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error)
}

// writer is an io.Writer that puts what it is given into records.
type writer struct {
	ctx   context.Context
	store Store
	fs    vfs.FS
	dir   string // of spools
	home  string
	size  int  // of a part
	meta  Meta // of the next part

	spool *volume.Spool // the part under construction; nil between parts
	room  int           // bytes that still go into it
	out   directory.Checkpoint
}

// Write implements io.Writer. A part that is full is put only when more follows, so that the last one is known.
func (w *writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if w.room == 0 {
			if err := w.put(false); err != nil {
				return n, err
			}
			w.spool, w.room = volume.NewSpool(w.fs, w.dir, partMemory), w.size
		}
		k, err := w.spool.Write(p[:min(w.room, len(p))])
		n, p, w.room = n+k, p[k:], w.room-k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// finish puts the last part.
func (w *writer) finish() error {
	if w.spool == nil {
		return io.ErrUnexpectedEOF
	}
	return w.put(true)
}

// put stores the part under construction, if there is one, and waits as long as it should have taken.
func (w *writer) put(last bool) (err error) {
	if w.spool == nil {
		return nil
	}
	if len(w.out.Parts) == directory.MaxParts {
		return fmt.Errorf("a checkpoint of more than %d parts of %d bytes", directory.MaxParts, w.size)
	}
	began := time.Now()
	w.meta.Last = last
	meta, err := w.meta.Encode()
	if err != nil {
		return err
	}
	blob, err := w.spool.Finish()
	w.spool = nil
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	ref, err := w.store.Put(w.ctx, replica.Anywhere(w.home), volume.KindCheckpoint, meta, blob)
	if err != nil {
		return fmt.Errorf("store part %d: %w", w.meta.Part, err)
	}
	w.meta.Part++
	w.out.Parts = append(w.out.Parts, ref)
	w.out.Bytes += blob.Length()
	if last {
		return nil
	}
	pause.For(w.ctx, time.Until(began.Add(time.Duration(blob.Length())*time.Second/burst)))
	return w.ctx.Err()
}

// abort drops the part under construction.
func (w *writer) abort() error {
	if w.spool == nil {
		return nil
	}
	return w.spool.Abort()
}
