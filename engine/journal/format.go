package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	segmentMagic   = "HYjournl"
	segmentVersion = 1
	headerSize     = 4096 // a block of the disk of its own
	headerFields   = 52

	frameHead = 16
	alignment = 8

	recordHead = 48

	// MaxFrame bounds what one frame holds, and so what one Append may bring.
	MaxFrame = 256 << 20
)

// What a record says.
const (
	opAppend uint8 = 1 // an entry; it replaces those from its index on
	opMoved  uint8 = 2 // an entry that stood in an older segment
	opCut    uint8 = 3 // entries from an index on are gone; no longer written
	opDrop   uint8 = 4 // entries before an index are gone
)

// flagGap on an appended entry: it does not follow the ones before, which are gone.
const flagGap uint8 = 1

var table = crc32.MakeTable(crc32.Castagnoli)

// header is a segment's first block.
type header struct {
	number  uint64
	salt    uint64 // random: what an earlier use of the file left has other checksums
	prevEnd int64  // where the segment before ends; 0 for the first
}

// encode gives the block and the checksum that seeds those of its frames.
func (h header) encode() (block []byte, seed uint32) {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, segmentMagic)
	le.PutUint32(b[8:], segmentVersion)
	le.PutUint64(b[16:], h.number)
	le.PutUint64(b[24:], h.salt)
	le.PutUint64(b[32:], uint64(h.prevEnd))
	seed = crc32.Checksum(b[:48], table)
	le.PutUint32(b[48:], seed)
	return b, seed
}

func decodeHeader(b []byte) (h header, seed uint32, err error) {
	le := binary.LittleEndian
	if len(b) < headerFields || string(b[:8]) != segmentMagic {
		return h, 0, fmt.Errorf("no segment header")
	}
	// A newer version may keep anything behind its number, so it comes before the checksum.
	if v := le.Uint32(b[8:]); v != segmentVersion {
		return h, 0, fmt.Errorf("segment of version %d, this program reads %d: %w", v, segmentVersion, ErrVersion)
	}
	seed = le.Uint32(b[48:])
	if seed != crc32.Checksum(b[:48], table) {
		return h, 0, fmt.Errorf("checksum of the segment header")
	}
	h = header{number: le.Uint64(b[16:]), salt: le.Uint64(b[24:]), prevEnd: int64(le.Uint64(b[32:]))}
	if h.number == 0 || h.number >= 1<<32 || h.prevEnd < 0 || h.prevEnd%alignment != 0 {
		return h, 0, fmt.Errorf("numbers of the segment header")
	}
	return h, seed, nil
}

// putFrameHead writes the head of a frame at off whose payload follows it in b.
func putFrameHead(b []byte, seed uint32, off int64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(len(b)-frameHead))
	le.PutUint32(b[4:], crc32.Checksum(b[frameHead:], table))
	le.PutUint32(b[8:], 0)
	le.PutUint32(b[12:], headChecksum(b, seed, off))
}

// headChecksum makes a frame belong to its segment and its place.
func headChecksum(b []byte, seed uint32, off int64) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(off))
	return crc32.Update(crc32.Update(seed, table, b[:12]), table, at[:])
}

// frameAt gives a frame's payload length and its checksum, if a head stands at off.
func frameAt(b []byte, seed uint32, off int64) (n int64, sum uint32, ok bool) {
	le := binary.LittleEndian
	n = int64(le.Uint32(b))
	if n == 0 || n > MaxFrame || le.Uint32(b[8:]) != 0 || le.Uint32(b[12:]) != headChecksum(b, seed, off) {
		return 0, 0, false
	}
	return n, le.Uint32(b[4:]), true
}

func aligned(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// record is one change of one log. For opCut and opDrop only group and Index count.
type record struct {
	op    uint8
	flags uint8
	group uint32
	Entry
}

// appendTo lays the record out behind b.
func (r *record) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = append(b, r.op, r.Kind, r.flags, 0)
	b = le.AppendUint32(b, r.group)
	b = le.AppendUint64(b, r.Index)
	b = le.AppendUint64(b, r.Term)
	b = le.AppendUint64(b, uint64(r.Appended))
	b = le.AppendUint32(b, uint32(len(r.Data)))
	b = le.AppendUint32(b, uint32(len(r.Ext)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, 0)
	b = append(b, r.Data...)
	b = append(b, r.Ext...)
	le.PutUint32(b[at+40:], recordChecksum(b[at:]))
	return b
}

// recordChecksum is over all of a record but itself.
func recordChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:40], table), table, b[44:])
}

// recordSize is the size of the record that begins with b[:recordHead], if that can be one.
func recordSize(b []byte) (int64, bool) {
	le := binary.LittleEndian
	n := recordHead + int64(le.Uint32(b[32:])) + int64(le.Uint32(b[36:]))
	op := b[0]
	bare := n == recordHead
	return n, n <= MaxFrame && op >= opAppend && op <= opDrop && (bare || op <= opMoved) && b[3] == 0 && le.Uint32(b[44:]) == 0
}

// decodeRecord reads the record that b begins with. Its Data and Ext are parts of b.
func decodeRecord(b []byte) (r record, n int64, err error) {
	if len(b) < recordHead {
		return r, 0, fmt.Errorf("record is cut off")
	}
	n, ok := recordSize(b)
	if !ok || n > int64(len(b)) {
		return r, 0, fmt.Errorf("head of a record")
	}
	b = b[:n]
	le := binary.LittleEndian
	if le.Uint32(b[40:]) != recordChecksum(b) {
		return r, 0, fmt.Errorf("checksum of a record")
	}
	data := recordHead + int64(le.Uint32(b[32:]))
	r = record{op: b[0], flags: b[2], group: le.Uint32(b[4:]), Entry: Entry{Kind: b[1], Index: le.Uint64(b[8:]), Term: le.Uint64(b[16:]),
		Appended: int64(le.Uint64(b[24:])), Data: b[recordHead:data:data], Ext: b[data:]}}
	if r.Index == 0 {
		return r, 0, fmt.Errorf("entry without an index")
	}
	return r, n, nil
}
