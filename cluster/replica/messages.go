package replica

import (
	"encoding/binary"
	"fmt"

	"hongyan/cluster/policy"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Methods on the transport. Their values are CBOR maps with integer keys; keys are added, never reused.
const (
	methodOffer   = "replica.offer"    // may a volume be opened with you? (step 1)
	methodStream  = "replica.stream"   // a volume's bytes, once in its life (step 2)
	methodFence   = "replica.fence"    // how far are you durable, and stop there (step 4)
	methodRaw     = "replica.read_raw" // a stretch of a sealed volume's file (step 5)
	methodRead    = "replica.read"     // a message's raw bytes
	methodPut     = "replica.put"      // append a blob on your volumes
	methodPrepare = "replica.prepare"  // make a volume's next generation (step 6)
	methodSpread  = "replica.spread"   // how far are the records of a volume on a second disk
	methodErase   = "replica.erase"    // destroy the keys of dead records
	methodShare   = "replica.share"    // how much new mail did you take lately?
	methodWhole   = "replica.whole"    // is your copy whole? ("Moving copies", step 4)
)

// Sizes of the pieces that cross the network.
const (
	frameRoom = 256 << 10 // of volume bytes in one stream message
	chunkRoom = 128 << 10 // of message bytes or stored blob bytes in one message
	maxMeta   = 64 << 10  // of a record's meta from a peer
)

// offerRequest asks a node whether it would take a copy now.
type offerRequest struct {
	Class uint8 `cbor:"1,keyasint,omitempty"`
	Bytes int64 `cbor:"2,keyasint,omitempty"` // of a sealed volume's copy; 0: a new volume is meant
	Last  bool  `cbor:"3,keyasint,omitempty"` // a new volume has nowhere else to go: also if the node is to take none
}

type offerReply struct{}

// streamOpen is the first message of a stream, by the primary.
type streamOpen struct {
	Block []byte     `cbor:"1,keyasint"`           // the file's header block, which all copies share
	Seed  *keys.Seed `cbor:"2,keyasint,omitempty"` // of an encrypted volume's keys
}

// streamAck goes back whenever the copy fsynced; the first one says that the file is there.
type streamAck struct {
	Durable  int64 `cbor:"1,keyasint"` // end of the last whole fsynced record
	Received int64 `cbor:"2,keyasint"` // written, perhaps within a record: shows progress of large ones
}

// A volume frame is a message of the stream after its first: the offset in the file, little endian, and the bytes there.
const frameHead = 8

func parseFrame(msg []byte) (off int64, p []byte, err error) {
	if len(msg) <= frameHead {
		return 0, nil, fmt.Errorf("volume frame of %d bytes, expected more than %d", len(msg), frameHead)
	}
	off = int64(binary.LittleEndian.Uint64(msg))
	if off < 0 {
		return 0, nil, fmt.Errorf("volume frame at negative offset %d", off)
	}
	return off, msg[frameHead:], nil
}

// newFrame starts a frame for bytes at off.
func newFrame(off int64, room int) []byte {
	b := make([]byte, frameHead, frameHead+room)
	binary.LittleEndian.PutUint64(b, uint64(off))
	return b
}

// fenceRequest fences one copy for good.
type fenceRequest struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Epoch  uint64    `cbor:"2,keyasint,omitempty"`
}

// fenceReply is a fenced copy's final state.
type fenceReply struct {
	Exists  bool  `cbor:"1,keyasint,omitempty"` // the node has the file
	Durable int64 `cbor:"2,keyasint,omitempty"`
	Empty   bool  `cbor:"3,keyasint,omitempty"` // no whole durable record
	// Of a copy that was closed since it took its last bytes: up to where its disk gives every record. The disk may have lost
	// bytes that it had acknowledged. 0: this process made the file, and Durable is not below anything it acknowledged.
	Found int64 `cbor:"4,keyasint,omitempty"`
	// The disk does not give what lies behind Durable, or has not taken what is before it: nobody knows how far it is.
	Unreadable bool `cbor:"5,keyasint,omitempty"`
	// The last records before Durable and before Found; 0 if that is not known.
	Last      uint64 `cbor:"6,keyasint,omitempty"`
	LastFound uint64 `cbor:"7,keyasint,omitempty"`
}

// certain says that the copy's process made it, so that it has all that it acknowledged.
func (r *fenceReply) certain() bool { return r != nil && r.Exists && !r.Unreadable && r.Found == 0 }

