package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A saved shard is a stream: a header, frames of key-value pairs in key order, and a trailer that seals all of
// it. It is drawn in docs/formats/index.md. Numbers are big endian. Keys go without the shard's prefix.
//
//	header  "HYSHARD1" | shard u32 | 0 u32 | applied u64 | CRC32C u32
//	frame   stored length u32 | raw length u32 | CRC32C u32 of both lengths and the stored bytes | stored: zstd
//	trailer 0 u32 | 0 u32 | CRC32C u32 | pairs u64 | SHA-256 of everything before
const (
	streamMagic   = "HYSHARD1"
	headerLen     = 28
	frameHeadLen  = 12
	trailerLen    = 8 + sha256.Size
	frameTarget   = 256 << 10
	maxFrameRaw   = frameTarget + maxPair
	maxPair       = 16 << 20 // key and value of one pair with their lengths
	maxFrameBytes = maxFrameRaw + 64<<10
	iterRenewal   = 64 << 20 // bytes read through one iterator: each pins the memtables it was opened on
)

// ErrBadStream is wrapped by Load's errors about what it read.
var ErrBadStream = errors.New("not a whole saved shard")

func crc(p ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, b := range p {
		sum = crc32.Update(sum, table, b)
	}
	return sum
}

// Save writes the whole shard as of now, and says which applied index that is.
func (s *Shard) Save(w io.Writer) (applied uint64, err error) {
	v := s.View()
	defer func() {
		if e := v.Close(); err == nil {
			err = e
		}
	}()
	if applied, err = v.Applied(); err != nil {
		return 0, err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, s.errorf("save: %w", err)
	}
	out := &saver{w: w, sum: sha256.New(), enc: enc}
	if err = out.header(uint32(s.k), applied); err == nil {
		err = out.pairs(v)
	}
	if err == nil {
		err = out.trailer()
	}
	if err = errors.Join(err, enc.Close()); err != nil {
		return 0, s.errorf("save: %w", err)
	}
	return applied, nil
}

// SavedAt reads which applied index a saved shard is of, from its beginning; whole gives all of the stream.
func SavedAt(r io.Reader) (applied uint64, whole io.Reader, err error) {
	var head bytes.Buffer
	l := &loader{r: io.TeeReader(r, &head), sum: sha256.New()}
	if err := l.header(); err != nil {
		return 0, nil, err
	}
	return l.applied, io.MultiReader(&head, r), nil
}

type saver struct {
	w     io.Writer
	sum   hash.Hash
	enc   *zstd.Encoder
	raw   []byte // pairs of the frame under construction
	out   []byte // scratch
	count uint64
}

func (o *saver) write(p []byte) error {
	if _, err := o.sum.Write(p); err != nil {
		return err
	}
	_, err := o.w.Write(p)
	return err
}

func (o *saver) header(shard uint32, applied uint64) error {
	b := append(make([]byte, 0, headerLen), streamMagic...)
	b = binary.BigEndian.AppendUint32(b, shard)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, applied)
	return o.write(binary.BigEndian.AppendUint32(b, crc(b)))
}

// pairs writes every pair of the shard, with a new iterator now and then.
func (o *saver) pairs(v *View) error {
	lower, upper := v.q.k.span()
	for lower != nil {
		next, err := o.stretch(v, lower, upper)
		if err != nil {
			return err
		}
		lower = next
	}
	return o.flush()
}

// stretch goes on from lower and returns where the next one must, nil at the end.
func (o *saver) stretch(v *View, lower, upper []byte) (next []byte, err error) {
	it, err := v.q.r.NewIter(iterBounds(lower, upper))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	read := 0
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if read > iterRenewal {
			return bytes.Clone(it.Key()), nil
		}
		read += len(it.Key()) + len(value)
		if err := o.pair(it.Key()[shardLen:], value); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (o *saver) pair(key, value []byte) error {
	if len(key)+len(value)+2*binary.MaxVarintLen64 > maxPair {
		return fmt.Errorf("pair of %d bytes", len(key)+len(value))
	}
	o.raw = binary.AppendUvarint(o.raw, uint64(len(key)))
	o.raw = append(o.raw, key...)
	o.raw = binary.AppendUvarint(o.raw, uint64(len(value)))
	o.raw = append(o.raw, value...)
	o.count++
	if len(o.raw) >= frameTarget {
		return o.flush()
	}
	return nil
}

func (o *saver) flush() error {
	if len(o.raw) == 0 {
		return nil
	}
	o.out = o.enc.EncodeAll(o.raw, o.out[:0])
	head := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeadLen), uint32(len(o.out)))
	head = binary.BigEndian.AppendUint32(head, uint32(len(o.raw)))
	head = binary.BigEndian.AppendUint32(head, crc(head, o.out))
	o.raw = o.raw[:0]
	if err := o.write(head); err != nil {
		return err
	}
	return o.write(o.out)
}

