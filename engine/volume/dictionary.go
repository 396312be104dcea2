package volume

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// MaxDictionary is how long a dictionary may be.
const MaxDictionary = 128 << 10

// maxShared is how many dictionaries a set keeps for volumes that need the same. A store trains a few in a year.
const maxShared = 64

// Dictionary is what zstd is told to have seen before a message: strings that messages have in common. Its id is in each frame
// that needs it, and every volume that has such frames has the dictionary in a record before them. Safe for concurrent use.
type Dictionary struct {
	id      uint32
	bytes   []byte
	encoder func() *zstd.Encoder
	decoder func() *zstd.Decoder
	blob    *Blob // of its bytes, for a record
}

// NewDictionary takes a zstd dictionary (RFC 8878, section 5). It keeps b.
func NewDictionary(b []byte) (*Dictionary, error) {
	if len(b) > MaxDictionary {
		return nil, fmt.Errorf("dictionary of %d bytes: %w", len(b), ErrTooLarge)
	}
	info, err := zstd.InspectDictionary(b)
	if err != nil {
		return nil, fmt.Errorf("read a dictionary: %w", err)
	}
	if info.ID() == 0 {
		return nil, fmt.Errorf("read a dictionary: %w", malformed("it has no id"))
	}
	d := &Dictionary{id: info.ID(), bytes: b}
	d.encoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(zstd.WithEncoderDict(b)) })
	d.decoder = sync.OnceValue(func() *zstd.Decoder { return newDecoder(zstd.WithDecoderDicts(b)) })
	s := NewSpool(nil, "", 2*MaxDictionary) // stays in memory
	if _, err := s.Write(b); err != nil {
		return nil, fmt.Errorf("encode a dictionary: %w", err)
	}
	if d.blob, err = s.Finish(); err != nil {
		return nil, fmt.Errorf("encode a dictionary: %w", err)
	}
	return d, nil
}

// ID is the number that frames name it by.
func (d *Dictionary) ID() uint32 { return d.id }

// Bytes is the dictionary itself, not to be changed.
func (d *Dictionary) Bytes() []byte { return d.bytes }

// stored reads the chunks that a record of the dictionary has. They are in memory as long as the dictionary is.
func (d *Dictionary) stored() io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(d.blob.store, 0, d.blob.store.size))
}

// dictionaries are those that the volumes of a set have come upon.
type dictionaries struct {
	mu   sync.Mutex // guards list
	list []*Dictionary
}

// share gives the one that stands for these bytes.
func (s *dictionaries) share(b []byte) (*Dictionary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.list {
		if bytes.Equal(d.bytes, b) {
			return d, nil
		}
	}
	d, err := NewDictionary(b)
	if err != nil {
		return nil, err
	}
	if len(s.list) == maxShared {
		s.list = s.list[1:]
	}
	s.list = append(s.list, d)
	return d, nil
}

// dictionary gives the one that a frame of this volume names. Those of the volume are read when the first is asked for.
func (v *Volume) dictionary(id uint32) (*Dictionary, error) {
	v.learning.Lock()
	defer v.learning.Unlock()
	for _, number := range v.Dictionaries() {
		d := v.learned[number]
		if d == nil {
			b, err := v.readDictionary(number)
			if err != nil {
				return nil, fmt.Errorf("dictionary %d: %w", id, err)
			}
			if d, err = v.o.shared.dictionaries.share(b); err != nil {
				return nil, located(err, v.header.ID, number, 0)
			}
			if v.learned == nil {
				v.learned = make(map[uint64]*Dictionary)
			}
			v.learned[number] = d
		}
		if d.id == id {
			return d, nil
		}
	}
	return nil, malformed(fmt.Sprintf("chunk needs dictionary %d, which the volume lacks", id))
}

func (v *Volume) readDictionary(number uint64) (b []byte, err error) {
	info, err := v.Stat(number)
	if err != nil {
		return nil, err
	}
	if info.Kind != KindDictionary || info.Length > MaxDictionary {
		return nil, malformed(fmt.Sprintf("record %d is not a dictionary", number))
	}
	r, err := v.Open(number, 0, info.Length)
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return b, err
}

// frameDictionary is the id that a zstd frame names; 0 is none.
func frameDictionary(frame []byte) (uint32, error) {
	const descriptor, idBits = 4, 3 // RFC 8878, section 3.1.1.1.1: behind the magic
	if len(frame) <= descriptor || frame[descriptor]&idBits == 0 {
		return 0, nil
	}
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return 0, malformed("head of a zstd frame: " + err.Error())
	}
	return h.DictionaryID, nil
}

// decoderFor is the decoder that a frame needs. dictionary may be nil where none is allowed.
func decoderFor(frame []byte, dictionary func(id uint32) (*Dictionary, error)) (*zstd.Decoder, error) {
	id, err := frameDictionary(frame)
	switch {
	case err != nil:
		return nil, err
	case id == 0:
		return decoder, nil
	case dictionary == nil:
		return nil, malformed("chunk needs a dictionary where none is allowed")
	}
	d, err := dictionary(id)
	if err != nil {
		return nil, err
	}
	return d.decoder(), nil
}
