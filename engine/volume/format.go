package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"hongyan/engine/codec"
)

// Limits of the format. A reader refuses what is over them before it allocates anything.
const (
	// MaxMeta is the most metadata that a record may carry.
	MaxMeta = 1 << 20
	// MaxLength is the largest message that a record may hold.
	MaxLength = 1 << 32
	// MaxRecords is the highest record number of a volume, which seals itself there. It bounds the key file and the
	// memory that a volume's index takes.
	MaxRecords = 128 << 10

	chunkSize    = 256 << 10 // raw bytes in every chunk but the last
	minChunkSize = 4 << 10   // accepted from a file
	maxChunkSize = 1 << 20   // accepted from a file

	// maxVolume bounds a file: offsets are kept as 32-bit counts of 8 bytes.
	maxVolume = 1 << 35

	alignment = 8
)

const (
	fileMagic   = "HYvolume"
	fileVersion = 1
	// fileHeaderSize: the first record has a block of its own, so that no append ever rewrites
	// the sector that holds the header.
	fileHeaderSize  = 4096
	fileHeaderFixed = 24

	recordMagic      = 0x52594801 // 01 'H' 'Y' 'R'
	recordVersion    = 1
	recordHeaderSize = 80
	flagSealed       = 1 << 0

	chunkHeaderSize = 8
	chunkStoredRaw  = 1 << 31
	chunkRecoded    = 1 << 30
	// tagSize is what AES-GCM adds to metadata and to each chunk of a sealed record.
	tagSize = 16
)

// Kind says what a record holds.
type Kind uint8

// Kinds of records. 4 and 5 are reserved: see docs/formats/volume.md.
const (
	KindMessage    Kind = 1
	KindCheckpoint Kind = 2 // a saved state of a shard
	KindDictionary Kind = 3 // of zstd, for later records of the volume
)

func (k Kind) known() bool { return k >= KindMessage && k <= KindDictionary }

// table is CRC32C, RFC 3720 appendix B.4: processors have an instruction for it.
var table = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, table) }

// Classes of volumes: large messages do not hold up small ones.
const (
	ClassSmall uint8 = 0
	ClassBulk  uint8 = 1
)

// Header is what a volume says of itself in its first block. All copies have the same bytes there.
type Header struct {
	ID      ID       `cbor:"1,keyasint"`
	Epoch   uint64   `cbor:"2,keyasint,omitempty"`
	Primary string   `cbor:"3,keyasint,omitempty"`
	Copies  []string `cbor:"4,keyasint,omitempty"`
	Class   uint8    `cbor:"5,keyasint,omitempty"`
	Created int64    `cbor:"6,keyasint,omitempty"` // unix seconds
	// Salt makes the checksums of record headers unpredictable, so that nobody can mail a message
	// that looks like a record when a damaged file is searched. A random number, chosen once for all copies.
	Salt uint64 `cbor:"7,keyasint,omitempty"`
	// Generation is 0 in the file that was appended to and grows by one with each compaction.
	Generation uint32 `cbor:"8,keyasint,omitempty"`
	// Encrypted: every record is sealed with a key from the key file beside this file.
	Encrypted bool `cbor:"9,keyasint,omitempty"`
	// Records is, in a file of a later generation, the highest record number that may occur in it.
	Records uint64 `cbor:"10,keyasint,omitempty"`
	// Policy is what the cluster's directory is told again of where copies may lie, should it be lost. It means nothing to this package.
	Policy []byte `cbor:"11,keyasint,omitempty"`
}

// check refuses what no volume says of itself.
func (h *Header) check() error {
	switch {
	case h.Generation == 0 && h.Records != 0:
		return malformed("a first generation with a number of records")
	case h.Generation > 0 && (h.Records == 0 || h.Records > MaxRecords):
		return malformed("number of records of a later generation")
	}
	return nil
}

// encodeFileHeader gives the header block of a volume.
func encodeFileHeader(h Header) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("volume header: %w", err)
	}
	fields, err := codec.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("volume header: %w", err)
	}
	if len(fields) > fileHeaderSize-fileHeaderFixed {
		return nil, fmt.Errorf("volume header of %d bytes: %w", len(fields), ErrTooLarge)
	}
	b := make([]byte, fileHeaderSize)
	copy(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], fileVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(fields)))
	copy(b[fileHeaderFixed:], fields)
	binary.LittleEndian.PutUint32(b[16:], fileHeaderChecksum(b, len(fields)))
	return b, nil
}

// decodeFileHeader reads the header block. The checksum it returns seeds those of the file's record headers.
func decodeFileHeader(b []byte) (h Header, seed uint32, err error) {
	if len(b) < fileHeaderSize {
		return h, 0, malformed("file is shorter than its header block")
	}
	if string(b[:8]) != fileMagic {
		return h, 0, malformed("no volume magic")
	}
	// A newer version may keep anything behind its number, so it comes before the checksum.
	if version := binary.LittleEndian.Uint32(b[8:]); version != fileVersion {
		return h, 0, fmt.Errorf("volume file of version %d, this program reads %d: %w", version, fileVersion, ErrVersion)
	}
	size := binary.LittleEndian.Uint32(b[12:])
	if size > fileHeaderSize-fileHeaderFixed {
		return h, 0, malformed("header fields are longer than the block")
	}
	seed = binary.LittleEndian.Uint32(b[16:])
	if seed != fileHeaderChecksum(b, int(size)) {
		return h, 0, malformed("checksum of the file header")
	}
	if err := codec.Unmarshal(b[fileHeaderFixed:fileHeaderFixed+int(size)], &h); err != nil {
		return h, 0, malformed(err.Error())
	}
	return h, seed, h.check()
}

