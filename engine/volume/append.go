package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
)

const (
	// pieceSize is the most that one write call, and one call of the Tap, gets.
	pieceSize = 1 << 20
	// batchSize is about how much one fsync covers: callers behind that wait for the next.
	batchSize = 4 << 20
)

// request is one caller of Append.
type request struct {
	meta   []byte
	head   recordHeader // complete but for the number, and what depends on its key
	blob   io.ReadCloser
	broken func(error)
	needs  *Dictionary // that the volume must have before the record; may be nil
	gives  *Dictionary // that the record is

	state atomic.Uint32 // queued, then taken or abandoned
	done  chan struct{} // closed when the number, end and err are set
	hash  [32]byte      // of the message
	start int64
	end   int64
	err   error
}

const (
	queued uint32 = iota
	taken
	abandoned
)

// Append writes a record and returns when an fsync covers it; end is where it ends in the file. The steps:
//
//  1. The caller is queued. It may give up (ctx) until the committer takes it.
//  2. The committer takes everybody who waits, up to batchSize, and writes their records one after the
//     other in pieces, each shown to the Tap first.
//  3. One fsync covers them all. Only then do the records become visible, and
//  4. the callers get their answers.
//
// The queue holds one entry for each blocked caller, so whoever limits those limits it.
func (v *Volume) Append(ctx context.Context, kind Kind, meta []byte, b *Blob) (Ref, int64, error) {
	if !kind.known() {
		return Ref{}, 0, fmt.Errorf("volume %s: append a record of unknown kind %d", v.header.ID, kind)
	}
	if len(meta) > MaxMeta {
		return Ref{}, 0, fmt.Errorf("volume %s: metadata of %d bytes: %w", v.header.ID, len(meta), ErrTooLarge)
	}
	if err := b.broken(); err != nil {
		return Ref{}, 0, fmt.Errorf("volume %s: append: %w", v.header.ID, err)
	}
	stored, err := b.Stored()
	if err != nil {
		return Ref{}, 0, fmt.Errorf("volume %s: append: %w", v.header.ID, err)
	}
	r := &request{meta: meta, blob: stored, broken: b.setBroken, done: make(chan struct{}), hash: b.Hash(),
		head: v.newHead(kind, meta, b), needs: b.dictionary}
	err = v.wait(ctx, r)
	if closeErr := stored.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("volume %s: append: %w", v.header.ID, closeErr)
	}
	if err != nil {
		return Ref{}, 0, err
	}
	return Ref{Volume: v.header.ID, Record: r.head.number, Length: r.head.length, Hash: r.hash}, r.end, nil
}

// newHead is the header of a record that has no number yet; what depends on the record's key is not final.
func (v *Volume) newHead(kind Kind, meta []byte, b *Blob) recordHeader {
	h := recordHeader{sealed: v.rules.encrypted, kind: kind, length: b.Length(), stored: b.StoredLength(),
		meta: uint32(len(meta)), chunk: chunkSize, hash: b.Hash(), metaCheck: checksum(meta)}
	h.stored += chunkCount(h.length, h.chunk) * uint64(h.tag())
	if h.meta > 0 {
		h.meta += h.tag()
	}
	return h
}

// wait queues the request and waits for its answer.
func (v *Volume) wait(ctx context.Context, r *request) error {
	if err := v.enqueue(r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	if r.state.CompareAndSwap(queued, abandoned) {
		return fmt.Errorf("volume %s: append: %w", v.header.ID, ctx.Err())
	}
	// The committer has it: its bytes may be on their way, and it still reads the blob.
	<-r.done
	return r.err
}

func (v *Volume) enqueue(r *request) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.writable(rolePrimary); err != nil {
		return err
	}
	if v.stopped == nil {
		v.stopped = make(chan struct{})
		go (&committer{v: v, next: 1, off: fileHeaderSize, has: make(map[uint32]bool), stopped: v.stopped}).run()
	}
	v.pending = append(v.pending, r)
	v.wake.Signal()
	return nil
}

// writable says whether this writer may add to the volume, and if it is the first makes it the only one.
// The caller holds mu.
func (v *Volume) writable(as role) error {
	switch {
	case v.failed != nil:
		return v.failed
	case v.closed:
		return fmt.Errorf("volume %s: %w", v.header.ID, ErrClosed)
	case v.sealed:
		return fmt.Errorf("volume %s: %w", v.header.ID, ErrSealed)
	case as == rolePrimary && v.rules.sparse():
		return fmt.Errorf("volume %s: generation %d takes no new records: %w", v.header.ID, v.header.Generation, ErrSealed)
	case v.role != roleNone && v.role != as:
		return fmt.Errorf("volume %s: another kind of writer has it: %w", v.header.ID, ErrSealed)
	}
	v.role = as
	return nil
}

// committer owns the file of an appending volume: nobody else writes it.
type committer struct {
	v       *Volume
	next    uint64          // number of the next record
	off     int64           // where buf goes
	buf     []byte          // not written yet; memory that is borrowed for one batch
	has     map[uint32]bool // dictionaries in the volume, by id
	stopped chan struct{}
}

