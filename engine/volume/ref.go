package volume

import "fmt"

// ID names a volume in the whole cluster; its copies share it.
type ID uint64

func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// Ref is a blob reference: enough to find, bound and check a message's bytes.
type Ref struct {
	Volume ID       `cbor:"1,keyasint"`
	Record uint64   `cbor:"2,keyasint"`
	Length uint64   `cbor:"3,keyasint"` // raw bytes
	Hash   [32]byte `cbor:"4,keyasint"` // SHA-256 of the raw bytes
}
