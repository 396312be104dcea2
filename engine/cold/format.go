package cold

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"hongyan/engine/codec"
	"hongyan/engine/volume"
)

// The kinds of failure that callers tell apart.
var (
	// ErrNotFound: there is no such fragment here.
	ErrNotFound = errors.New("fragment not found")
	// ErrVersion: the file was written by a newer version of the program.
	ErrVersion = errors.New("unknown format version")
	// ErrLayout: a layout outside the limits, or another one than expected.
	ErrLayout = errors.New("unusable layout of fragments")
	// ErrTooFew: fewer than k fragments could be read.
	ErrTooFew = errors.New("too few fragments are readable")
	// ErrBusy: somebody is making this fragment.
	ErrBusy = errors.New("fragment is being made")
	// ErrNoMaster: the volume is encrypted and the node has no master key.
	ErrNoMaster = errors.New("this node has no master key")
	// ErrClosed: the fragment, writer or store was closed.
	ErrClosed = errors.New("closed")
)

// DamageError says where a fragment is not what was written. The others mend it.
type DamageError struct {
	Volume volume.ID
	Index  int   // of the fragment
	Block  int64 // -1: the header
	Reason string
}

func (e *DamageError) Error() string {
	if e.Block < 0 {
		return fmt.Sprintf("fragment %d of volume %s is damaged: %s", e.Index, e.Volume, e.Reason)
	}
	return fmt.Sprintf("fragment %d of volume %s is damaged in block %d: %s", e.Index, e.Volume, e.Block, e.Reason)
}

// Limits and sizes of the format.
const (
	// MaxData and MaxParity bound a layout.
	MaxData   = 32
	MaxParity = 16

	// BlockRoom is the bytes of its column that every block but the last of a fragment holds.
	BlockRoom = BlockSize - sumSize
	// BlockSize is what such a block takes in the file: whole pages, so that a read is aligned.
	BlockSize = 16 << 10

	sumSize    = 4
	headerSize = 4096
	headerHead = 24
	magic      = "HYfragmt"
	version    = 1
	maxLength  = 1 << 36 // of a volume
)

// table is CRC32C, RFC 3720 appendix B.4: processors have an instruction for it.
var table = crc32.MakeTable(crc32.Castagnoli)

// Layout says of which file, and how, fragments are made.
type Layout struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"` // of the volume's file
	Seed       uint32    `cbor:"3,keyasint"`           // checksum of the volume's header block: which file it is
	Length     int64     `cbor:"4,keyasint"`           // of the file
	Data       uint8     `cbor:"5,keyasint"`           // k
	Parity     uint8     `cbor:"6,keyasint"`           // m
}

// Check holds a layout against the limits.
func (l Layout) Check() error {
	if l.Data < 1 || l.Data > MaxData || l.Parity < 1 || l.Parity > MaxParity || l.Length < 1 || l.Length > maxLength {
		return fmt.Errorf("volume %s of %d bytes in %d+%d fragments: %w", l.Volume, l.Length, l.Data, l.Parity, ErrLayout)
	}
	return nil
}

// Fragments is k+m.
func (l Layout) Fragments() int { return int(l.Data) + int(l.Parity) }

// Column is the bytes that each fragment holds; behind the end of the volume columns hold zeros.
func (l Layout) Column() int64 { return (l.Length + int64(l.Data) - 1) / int64(l.Data) }

// Blocks is the number of blocks of each fragment, which is the number of stripes.
func (l Layout) Blocks() int64 { return (l.Column() + BlockRoom - 1) / BlockRoom }

// FileSize is the length of each fragment's file.
func (l Layout) FileSize() int64 { return headerSize + l.Blocks()*sumSize + l.Column() }

// payload is the bytes of the column in n blocks from first on.
func (l Layout) payload(first, n int64) int64 {
	return min((first+n)*BlockRoom, l.Column()) - first*BlockRoom
}

// stored is the bytes that these blocks take in the file.
func (l Layout) stored(first, n int64) int64 { return l.payload(first, n) + n*sumSize }

// position is where a block begins in the file.
func position(block int64) int64 { return headerSize + block*BlockSize }

