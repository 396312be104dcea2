package cold

import (
	"fmt"

	"hongyan/cluster/replica"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Methods on the transport. Their values are CBOR maps with integer keys; keys are added, never reused.
const (
	methodMake   = "cold.make"   // a fragment's blocks, to be kept (steps 3 and 4)
	methodAttach = "cold.attach" // the record index and the keys of a volume, to be kept beside its fragments
	methodFetch  = "cold.fetch"  // the same, for a node that lost them
	methodHave   = "cold.have"   // is the fragment whole? (step 6)
	methodRead   = "cold.read"   // blocks of a fragment
	methodThaw   = "cold.thaw"   // make a whole copy of a cold volume
)

// piece is how many blocks travel in one message.
const piece = 8

// fragmentID names a fragment.
type fragmentID struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
	Index      uint8     `cbor:"3,keyasint,omitempty"`
}

func (f fragmentID) name() cold.Name {
	return cold.Name{Volume: f.Volume, Generation: f.Generation, Index: int(f.Index)}
}

func (f fragmentID) String() string {
	return fmt.Sprintf("fragment %d of volume %s", f.Index, f.Volume)
}

// makeRequest begins a fragment. The blocks follow, in pieces, after the answer.
type makeRequest struct {
	Layout cold.Layout `cbor:"1,keyasint"`
	Index  uint8       `cbor:"2,keyasint,omitempty"`
}

func (r makeRequest) name() cold.Name {
	return cold.Name{Volume: r.Layout.Volume, Generation: r.Layout.Generation, Index: int(r.Index)}
}

// makeReply says with which block to begin; once more, at the end, with Done set.
type makeReply struct {
	Next int64 `cbor:"1,keyasint,omitempty"`
	Done bool  `cbor:"2,keyasint,omitempty"` // the fragment is whole, durable, and was read back
}

// attachment is what is kept of a volume beside its fragments.
type attachment struct {
	Volume     volume.ID    `cbor:"1,keyasint"`
	Generation uint32       `cbor:"2,keyasint,omitempty"`
	Index      []byte       `cbor:"3,keyasint,omitempty"` // the index file
	Keys       *keys.Secret `cbor:"4,keyasint,omitempty"` // of an encrypted volume
}

type attachReply struct{}

type fetchRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
}

// haveRequest asks for the state of a fragment, and has keys destroyed beside it.
type haveRequest struct {
	Fragment  fragmentID   `cbor:"1,keyasint"`
	Destroyed []uint64     `cbor:"2,keyasint,omitempty"` // records
	Layout    *cold.Layout `cbor:"3,keyasint,omitempty"` // the entry's; earlier programs did not say it
	Encrypted bool         `cbor:"4,keyasint,omitempty"` // keys belong to it
}

type haveReply struct {
	Whole bool `cbor:"1,keyasint,omitempty"` // with all that belongs to it
}

// readRequest asks for blocks. They come in pieces.
type readRequest struct {
	Fragment fragmentID `cbor:"1,keyasint"`
	First    int64      `cbor:"2,keyasint,omitempty"`
	N        int64      `cbor:"3,keyasint"`
}

// thawRequest asks a node with fragments to make a whole copy.
type thawRequest struct {
	Entry replica.Entry `cbor:"1,keyasint"`
}

type thawReply struct{}
