package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
)

const (
	streamBuffer  = 16 << 10 // between a message's stream and the output
	smallPiece    = 64 << 10 // bytes that are read before the response is begun
	maxHeaderRead = 1 << 20  // bytes of a header that are looked through for fields
	maxDecoded    = 1 << 20  // bytes of a decoded part that are kept; larger ones are decoded twice
)

// piece is the value of one section of a message, ready to be sent: its length is known, and either its bytes are or
// the stream is open that gives them.
type piece struct {
	n      int64
	data   []byte
	r      io.ReadCloser
	binary bool // NUL may be among the bytes
}

// section prepares the value of an item that is made of a message's bytes.
func (s *session) section(ctx context.Context, e *entry, it *command.Item) (*piece, error) {
	switch it.Kind {
	case command.ItemBinary:
		p, err := s.binarySection(ctx, e, it.Section.Part, it.Section.Partial)
		if err == nil {
			p.binary = p.r != nil || bytes.IndexByte(p.data, 0) >= 0
		}
		return p, err
	case command.ItemBinarySize:
		n, err := s.binarySize(ctx, e, it.Section.Part)
		return &piece{n: n}, err
	case command.ItemPreview:
		text, err := s.preview(ctx, e)
		return &piece{n: int64(len(text)), data: []byte(text)}, err
	}
	return s.bodySection(ctx, e, &it.Section)
}

func (p *piece) close() {
	if p.r != nil {
		_ = p.r.Close() // of a stream that is only read: what matters came with Read
		p.r = nil
	}
}

// writeTo sends the piece.
func (p *piece) writeTo(w io.Writer) error {
	if p.r == nil {
		_, err := w.Write(p.data)
		return err
	}
	n, err := io.CopyBuffer(w, p.r, make([]byte, streamBuffer))
	if err == nil && n != p.n {
		err = fmt.Errorf("section of %d bytes ended after %d: %w", p.n, n, io.ErrUnexpectedEOF)
	}
	return err
}

// cut applies a partial range to bytes.
func cut(data []byte, p *goimap.SectionPartial) []byte {
	if p == nil {
		return data
	}
	off, n := cutRange(int64(len(data)), p)
	return data[off : off+n]
}

// cutRange applies a partial range to a length.
func cutRange(length int64, p *goimap.SectionPartial) (off, n int64) {
	if p == nil {
		return 0, length
	}
	off = min(max(p.Offset, 0), length)
	return off, min(max(p.Size, 0), length-off)
}

// bodySection prepares BODY[…].
func (s *session) bodySection(ctx context.Context, e *entry, item *goimap.FetchItemBodySection) (*piece, error) {
	if len(item.Part) == 0 && item.Specifier == goimap.PartSpecifierNone {
		return s.rangePiece(ctx, e, 0, e.size, item.Partial)
	}
	start, end, ok := e.sum.Range(item.Part, specifier(item.Specifier))
	if !ok {
		return &piece{}, nil // no such part: the empty string
	}
	if item.Specifier == goimap.PartSpecifierHeader && len(item.HeaderFields)+len(item.HeaderFieldsNot) > 0 {
		data, err := s.headerFields(ctx, e, item, start, end)
		if err != nil {
			return nil, err
		}
		data = cut(data, item.Partial)
		return &piece{n: int64(len(data)), data: data}, nil
	}
	if item.Specifier == goimap.PartSpecifierHeader && len(item.Part) == 0 {
		if data, ok := wholeHeader(e.sum, end-start, e.size); ok {
			data = cut(data, item.Partial)
			return &piece{n: int64(len(data)), data: data}, nil
		}
	}
	return s.rangePiece(ctx, e, start, end, item.Partial)
}

func specifier(p goimap.PartSpecifier) message.Section {
	switch p {
	case goimap.PartSpecifierHeader:
		return message.Header
	case goimap.PartSpecifierText:
		return message.Text
	case goimap.PartSpecifierMIME:
		return message.MIME
	}
	return message.Body
}

// wholeHeader puts a header of n bytes together from a summary that has all its fields; what they leave is the
// empty line. Where the message of size bytes has no text it may be anything: a CR alone, cut off.
func wholeHeader(sum *message.Summary, n, size uint64) ([]byte, bool) {
	if !sum.HeadersComplete {
		return nil, false
	}
	out := make([]byte, 0, n)
	for _, f := range sum.Headers {
		out = append(out, f...)
	}
	left := n - uint64(len(out))
	if left > 0 && n == size {
		return nil, false
	}
	switch left {
	case 0:
		return out, true
	case 1:
		return append(out, '\n'), true
	case 2:
		return append(out, '\r', '\n'), true
	}
	return nil, false
}

// headerFields prepares HEADER.FIELDS and HEADER.FIELDS.NOT: from the summary if that can tell, else from the bytes.
func (s *session) headerFields(ctx context.Context, e *entry, item *goimap.FetchItemBodySection, start, end uint64) ([]byte, error) {
	names, not := item.HeaderFields, false
	if len(names) == 0 {
		names, not = item.HeaderFieldsNot, true
	}
	if len(item.Part) == 0 && !not {
		if data, ok := e.sum.Fields(names); ok {
			return data, nil
		}
	}
	header, err := s.readRange(ctx, e, start, min(end, start+maxHeaderRead))
	if err != nil {
		return nil, err
	}
	return message.FilterHeader(header, names, not), nil
}