// fileHeaderChecksum covers the block up to the end of its fields, without the checksum itself.
func fileHeaderChecksum(b []byte, fields int) uint32 {
	sum := crc32.Update(0, table, b[:16])
	return crc32.Update(sum, table, b[20:fileHeaderFixed+fields])
}

// recordHeader is the fixed part of a record.
type recordHeader struct {
	sealed    bool // metadata and chunks are encrypted, hash is a MAC of the message's
	kind      Kind
	number    uint64
	length    uint64 // raw bytes of the message
	stored    uint64 // bytes of its chunks
	meta      uint32 // bytes of metadata, as stored
	chunk     uint32 // raw bytes in every chunk but the last
	hash      [32]byte
	metaCheck uint32
}

// encode puts the header into b[:recordHeaderSize]. seed is the checksum of the file's header.
func (h *recordHeader) encode(b []byte, seed uint32) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], recordMagic)
	b[4], b[5], b[6], b[7] = recordVersion, 0, byte(h.kind), 0
	if h.sealed {
		b[5] = flagSealed
	}
	le.PutUint64(b[8:], h.number)
	le.PutUint64(b[16:], h.length)
	le.PutUint64(b[24:], h.stored)
	le.PutUint32(b[32:], h.meta)
	le.PutUint32(b[36:], h.chunk)
	copy(b[40:72], h.hash[:])
	le.PutUint32(b[72:], h.metaCheck)
	le.PutUint32(b[76:], recordChecksum(b, seed))
}

// recordChecksum continues the checksum of the file's header, so that a record belongs to one volume.
func recordChecksum(b []byte, seed uint32) uint32 { return crc32.Update(seed, table, b[:76]) }

// decodeRecordHeader checks everything that can be checked without the rest of the record.
func decodeRecordHeader(b []byte, seed uint32) (h recordHeader, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < recordHeaderSize:
		return h, malformed("record header is cut off")
	case le.Uint32(b) != recordMagic:
		return h, malformed("no record magic")
	case le.Uint32(b[76:]) != recordChecksum(b, seed):
		return h, malformed("checksum of the record header")
	case b[4] != recordVersion || b[5]&^flagSealed != 0 || !Kind(b[6]).known() || b[7] != 0:
		return h, malformed("version, flags or kind of the record are unknown")
	}
	h.sealed = b[5]&flagSealed != 0
	h.kind = Kind(b[6])
	h.number = le.Uint64(b[8:])
	h.length = le.Uint64(b[16:])
	h.stored = le.Uint64(b[24:])
	h.meta = le.Uint32(b[32:])
	h.chunk = le.Uint32(b[36:])
	copy(h.hash[:], b[40:72])
	h.metaCheck = le.Uint32(b[72:])
	switch {
	case h.number == 0 || h.number > MaxRecords:
		return h, malformed("record number is out of bounds")
	case h.meta > MaxMeta+h.tag() || h.meta != 0 && h.meta <= h.tag():
		return h, malformed("length of the metadata")
	case h.chunk < minChunkSize || h.chunk > maxChunkSize:
		return h, malformed("chunk size is out of bounds")
	}
	return h, checkLengths(h.length, h.stored, h.chunk, h.tag())
}

// tag is what encryption adds to the metadata and to each chunk.
func (h *recordHeader) tag() uint32 {
	if h.sealed {
		return tagSize
	}
	return 0
}

// checkLengths bounds what a message's chunks can take: a chunk is never stored longer than it is, but for the tag.
func checkLengths(length, stored uint64, chunk, tag uint32) error {
	if length > MaxLength {
		return malformed("message is over the limit")
	}
	chunks, over := chunkCount(length, chunk), uint64(chunkHeaderSize+tag)
	if stored < chunks*(over+1) || stored > length+chunks*over {
		return malformed("stored length does not fit the length")
	}
	return nil
}

func chunkCount(length uint64, chunk uint32) uint64 {
	return (length + uint64(chunk) - 1) / uint64(chunk)
}

// size is the record's length in the file, padding included.
func (h *recordHeader) size() int64 {
	return aligned(recordHeaderSize + int64(h.meta) + int64(h.stored))
}

func aligned(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// chunkHeader stands before each chunk of a message.
type chunkHeader struct {
	size    uint32 // stored bytes that follow, with the tag of a sealed one
	plain   bool   // they are the message's own; otherwise a zstd frame; either may be sealed
	recoded bool   // what the frame holds is the message's bytes with base64 taken out: package recode
	check   uint32 // CRC32C of the length word and the stored bytes
}

// encode puts the header of a chunk with that body into b.
func (h chunkHeader) encode(b, body []byte) {
	word := h.size
	if h.plain {
		word |= chunkStoredRaw
	}
	if h.recoded {
		word |= chunkRecoded
	}
	binary.LittleEndian.PutUint32(b, word)
	binary.LittleEndian.PutUint32(b[4:], chunkChecksum(b[:4], body))
}

// decodeChunkHeader reads the header of a chunk that holds raw bytes of the message and has that tag.
func decodeChunkHeader(b []byte, raw, tag uint32) (chunkHeader, error) {
	word := binary.LittleEndian.Uint32(b)
	h := chunkHeader{
		size:    word &^ (chunkStoredRaw | chunkRecoded),
		plain:   word&chunkStoredRaw != 0,
		recoded: word&chunkRecoded != 0,
		check:   binary.LittleEndian.Uint32(b[4:]),
	}
	if h.plain && (h.recoded || h.size != raw+tag) || !h.plain && (h.size <= tag || h.size >= raw+tag) {
		return h, malformed("length of a chunk")
	}
	return h, nil
}
