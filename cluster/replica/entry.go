package replica

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/policy"
	"hongyan/engine/volume"
)

// State is how far a volume's life has gone in the directory.
type State uint8

// A volume is opened, then sealed. Dropped volumes have no entry.
const (
	Open State = iota
	Sealed
)

// String names the state for logs and tables.
func (s State) String() string {
	if s == Sealed {
		return "sealed"
	}
	return "open"
}

// Entry is a volume in the directory.
type Entry struct {
	ID      volume.ID `cbor:"1,keyasint"`
	Epoch   uint64    `cbor:"2,keyasint,omitempty"` // only grows; a file whose header has a later one is of another volume
	Primary string    `cbor:"3,keyasint"`
	Copies  []string  `cbor:"4,keyasint"` // nodes with a copy, the primary first
	Class   uint8     `cbor:"5,keyasint,omitempty"`
	State   State     `cbor:"6,keyasint,omitempty"`
	Length  int64     `cbor:"7,keyasint,omitempty"` // of the file once sealed; 0 if no copy held a record
	// Generation is which file of the volume is the one: 0 as it was appended to, later ones were made by compaction.
	Generation uint32 `cbor:"8,keyasint,omitempty"`
	SealedAt   int64  `cbor:"9,keyasint,omitempty"` // unix seconds
	// Cold says where the fragments are that took the place of the copies; Copies is empty then.
	Cold *Cold `cbor:"10,keyasint,omitempty"`
	// Attempt is the generation that the compaction which was begun last is to make: the only one that may become Generation.
	Attempt uint32 `cbor:"11,keyasint,omitempty"`
	// Last is the number of the last record that was within Length when the volume was sealed; 0 if that was not told.
	Last uint64 `cbor:"12,keyasint,omitempty"`
	// Policy is what the volume was opened under; nil is the default. It says where copies and fragments may lie, for the volume's whole life.
	Policy *policy.Policy `cbor:"13,keyasint,omitempty"`
}

// Wanted is how many copies the volume is to have.
func (e Entry) Wanted() int { return int(policy.Of(e.Policy).Copies) }

// MayLie says whether bytes of the volume may be on a node.
func (e Entry) MayLie(p Peer) bool { return policy.Of(e.Policy).Allows(p.Region) }

// Cold is a volume that is kept as Reed–Solomon fragments (package cold).
type Cold struct {
	Data   uint8    `cbor:"1,keyasint"` // fragments that give the volume
	Parity uint8    `cbor:"2,keyasint"` // further ones
	Nodes  []string `cbor:"3,keyasint"` // of each fragment
	Seed   uint32   `cbor:"4,keyasint"` // checksum of the volume file's header block
}

// after says that e is a later state of the same volume's entry: what changes in one only grows.
func (e Entry) after(other Entry) bool {
	return cmp.Or(cmp.Compare(e.State, other.State), cmp.Compare(e.Epoch, other.Epoch), cmp.Compare(e.Attempt, other.Attempt),
		cmp.Compare(e.Generation, other.Generation)) > 0
}

// asks says that e wants the same file on every node of the entry as other does.
func (e Entry) asks(other Entry) bool {
	return e.State == other.State && e.Epoch == other.Epoch && e.Generation == other.Generation && e.Length == other.Length && (e.Cold == nil) == (other.Cold == nil)
}

// Holds says whether the node has a copy of the volume.
func (e Entry) Holds(node string) bool { return slices.Contains(e.Copies, node) }

// Sources lists the nodes that can read records of the volume.
func (e Entry) Sources() []string {
	if e.Cold == nil {
		return slices.Clone(e.Copies)
	}
	var nodes []string
	for _, node := range e.Cold.Nodes {
		if !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// ColdVolumes are the volumes that are kept as fragments (package cold).
type ColdVolumes interface {
	// Open gives n raw bytes of a record from off on. volume.ErrNotFound if this node has no fragment of the volume.
	Open(ctx context.Context, e Entry, ref volume.Ref, off, n uint64) (io.ReadCloser, error)
	// Census holds a volume against what is live.
	Census(ctx context.Context, e Entry, live *roaring.Bitmap) (volume.Census, error)
	// Erase destroys the keys on this node of all records but those that stay.
	Erase(id volume.ID, stay *roaring.Bitmap) (uint64, error)
	// Thaw gives a volume whole copies again.
	Thaw(ctx context.Context, e Entry) (Entry, error)
}

// Directory is what this package needs of the cluster's directory. Its decisions are ordered: of several
// seals of a volume the first wins.
type Directory interface {
	// OpenVolume enters a new volume under a fresh id. copies starts with the primary, and p allows them all.
	OpenVolume(ctx context.Context, primary string, copies []string, class uint8, p policy.Policy) (Entry, error)
	// SealVolume fixes the volume's length, and which record is the last one within it, unless that has been done; the entry as sealed comes back. It is
	// wire.ErrInvalid or wire.ErrNotFound if there is no such volume.
	SealVolume(ctx context.Context, id volume.ID, length int64, last uint64) (Entry, error)
	// DropVolume forgets a volume that was sealed at length 0. Dropping one that is gone is no error.
	DropVolume(ctx context.Context, id volume.ID) error
	// Volumes lists all volumes as this node's copy of the directory has them, which may lag behind.
	Volumes(ctx context.Context) ([]Entry, error)
	// Volume gives a volume's entry with all that was acknowledged before the call, and whether there is one.
	Volume(ctx context.Context, id volume.ID) (Entry, bool, error)
	// AddCopy names one more node for a copy, as Entry.WithCopy says. It is wire.ErrInvalid if the entry has changed since e.
	AddCopy(ctx context.Context, e Entry, node string) (Entry, error)
	// RemoveCopy takes a node out of the entry, as Entry.WithoutCopy says. It is wire.ErrInvalid if the entry has changed since e.
	RemoveCopy(ctx context.Context, e Entry, node string) (Entry, error)
	// Policies lists those that domains have now, besides the default.
	Policies(ctx context.Context) ([]policy.Policy, error)
}

// Peer is a storage node as placement of copies sees it.
type Peer struct {
	ID     string
	Region string
	Weight uint32 // its share of new mail, beside those of the others; 0: it takes no new volumes
	// Leaving says that the node is being drained, or was given up as lost: what it has moves to others. A node on which something is left has
	// to be listed, however dead it is: of one that is not in the list nothing is known, and nothing moves.
	Leaving bool
	Zone    string // what fails together inside the region; nodes without one share the zone ""
	// Lost says that it was given up, or that what it had is made anew: it takes no new mail even as a last resort (reserve.go).
	Lost bool
}

// Takes says that the node takes new volumes, copies and fragments. Volumes may come to others as a last resort (reserve.go).
func (p Peer) Takes() bool { return p.Weight > 0 && !p.Leaving }

// Place is where it is.
func (p Peer) Place() policy.Place { return policy.Place{Region: p.Region, Zone: p.Zone} }
