package checkpoint

import (
	"fmt"

	"hongyan/engine/codec"
)

// Meta is the metadata in the record of a part.
type Meta struct {
	ID      [16]byte `cbor:"1,keyasint"` // of the checkpoint
	Shard   uint32   `cbor:"2,keyasint"`
	Applied uint64   `cbor:"3,keyasint"` // at least, when the saving began: the state itself says it exactly
	Taken   int64    `cbor:"4,keyasint"` // unix seconds, when it was begun
	Part    uint32   `cbor:"5,keyasint"` // from 0
	Last    bool     `cbor:"6,keyasint,omitempty"`
}

// Encode lays m out for a record.
func (m *Meta) Encode() ([]byte, error) { return codec.Marshal(m) }

// DecodeMeta reads the metadata of a record of kind 2.
func DecodeMeta(b []byte) (Meta, error) {
	var m Meta
	if err := codec.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("metadata of a checkpoint's part: %w", err)
	}
	return m, nil
}