func (o *saver) trailer() error {
	b := make([]byte, 8, frameHeadLen+8)
	b = binary.BigEndian.AppendUint32(b, crc(b))
	if err := o.write(binary.BigEndian.AppendUint64(b, o.count)); err != nil {
		return err
	}
	_, err := o.w.Write(o.sum.Sum(nil))
	return err
}

// loader reads such a stream and checks all of it.
type loader struct {
	r       io.Reader
	sum     hash.Hash
	dec     *zstd.Decoder
	shard   uint32
	applied uint64
	count   uint64
	stored  []byte
	raw     []byte
	lastKey []byte
}

func newLoader(r io.Reader) (*loader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrameRaw), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	return &loader{r: r, sum: sha256.New(), dec: dec}, nil
}

// read fills p and adds it to the sum.
func (l *loader) read(p []byte) error {
	if _, err := io.ReadFull(l.r, p); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it ends early", ErrBadStream)
		}
		return fmt.Errorf("read: %w", err)
	}
	_, err := l.sum.Write(p)
	return err
}

func (l *loader) header() error {
	b := make([]byte, headerLen)
	if err := l.read(b); err != nil {
		return err
	}
	if string(b[:8]) != streamMagic {
		return fmt.Errorf("%w: magic or version %q", ErrBadStream, b[:8])
	}
	if binary.BigEndian.Uint32(b[24:]) != crc(b[:24]) || binary.BigEndian.Uint32(b[12:]) != 0 {
		return fmt.Errorf("%w: header", ErrBadStream)
	}
	l.shard, l.applied = binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint64(b[16:])
	return nil
}

// each calls fn for every pair, keys strictly ascending, and at last checks the trailer. Nothing that fn saw counts if it fails.
func (l *loader) each(fn func(key, value []byte) error) error {
	head := make([]byte, frameHeadLen)
	for {
		if err := l.read(head); err != nil {
			return err
		}
		stored, raw := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if stored == 0 && raw == 0 && binary.BigEndian.Uint32(head[8:]) == crc(head[:8]) {
			return l.trailer()
		}
		if err := l.frame(head, stored, raw); err != nil {
			return err
		}
		for rest := l.raw; len(rest) > 0; {
			key, value, left, err := cutPair(rest)
			if err != nil {
				return err
			}
			if err := l.check(key); err != nil {
				return err
			}
			if err := fn(key, value); err != nil {
				return err
			}
			rest = left
		}
	}
}

// frame reads and unpacks one frame into l.raw. The lengths are bounded before they are believed.
func (l *loader) frame(head []byte, stored, raw uint32) error {
	if stored == 0 || raw == 0 || stored > maxFrameBytes || raw > maxFrameRaw {
		return fmt.Errorf("%w: frame of %d bytes", ErrBadStream, stored)
	}
	if cap(l.stored) < int(stored) {
		l.stored = make([]byte, stored)
	}
	l.stored = l.stored[:stored]
	if err := l.read(l.stored); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(head[8:]) != crc(head[:8], l.stored) {
		return fmt.Errorf("%w: checksum of a frame", ErrBadStream)
	}
	if cap(l.raw) < int(raw) {
		l.raw = make([]byte, 0, raw)
	}
	out, err := l.dec.DecodeAll(l.stored, l.raw[:0])
	if err != nil || len(out) != int(raw) {
		return fmt.Errorf("%w: frame does not unpack to %d bytes: %v", ErrBadStream, raw, err)
	}
	l.raw = out
	return nil
}

func (l *loader) check(key []byte) error {
	if len(key) == 0 || key[0] == tagEnd || l.lastKey != nil && bytes.Compare(key, l.lastKey) <= 0 {
		return fmt.Errorf("%w: key %x out of order", ErrBadStream, key)
	}
	l.lastKey = append(l.lastKey[:0], key...)
	l.count++
	return nil
}

func (l *loader) trailer() error {
	b := make([]byte, trailerLen)
	if err := l.read(b[:8]); err != nil {
		return err
	}
	sum := l.sum.Sum(nil)
	if err := l.read(b[8:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(b) != l.count || !bytes.Equal(b[8:], sum) {
		return fmt.Errorf("%w: trailer", ErrBadStream)
	}
	return nil
}

func cutPair(b []byte) (key, value, rest []byte, err error) {
	if key, b, err = cutBytes(b); err == nil {
		value, rest, err = cutBytes(b)
	}
	return key, value, rest, err
}

func cutBytes(b []byte) (head, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, fmt.Errorf("%w: pair ends early", ErrBadStream)
	}
	return b[w : w+int(n)], b[w+int(n):], nil
}
