package imap

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/inflate"
)

const codeCompressionActive = "COMPRESSIONACTIVE" // RFC 4978

// compress has both directions compressed from the next octet on (RFC 4978). It is offered after login only: what is
// compressed beside a password could tell of it by its length.
func (s *session) compress(c *call) error {
	algorithm, err := command.Compress(s.dec)
	if err != nil {
		return err
	}
	switch {
	case algorithm != "DEFLATE":
		return no("", "Algorithm not supported")
	case s.compressed:
		return no(codeCompressionActive, "DEFLATE is already active")
	case s.dec.Buffered() > 0:
		s.c.refuseInput("[CLIENTBUG] Nothing may follow COMPRESS before its answer")
		return errGoodbye
	}
	s.compressed = true
	c.text = "DEFLATE active"
	c.after = func() error {
		s.c.in = inflate.NewReader(s.c.net)
		s.out.SetWriter(&deflater{w: s.c.net, pool: s.srv.deflated})
		return nil
	}
	return nil
}

// dictionary is how much of what was sent before the compressor looks back at: all that is kept of it between writes.
const dictionary = 8 << 10

// deflater compresses each write by itself, with the end of the last ones as its dictionary. So an idle connection keeps 8 KiB and
// no compressor, and each write can be decompressed whole when it arrives.
type deflater struct {
	w    io.Writer
	last []byte
	pool *sync.Pool // of *bytes.Buffer
}

// Write implements io.Writer.
func (d *deflater) Write(p []byte) (int, error) {
	out := d.pool.Get().(*bytes.Buffer)
	defer d.pool.Put(out)
	out.Reset()
	if err := flate.StatelessDeflate(out, p, false, d.last); err != nil {
		return 0, err
	}
	if keep := dictionary - len(p); keep > 0 {
		d.last = append(d.last[max(0, len(d.last)-keep):len(d.last):len(d.last)], p...)
	} else {
		d.last = append(d.last[:0], p[len(p)-dictionary:]...)
	}
	if _, err := d.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
