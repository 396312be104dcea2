package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/client"
)

const maxReopen = 3 // times that a broken stream is taken up again

// source is whose bytes are read.
type source struct {
	account      client.Account
	mailbox, uid uint32
	ref          client.Ref
}

// byteReader streams a range of a message's bytes. When the stream breaks, as when the node that it came from dies, it
// goes on with another from the same place. Waiting is bounded by progress: each read has a time, the whole none.
type byteReader struct {
	mail   mail
	of     source
	off    uint64 // of the next byte
	end    uint64
	wait   time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	r      io.ReadCloser
	broken int
}

// reopen starts a stream at off.
func (b *byteReader) reopen() error {
	if b.off >= b.end {
		b.r = nil
		return nil
	}
	defer b.watchdog()()
	r, err := b.mail.Open(b.ctx, b.of.account, b.of.mailbox, b.of.uid, b.of.ref, b.off, b.end-b.off)
	if err != nil {
		return fmt.Errorf("open message bytes at %d: %w", b.off, err)
	}
	b.r = r
	return nil
}

// watchdog ends the stream if the returned function is not called in time.
func (b *byteReader) watchdog() func() {
	t := time.AfterFunc(b.wait, b.cancel)
	return func() { t.Stop() }
}

// Read implements io.Reader; it ends exactly at the end of the range.
func (b *byteReader) Read(p []byte) (int, error) {
	for {
		if b.off >= b.end {
			return 0, io.EOF
		}
		if uint64(len(p)) > b.end-b.off {
			p = p[:b.end-b.off]
		}
		stop := b.watchdog()
		n, err := b.r.Read(p)
		stop()
		b.off += uint64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if b.broken++; b.broken > maxReopen || b.ctx.Err() != nil {
			return 0, fmt.Errorf("read message bytes at %d: %w", b.off, err)
		}
		// The broken stream has nothing more to tell.
		_ = b.r.Close()
		if err := b.reopen(); err != nil {
			return 0, err
		}
	}
}

// Close ends the stream.
func (b *byteReader) Close() error {
	b.cancel()
	if b.r == nil {
		return nil
	}
	return b.r.Close()
}