// run commits batches until the volume is sealed and nobody waits, or until it fails.
func (c *committer) run() {
	defer close(c.stopped)
	for {
		batch := c.take()
		if len(batch) == 0 {
			return
		}
		c.commit(batch)
		if len(batch) > 1 {
			runtime.Gosched() // who was answered may come again at once: before the next batch rather than behind it
		}
	}
}

// take waits for callers and returns the next batch; none when the committer is to end.
func (c *committer) take() []*request {
	v := c.v
	v.mu.Lock()
	defer v.mu.Unlock()
	for {
		for len(v.pending) == 0 && !v.sealed && v.failed == nil {
			v.wake.Wait()
		}
		if v.failed != nil {
			c.refuse(v.pending, v.failed)
			v.pending = nil
			return nil
		}
		var batch []*request
		var size int64
		for len(v.pending) > 0 && size < batchSize {
			r := v.pending[0]
			v.pending[0] = nil
			v.pending = v.pending[1:]
			if !r.state.CompareAndSwap(queued, taken) {
				continue
			}
			if d := c.lacking(r, batch); d != nil {
				batch = append(batch, d)
				size += d.head.size()
			}
			batch = append(batch, r)
			size += r.head.size()
		}
		if len(batch) > 0 || v.sealed {
			return batch
		}
	}
}

// lacking is a request to append the dictionary that r needs, if neither the volume nor the batch has it. Nobody waits for it.
func (c *committer) lacking(r *request, batch []*request) *request {
	need := r.needs
	if need == nil || c.has[need.id] || slices.ContainsFunc(batch, func(q *request) bool { return q.gives != nil && q.gives.id == need.id }) {
		return nil
	}
	return &request{gives: need, blob: need.stored(), broken: func(error) {}, done: make(chan struct{}),
		hash: need.blob.Hash(), head: c.v.newHead(KindDictionary, nil, need.blob)}
}

// refuse answers callers with an error.
func (c *committer) refuse(batch []*request, err error) {
	for _, r := range batch {
		r.err = err
		close(r.done)
	}
}

// commit writes a batch, makes it durable and answers its callers.
func (c *committer) commit(batch []*request) {
	var size int64
	for _, r := range batch {
		size += r.head.size()
	}
	if err := c.v.room(size); err != nil {
		// Nothing was written: the volume is still good when there is space again.
		c.refuse(batch, err)
		return
	}
	scratch := newBuffer(int(min(size, pieceSize)))
	c.buf = scratch.b[:0:min(cap(scratch.b), pieceSize)]
	err := c.write(batch)
	c.buf = nil
	scratch.release()
	if err != nil {
		c.refuse(batch, err)
		return
	}
	c.publish(batch)
	for _, r := range batch {
		close(r.done)
	}
}

