package scrub

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/codec"
	"hongyan/engine/durable"
	"hongyan/engine/volume"
)

// Sizes of the state file; the limit is far above what a node with 64 Ki volumes writes.
const (
	stateMagic = "HYscrub\x01" // the last byte is the version
	stateHead  = 16
	maxState   = 64 << 20

	maxFindings = 200 // kept for the report, newest last
)

// mark is what is known of a copy.
type mark struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
	Known      int64     `cbor:"3,keyasint,omitempty"` // unix seconds: when this node first had it whole
	Checked    int64     `cbor:"4,keyasint,omitempty"` // unix seconds: last verified to the end; 0 never
	Digest     []byte    `cbor:"5,keyasint,omitempty"` // SHA-256 of the file then; absent if it was damaged
	Damaged    uint64    `cbor:"6,keyasint,omitempty"` // records that could not be mended then

	records []uint64 // the first of them; not kept
	asked   []string // nodes that answered for all that was damaged; not kept
}

// saved is the content of the state file.
type saved struct {
	Marks    []mark    `cbor:"1,keyasint,omitempty"`
	Findings []Finding `cbor:"2,keyasint,omitempty"`
}

// encodeState gives the file: magic with version, length and CRC32C of the rest, CBOR.
func encodeState(s *saved) ([]byte, error) {
	slices.SortFunc(s.Marks, func(a, b mark) int { return cmp.Compare(a.Volume, b.Volume) })
	body, err := codec.Marshal(s)
	if err != nil {
		return nil, err
	}
	b := make([]byte, stateHead, stateHead+len(body))
	copy(b, stateMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[12:], stateSum(body))
	return append(b, body...), nil
}

func decodeState(b []byte) (*saved, error) {
	if len(b) < stateHead || string(b[:7]) != stateMagic[:7] {
		return nil, errors.New("not a state of scrubbing")
	}
	if b[7] != stateMagic[7] {
		return nil, fmt.Errorf("version %d, this program reads %d", b[7], stateMagic[7])
	}
	body := b[stateHead:]
	if binary.LittleEndian.Uint32(b[8:]) != uint32(len(body)) || binary.LittleEndian.Uint32(b[12:]) != stateSum(body) {
		return nil, errors.New("length or checksum is wrong")
	}
	s := new(saved)
	return s, codec.Unmarshal(body, s)
}

func stateSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// readState gives an empty state where there is none.
func readState(fs vfs.FS, path string) (*saved, error) {
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return new(saved), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open state of scrubbing: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read state of scrubbing: %w", err)
	}
	s, err := decodeState(b)
	if err != nil {
		return nil, fmt.Errorf("read state of scrubbing %s: %w", path, err)
	}
	return s, nil
}

// writeState replaces the file.
func writeState(fs vfs.FS, path string, s *saved) error {
	b, err := encodeState(s)
	if err != nil {
		return fmt.Errorf("encode state of scrubbing: %w", err)
	}
	if err := durable.Replace(fs, path, b, vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("write state of scrubbing: %w", err)
	}
	return nil
}
