package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version of the frame header. A peer with another version is refused.
const Version = 1

// Sizes of frames, in bytes.
const (
	HeaderSize = 24
	MaxPiece   = 64 << 10 // payload of one frame
)

// Flags of a frame.
const (
	flagMore = 1 // further pieces of the same payload follow
	flagDrop = 2 // the sender gave up half way: forget the pieces so far
)

// ErrMalformed is wrapped by every error about bytes that make no sense.
var ErrMalformed = errors.New("malformed frame")

// Frame is one message on a link. What Kind and Channel mean is up to the service.
type Frame struct {
	Kind    uint8
	Channel uint32 // Raft: the shard
	ID      uint64 // pairs a reply with its request
	Payload []byte
}

// header is the fixed part before each piece:
//
//	0        4         5      6       7   8         12      16       24
//	| length | version | kind | flags | 0 | channel | total | id     | piece …
//
// length counts this piece, total the whole payload.
type header struct {
	length, total uint32
	kind, flags   uint8
	channel       uint32
	id            uint64
}

func appendHeader(b []byte, h header) []byte {
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = append(b, Version, h.kind, h.flags, 0)
	b = binary.LittleEndian.AppendUint32(b, h.channel)
	b = binary.LittleEndian.AppendUint32(b, h.total)
	return binary.LittleEndian.AppendUint64(b, h.id)
}

// parseHeader checks everything that one header can tell by itself.
func parseHeader(b []byte, maxPayload int) (header, error) {
	if b[4] != Version {
		return header{}, fmt.Errorf("%w: version %d, want %d", ErrMalformed, b[4], Version)
	}
	h := header{
		length:  binary.LittleEndian.Uint32(b),
		kind:    b[5],
		flags:   b[6],
		channel: binary.LittleEndian.Uint32(b[8:]),
		total:   binary.LittleEndian.Uint32(b[12:]),
		id:      binary.LittleEndian.Uint64(b[16:]),
	}
	switch {
	case h.flags > flagDrop || b[7] != 0:
		return header{}, fmt.Errorf("%w: unknown flags %#x", ErrMalformed, h.flags)
	case h.length > MaxPiece || h.length > h.total:
		return header{}, fmt.Errorf("%w: piece of %d bytes in a payload of %d", ErrMalformed, h.length, h.total)
	case uint64(h.total) > uint64(maxPayload):
		return header{}, fmt.Errorf("%w: payload of %d bytes, limit %d", ErrMalformed, h.total, maxPayload)
	case h.flags == flagMore && h.length == 0 || h.flags == flagDrop && h.length != 0:
		return header{}, fmt.Errorf("%w: piece of %d bytes with flags %d", ErrMalformed, h.length, h.flags)
	}
	return h, nil
}

// maxPartial bounds the payloads of several pieces that are begun and not finished on one link. A
// sender keeps to it, so a receiver may insist.
const maxPartial = 4

// frameReader turns pieces back into frames.
type frameReader struct {
	r          *bufio.Reader
	maxPayload int
	partial    map[partialKey]*Frame
}

type partialKey struct {
	kind    uint8
	channel uint32
	id      uint64
}

func newFrameReader(r io.Reader, maxPayload int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10), maxPayload: maxPayload, partial: make(map[partialKey]*Frame)}
}

// next returns the next whole frame. Its payload belongs to the caller.
func (fr *frameReader) next() (Frame, error) {
	for {
		raw, err := fr.r.Peek(HeaderSize)
		if err != nil {
			if errors.Is(err, io.EOF) && len(raw) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
		h, err := parseHeader(raw, fr.maxPayload)
		if err != nil {
			return Frame{}, err
		}
		if _, err := fr.r.Discard(HeaderSize); err != nil {
			return Frame{}, err
		}
		f, done, err := fr.piece(h)
		if err != nil || done {
			return f, err
		}
	}
}

// piece reads one piece and says whether its payload is whole now.
func (fr *frameReader) piece(h header) (Frame, bool, error) {
	key := partialKey{h.kind, h.channel, h.id}
	more := h.flags == flagMore
	f, begun := fr.partial[key]
	switch {
	case h.flags == flagDrop:
		delete(fr.partial, key)
		return Frame{}, false, nil
	case begun:
	case !more && h.length != h.total:
		return Frame{}, false, fmt.Errorf("%w: last piece without the first", ErrMalformed)
	case more && len(fr.partial) >= maxPartial:
		return Frame{}, false, fmt.Errorf("%w: too many unfinished payloads", ErrMalformed)
	default:
		f = &Frame{Kind: h.kind, Channel: h.channel, ID: h.id}
		if h.total > 0 {
			f.Payload = make([]byte, 0, h.total)
		}
	}
	at, end := len(f.Payload), len(f.Payload)+int(h.length)
	if begun && cap(f.Payload) != int(h.total) || end > int(h.total) || !more && end != int(h.total) {
		return Frame{}, false, fmt.Errorf("%w: pieces do not add up", ErrMalformed)
	}
	f.Payload = f.Payload[:end]
	if _, err := io.ReadFull(fr.r, f.Payload[at:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, false, err
	}
	switch {
	case more:
		fr.partial[key] = f
	case begun:
		delete(fr.partial, key)
	}
	return *f, !more, nil
}