// blockSeed is what the checksums of a fragment's blocks are continued from: a block of another volume, generation, layout
// or fragment has the wrong one here.
func (l Layout) blockSeed(index int) uint32 {
	b := make([]byte, 0, 32)
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(l.Volume))
	b = le.AppendUint32(b, l.Generation)
	b = le.AppendUint32(b, l.Seed)
	b = le.AppendUint64(b, uint64(l.Length))
	b = append(b, l.Data, l.Parity, uint8(index), 0)
	return crc32.Checksum(b, table)
}

// blockSum is a block's checksum.
func blockSum(seed uint32, block int64, payload []byte) uint32 {
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], uint64(block))
	return crc32.Update(crc32.Update(seed, table, number[:]), table, payload)
}

// blocksOf cuts stored blocks apart. number is that of the first.
func blocksOf(stored []byte, first int64) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		for number := first; len(stored) > 0; number++ {
			n := min(BlockSize, len(stored))
			if !yield(number, stored[:n]) {
				return
			}
			stored = stored[n:]
		}
	}
}

// sum puts the checksums into stored blocks whose payload is there.
func (l Layout) sum(index int, first int64, stored []byte) {
	seed := l.blockSeed(index)
	for number, block := range blocksOf(stored, first) {
		binary.LittleEndian.PutUint32(block, blockSum(seed, number, block[sumSize:]))
	}
}

// check holds n stored blocks from first on against their checksums. It names the first that is damaged.
func (l Layout) check(index int, first, n int64, stored []byte) error {
	if first < 0 || n < 1 || first > l.Blocks()-n || int64(len(stored)) != l.stored(first, n) {
		return fmt.Errorf("fragment %d of volume %s: %d bytes for %d blocks from %d on: %w", index, l.Volume, len(stored), n, first, ErrLayout)
	}
	seed := l.blockSeed(index)
	for number, block := range blocksOf(stored, first) {
		if binary.LittleEndian.Uint32(block) != blockSum(seed, number, block[sumSize:]) {
			return &DamageError{Volume: l.Volume, Index: index, Block: number, Reason: "checksum"}
		}
	}
	return nil
}

// strip gives the payload of stored blocks, in their memory.
func strip(stored []byte) []byte {
	payload := stored[:0]
	for _, block := range blocksOf(stored, 0) {
		payload = append(payload, block[sumSize:]...)
	}
	return payload
}

// header is what a fragment's file says of itself in its first block.
type header struct {
	Layout Layout `cbor:"1,keyasint"`
	Index  uint8  `cbor:"2,keyasint,omitempty"`
}

func (h header) encode() ([]byte, error) {
	fields, err := codec.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header of fragment %d of volume %s: %w", h.Index, h.Layout.Volume, err)
	}
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(fields)))
	copy(b[headerHead:], fields)
	binary.LittleEndian.PutUint32(b[16:], headerSum(b, len(fields)))
	return b, nil
}

func decodeHeader(b []byte) (h header, err error) {
	damaged := func(why string) (header, error) {
		return h, &DamageError{Volume: h.Layout.Volume, Index: int(h.Index), Block: -1, Reason: why}
	}
	if len(b) < headerSize || string(b[:8]) != magic {
		return damaged("no header of a fragment")
	}
	// A newer version may keep anything behind its number, so it comes before the checksum.
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return h, fmt.Errorf("fragment file of version %d, this program reads %d: %w", v, version, ErrVersion)
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if n > headerSize-headerHead {
		return damaged("header fields are longer than the block")
	}
	if binary.LittleEndian.Uint32(b[16:]) != headerSum(b, int(n)) {
		return damaged("checksum of the header")
	}
	if err := codec.Unmarshal(b[headerHead:headerHead+int(n)], &h); err != nil {
		return damaged(err.Error())
	}
	if err := h.Layout.Check(); err != nil {
		return damaged(err.Error())
	}
	if int(h.Index) >= h.Layout.Fragments() {
		return damaged("number of the fragment")
	}
	return h, nil
}

// headerSum covers the block up to the end of its fields, without the checksum itself.
func headerSum(b []byte, fields int) uint32 {
	sum := crc32.Update(0, table, b[:16])
	return crc32.Update(sum, table, b[20:headerHead+fields])
}