// rawRequest asks for a sealed volume's file from Off to End, if it is of that generation.
type rawRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Off        int64     `cbor:"2,keyasint"`
	End        int64     `cbor:"3,keyasint"`
	Keys       bool      `cbor:"4,keyasint,omitempty"` // the keys of an encrypted volume too
	Generation uint32    `cbor:"5,keyasint,omitempty"`
}

// rawHead precedes the bytes.
type rawHead struct {
	Block  []byte       `cbor:"1,keyasint"` // the file's header block
	Secret *keys.Secret `cbor:"2,keyasint,omitempty"`
}

// readRequest asks for raw bytes of a message.
type readRequest struct {
	Ref volume.Ref `cbor:"1,keyasint"`
	Off uint64     `cbor:"2,keyasint,omitempty"`
	N   uint64     `cbor:"3,keyasint,omitempty"`
}

// putRequest precedes a blob's stored bytes.
type putRequest struct {
	Home   string   `cbor:"1,keyasint,omitempty"`
	Meta   []byte   `cbor:"2,keyasint,omitempty"`
	Length uint64   `cbor:"3,keyasint"`
	Stored uint64   `cbor:"4,keyasint"`
	Hash   [32]byte `cbor:"5,keyasint"`

	Kind volume.Kind `cbor:"6,keyasint"`
	// Dictionary is the id of the one that the blob's frames may need; 0 is none.
	Dictionary uint32 `cbor:"7,keyasint,omitempty"`
	// Policy is nil for the default.
	Policy *policy.Policy `cbor:"8,keyasint,omitempty"`
}

type putReply struct {
	Ref volume.Ref `cbor:"1,keyasint"`
}

// prepareRequest precedes the numbers of the records that the next generation is to have, in their order: u32, little endian, many in a
// message.
type prepareRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Epoch      uint64    `cbor:"2,keyasint,omitempty"`
	Generation uint32    `cbor:"3,keyasint,omitempty"` // of the volume now
	Block      []byte    `cbor:"4,keyasint"`           // header block of the file to be made
	Bytes      int64     `cbor:"5,keyasint"`           // that it will have, about
	Records    int       `cbor:"6,keyasint"`
}

type prepareReply struct {
	Length int64    `cbor:"1,keyasint"`
	Sum    [32]byte `cbor:"2,keyasint"` // SHA-256 of the file
}

// eraseRequest says which records of a volume keep their keys.
type eraseRequest struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Stay   []byte    `cbor:"2,keyasint"` // roaring bitmap
}

type eraseReply struct {
	Erased uint64 `cbor:"1,keyasint,omitempty"`
}

// spreadRequest asks up to which record a volume is durable on another copy than the primary's. The answer may wait a moment for Record.
type spreadRequest struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Record uint64    `cbor:"2,keyasint,omitempty"`
}

type spreadReply struct {
	Through uint64 `cbor:"1,keyasint,omitempty"`
	Sealed  bool   `cbor:"2,keyasint,omitempty"` // Through is the volume's last record
}

type shareRequest struct{}

// shareReply is what a node took of new mail, as primary and as other copy.
type shareReply struct {
	Key    uint64 `cbor:"1,keyasint"`           // of the nodes and weights that it counts for
	Taken  int64  `cbor:"2,keyasint,omitempty"` // bytes, fading
	Stores bool   `cbor:"3,keyasint,omitempty"` // it has a volume that gets on without the asker
}

// wholeRequest asks whether a copy is whole in that generation, and on the disk.
type wholeRequest struct {
	Volume     volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint,omitempty"`
	Length     int64     `cbor:"3,keyasint"`
	Leaving    string    `cbor:"4,keyasint,omitempty"` // node whose file goes if all is well here; damage is to be mended from it first
	Prove      bool      `cbor:"5,keyasint,omitempty"` // the copy is to be verified soon, if it was not in this generation
	Rotten     bool      `cbor:"6,keyasint,omitempty"` // bytes of it did not verify where they came
}

type wholeReply struct {
	Whole    bool     `cbor:"1,keyasint,omitempty"` // and nothing is known to be damaged
	Complete bool     `cbor:"2,keyasint,omitempty"` // as long as it should be
	Damaged  bool     `cbor:"3,keyasint,omitempty"` // or filled with damage, and not verified since
	Proved   bool     `cbor:"4,keyasint,omitempty"` // verified to the end in this generation
	Tried    bool     `cbor:"5,keyasint,omitempty"` // damaged, and the file on Leaving was asked and has not what is lacking
	Records  []uint64 `cbor:"6,keyasint,omitempty"` // the first damaged ones, as far as they are known
}