// write puts the records of a batch into the file and fsyncs. Records that could not be read from
// their blob get their own error; an error returned is everybody's, and the volume's end.
func (c *committer) write(batch []*request) error {
	wrote := false
	for _, r := range batch {
		if c.tail() >= c.v.o.MaxSize || c.next > c.v.o.MaxRecords {
			r.err = fmt.Errorf("volume %s has reached its size: %w", c.v.header.ID, ErrSealed)
			continue
		}
		if r.needs != nil && !c.has[r.needs.id] {
			r.err = fmt.Errorf("volume %s has not taken dictionary %d: %w", c.v.header.ID, r.needs.id, ErrSealed)
			continue
		}
		if err := c.record(r); err != nil {
			return err
		}
		if r.gives != nil && r.err == nil {
			c.has[r.gives.id] = true
		}
		wrote = wrote || r.err == nil
	}
	if !wrote {
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.v.sync()
}

func (c *committer) tail() int64 { return c.off + int64(len(c.buf)) }

// record adds one record to the buffer, which is written out whenever it is full.
func (c *committer) record(r *request) error {
	start := c.tail()
	r.head.number = c.next
	seal, meta, err := c.seal(r)
	if err != nil {
		return err
	}
	var head [recordHeaderSize]byte
	r.head.encode(head[:], c.v.rules.seed)
	if err := c.add(head[:]); err != nil {
		return err
	}
	if err := c.add(meta); err != nil {
		return err
	}
	if err := c.stream(r, seal); err != nil {
		var bad *blobError
		if !errors.As(err, &bad) {
			return err
		}
		r.broken(err)
		if start < c.off {
			// A part is in the file, and at the other copies: the record can be neither ended nor taken back.
			return c.v.fail("read the message to append", err)
		}
		c.buf = c.buf[:start-c.off]
		r.err = fmt.Errorf("volume %s: append: %w", c.v.header.ID, err)
		return nil
	}
	var zeros [alignment]byte
	if err := c.add(zeros[:aligned(c.tail())-c.tail()]); err != nil {
		return err
	}
	r.start, r.end = start, c.tail()
	c.next++
	return nil
}

// add copies p into the buffer.
func (c *committer) add(p []byte) error {
	for len(p) > 0 {
		room, err := c.room()
		if err != nil {
			return err
		}
		n := copy(room, p)
		c.buf = c.buf[:len(c.buf)+n]
		p = p[n:]
	}
	return nil
}

// seal gets the key of an encrypted volume's next record, and encrypts the metadata. The cipher is nil in other volumes.
func (c *committer) seal(r *request) (*recordCipher, []byte, error) {
	seal, err := c.v.cipher(c.next)
	switch {
	case err != nil:
		return nil, nil, c.v.fail("encrypt", err) // nor will there be a key for a later one
	case seal == nil:
		return nil, r.meta, nil
	}
	r.head.hash = seal.mac(r.hash)
	meta := r.meta
	if len(meta) > 0 {
		meta = seal.seal(nil, meta, metaCounter)
		r.head.metaCheck = checksum(meta)
	}
	return seal, meta, nil
}

// stream copies the blob's chunks into the buffer, where they are encrypted if there is a cipher.
func (c *committer) stream(r *request, seal *recordCipher) error {
	if seal != nil {
		return c.streamSealed(r, seal)
	}
	for left := r.head.stored; left > 0; {
		room, err := c.room()
		if err != nil {
			return err
		}
		n := min(uint64(len(room)), left)
		if _, err := io.ReadFull(r.blob, room[:n]); err != nil {
			return &blobError{err}
		}
		c.buf = c.buf[:len(c.buf)+int(n)]
		left -= n
	}
	return nil
}

// streamSealed encrypts each chunk in the buffer: the bytes are not copied once more.
func (c *committer) streamSealed(r *request, seal *recordCipher) error {
	for left, chunk := r.head.length, uint64(0); left > 0; chunk++ {
		raw := uint32(min(left, uint64(r.head.chunk)))
		room, err := c.contiguous(chunkHeaderSize + int(raw) + tagSize)
		if err != nil {
			return err
		}
		n, err := sealChunk(r.blob, room, raw, seal, chunk+1)
		if err != nil {
			return &blobError{err}
		}
		c.buf = c.buf[:len(c.buf)+n]
		left -= uint64(raw)
	}
	return nil
}

// sealChunk reads a plain chunk from src, checks it, and leaves it sealed in dst.
func sealChunk(src io.Reader, dst []byte, raw uint32, seal *recordCipher, counter uint64) (int, error) {
	head := dst[:chunkHeaderSize]
	if _, err := io.ReadFull(src, head); err != nil {
		return 0, err
	}
	h, err := decodeChunkHeader(head, raw, 0)
	if err != nil {
		return 0, err
	}
	body := dst[chunkHeaderSize : chunkHeaderSize+int(h.size)]
	if _, err := io.ReadFull(src, body); err != nil {
		return 0, err
	}
	if h.check != chunkChecksum(head[:4], body) {
		return 0, malformed("checksum of a chunk")
	}
	h.size += tagSize
	body = seal.seal(body, body, counter)
	h.encode(head, body)
	return chunkHeaderSize + len(body), nil
}

// contiguous is the free part of the buffer, which is written out if it is shorter than n.
func (c *committer) contiguous(n int) ([]byte, error) {
	if cap(c.buf)-len(c.buf) < n {
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	return c.buf[len(c.buf):cap(c.buf)], nil
}

// room is the free part of the buffer, which is written out if there is none.
func (c *committer) room() ([]byte, error) {
	if len(c.buf) == cap(c.buf) {
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	return c.buf[len(c.buf):cap(c.buf)], nil
}

// flush shows the buffer to the Tap and writes it.
func (c *committer) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	if tap := c.v.o.Tap; tap != nil {
		if err := tap.Append(c.off, c.buf); err != nil {
			return c.v.fail("send to the other copies", err)
		}
	}
	if err := c.v.fillAhead(c.off, int64(len(c.buf))); err != nil {
		return err
	}
	if _, err := c.v.file.WriteAt(c.buf, c.off); err != nil {
		return c.v.fail("write", err)
	}
	c.off += int64(len(c.buf))
	c.buf = c.buf[:0]
	return nil
}

// publish makes the records of a durable batch visible, and seals a volume that has grown to its size.
func (c *committer) publish(batch []*request) {
	v := c.v
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range batch {
		if r.err == nil {
			v.index = append(v.index, position(r.start))
			v.found++
			if r.head.kind == KindDictionary {
				v.dictionaries = append(v.dictionaries, r.head.number)
			}
			v.o.shared.appended(r)
		}
	}
	v.durable = c.off
	if v.durable >= v.o.MaxSize || c.next > v.o.MaxRecords {
		v.sealed = true
	}
}

// blobError is a failure to read the message that is appended, which is not the volume's fault.
type blobError struct{ err error }

func (e *blobError) Error() string { return "read the message: " + e.err.Error() }
func (e *blobError) Unwrap() error { return e.err }
