package keys

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"hongyan/engine/codec"
)

// The file: two copies of the header, then sectors of slots. docs/formats/keys.md draws it.
const (
	fileMagic   = "HYkeyfil"
	fileVersion = 1

	headerSize  = 4096
	headerFixed = 24
	headers     = 2
	slotsStart  = headers * headerSize

	// sectorSize is what disks of every kind write whole or not at all.
	sectorSize  = 512
	sectorSlots = 30
	slotSize    = 16

	// MaxSlots is the most records that one key file has slots for.
	MaxSlots = 128 << 10
	// maxWrapped bounds what a key service may make of a key of 32 bytes.
	maxWrapped = 2048
)

var table = crc32.MakeTable(crc32.Castagnoli)

// header is what both copies of the header block say. The one with the higher sequence is the newer.
type header struct {
	Volume   uint64 `cbor:"1,keyasint"`
	Slots    uint32 `cbor:"2,keyasint"`
	Sequence uint64 `cbor:"3,keyasint"`
	Master   string `cbor:"4,keyasint"` // id of the key that wrapped
	Wrapped  []byte `cbor:"5,keyasint"` // volume key
}

// encodeHeader gives a header block.
func encodeHeader(h header) ([]byte, error) {
	fields, err := codec.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(fields) > headerSize-headerFixed || len(h.Wrapped) > maxWrapped {
		return nil, fmt.Errorf("a wrapped key of %d bytes and a master key id of %d do not fit in the header", len(h.Wrapped), len(h.Master))
	}
	b := make([]byte, headerSize)
	copy(b, fileMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], fileVersion)
	le.PutUint32(b[12:], uint32(len(fields)))
	copy(b[headerFixed:], fields)
	le.PutUint32(b[16:], headerChecksum(b, len(fields)))
	return b, nil
}

// decodeHeader reads a header block.
func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != fileMagic {
		return h, malformed("no key file magic")
	}
	// A newer version may keep anything behind its number, so it comes before the checksum.
	if version := le.Uint32(b[8:]); version != fileVersion {
		return h, fmt.Errorf("key file of version %d, this program reads %d: %w", version, fileVersion, ErrVersion)
	}
	size := le.Uint32(b[12:])
	if size > headerSize-headerFixed || le.Uint32(b[16:]) != headerChecksum(b, int(size)) {
		return h, malformed("checksum of the header")
	}
	if err := codec.Unmarshal(b[headerFixed:headerFixed+int(size)], &h); err != nil {
		return header{}, malformed(err.Error())
	}
	if h.Slots == 0 || h.Slots > MaxSlots || len(h.Wrapped) > maxWrapped {
		return header{}, malformed("slots or wrapped key out of bounds")
	}
	return h, nil
}

// headerChecksum covers the block up to the end of its fields, without the checksum itself.
func headerChecksum(b []byte, fields int) uint32 {
	return crc32.Update(crc32.Checksum(b[:16], table), table, b[20:headerFixed+fields])
}

func sectors(slots int) int { return (slots + sectorSlots - 1) / sectorSlots }

// place gives the sector of slot n, counted from 1, and the slot's bytes inside it.
func place(n uint64) (sector, at int) {
	i := int(n - 1)
	return i / sectorSlots, i % sectorSlots * slotSize
}

func sectorOffset(sector int) int64 { return slotsStart + int64(sector)*sectorSize }

// sealSector writes what follows the slots of a sector: whose it is, which one, and the checksum.
func sealSector(b []byte, volume uint64, sector int) {
	le := binary.LittleEndian
	clear(b[sectorSlots*slotSize : sectorSize])
	le.PutUint64(b[480:], volume)
	le.PutUint32(b[488:], uint32(sector))
	le.PutUint32(b[508:], crc32.Checksum(b[:508], table))
}

func checkSector(b []byte, volume uint64, sector int) error {
	le := binary.LittleEndian
	switch {
	case le.Uint32(b[508:]) != crc32.Checksum(b[:508], table):
		return malformed("checksum of a sector of slots")
	case le.Uint64(b[480:]) != volume || le.Uint32(b[488:]) != uint32(sector):
		return malformed("a sector of slots of another place")
	}
	return nil
}
