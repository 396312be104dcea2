package wire

import "io"

// Literal is a literal that is read as a stream.
type Literal struct {
	Size   int64
	Binary bool // it may hold any octet (RFC 3516)
	d      *Decoder
}

// AtLiteral says whether a literal comes next.
func (d *Decoder) AtLiteral() bool { return d.lit.at >= 0 && d.pos == d.lit.at && !d.lit.opened }

// Stream is the literal that comes next, as yet unasked for.
func (d *Decoder) Stream() (Literal, error) {
	if !d.AtLiteral() {
		return Literal{}, Bad("Expected a literal")
	}
	if d.count++; d.count > d.limits.Count {
		return Literal{}, Bad("Too many literals")
	}
	return Literal{Size: d.lit.size, Binary: d.lit.binary, d: d}, nil
}

// Open asks the client for the literal's bytes where it waits for that. Then they must be read, and the literal closed.
func (l Literal) Open() error {
	a := &l.d.lit
	if !a.nonSync {
		if err := l.d.proceed(); err != nil {
			return err
		}
	}
	a.opened, a.left = true, a.size
	return nil
}

// Read implements io.Reader. It ends with io.EOF after Size bytes, never before: a connection that ends inside the literal is
// an io.ErrUnexpectedEOF.
func (l Literal) Read(p []byte) (int, error) {
	d := l.d
	if d.lit.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), d.lit.left)]
	n := 0
	var err error
	switch {
	case d.r < d.w:
		n = copy(p, d.buf[d.r:d.w])
		d.r += n
	case len(p) >= inputSize:
		n, err = d.src.Read(p)
	default:
		if err = d.fill(); err == nil {
			n = copy(p, d.buf[d.r:d.w])
			d.r += n
		}
	}
	d.lit.left -= int64(n)
	if n > 0 || err == nil {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// Close goes on to the rest of the command, behind the literal.
func (l Literal) Close() error {
	if err := l.d.skip(); err != nil {
		return err
	}
	return l.d.readLine()
}

// keep reads a literal into memory.
func (d *Decoder) keep() ([]byte, error) {
	l, err := d.Stream()
	if err != nil {
		return nil, err
	}
	if d.kept+l.Size > d.limits.Literals {
		return nil, Bad("Literal too long")
	}
	d.kept += l.Size
	if err := l.Open(); err != nil {
		return nil, err
	}
	data := make([]byte, l.Size)
	if _, err := io.ReadFull(l, data); err != nil {
		return nil, err
	}
	return data, l.Close()
}