// readRange reads a small range whole.
func (s *session) readRange(ctx context.Context, e *entry, start, end uint64) ([]byte, error) {
	r, err := s.openBytes(ctx, e, start, end)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, r.end-min(start, r.end))
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("message %d: %w", e.uid, err)
	}
	return data, nil
}

// rangePiece prepares a range of the message's bytes. A small one is read at once; of a large one the first bytes are, so that
// a message that cannot be read is known before the response is begun.
func (s *session) rangePiece(ctx context.Context, e *entry, start, end uint64, partial *goimap.SectionPartial) (*piece, error) {
	end = min(end, e.ref.Length)
	off, n := cutRange(int64(end-min(start, end)), partial)
	start += uint64(off)
	end = start + uint64(n)
	if n <= smallPiece {
		data, err := s.readRange(ctx, e, start, end)
		return &piece{n: n, data: data}, err
	}
	r, err := s.openBytes(ctx, e, start, end)
	if err != nil {
		return nil, err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(r, first); err != nil {
		return nil, errors.Join(fmt.Errorf("message %d: %w", e.uid, err), r.Close())
	}
	return &piece{n: n, r: joined{io.MultiReader(bytes.NewReader(first), r), r}}, nil
}

// joined reads from one and closes the other.
type joined struct {
	io.Reader
	io.Closer
}

// binarySection prepares BINARY[…] (RFC 3516): a part without its transfer encoding.
func (s *session) binarySection(ctx context.Context, e *entry, path []int, partial *goimap.SectionPartial) (*piece, error) {
	if len(path) == 0 {
		return s.rangePiece(ctx, e, 0, e.size, partial)
	}
	p, ok := e.sum.Part(path)
	if !ok {
		return &piece{}, nil
	}
	encoded, err := isEncoded(p)
	switch {
	case err != nil:
		return nil, err
	case !encoded:
		return s.rangePiece(ctx, e, p.BodyStart, p.BodyEnd, partial)
	}
	if p.BodyEnd-p.BodyStart <= maxDecoded { // decoding never makes it longer
		raw, err := s.readRange(ctx, e, p.BodyStart, p.BodyEnd)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(decoded(p, bytes.NewReader(raw)))
		if err != nil {
			return nil, fmt.Errorf("decode part of message %d: %w", e.uid, err)
		}
		data = cut(data, partial)
		return &piece{n: int64(len(data)), data: data}, nil
	}
	length, err := s.decodedLength(ctx, e, p)
	if err != nil {
		return nil, err
	}
	r, err := s.openBytes(ctx, e, p.BodyStart, p.BodyEnd)
	if err != nil {
		return nil, err
	}
	off, n := cutRange(length, partial)
	d := decoded(p, r)
	if _, err := io.CopyN(io.Discard, d, off); err != nil {
		return nil, errors.Join(fmt.Errorf("decode part of message %d: %w", e.uid, err), r.Close())
	}
	return &piece{n: n, r: joined{io.LimitReader(d, n), r}}, nil
}

// isEncoded says whether a part has a transfer encoding that BINARY has to undo.
func isEncoded(p *message.Part) (bool, error) {
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		return false, nil
	case "base64", "quoted-printable":
		return true, nil
	}
	return false, no(goimap.ResponseCodeUnknownCTE, "Unknown transfer encoding")
}

// decodable says whether all parts can be decoded for which BINARY asks: once a response is begun it is too late to say no.
func (f *fetching) decodable(e *entry) error {
	for i := range f.items {
		it := &f.items[i]
		if it.Kind != command.ItemBinary && it.Kind != command.ItemBinarySize || len(it.Section.Part) == 0 {
			continue
		}
		if p, ok := e.sum.Part(it.Section.Part); ok {
			if _, err := isEncoded(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// decoded undoes a transfer encoding and nothing else: the charset of text stays.
func decoded(p *message.Part, raw io.Reader) io.Reader {
	return message.TextReader(&message.Part{Type: "application", Subtype: "octet-stream", Encoding: p.Encoding}, raw)
}

// decodedLength is the length of a part without its transfer encoding.
func (s *session) decodedLength(ctx context.Context, e *entry, p *message.Part) (int64, error) {
	r, err := s.openBytes(ctx, e, p.BodyStart, p.BodyEnd)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, decoded(p, r))
	if err != nil {
		return 0, fmt.Errorf("decode part of message %d: %w", e.uid, err)
	}
	return n, nil
}

// binarySize answers BINARY.SIZE[…].
func (s *session) binarySize(ctx context.Context, e *entry, path []int) (int64, error) {
	if len(path) == 0 {
		return int64(e.size), nil
	}
	p, ok := e.sum.Part(path)
	if !ok {
		return 0, nil
	}
	if encoded, err := isEncoded(p); err != nil || !encoded {
		return int64(p.BodyEnd - p.BodyStart), err
	}
	return s.decodedLength(ctx, e, p)
}
