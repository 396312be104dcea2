package mailbox

import (
	"fmt"

	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// MoveStep is a step of an account's move between two shards; see engine/index/place.go. Numbers are fixed.
type MoveStep uint8

// Steps, in their order; each says in which shard it is taken.
const (
	MoveArrive   MoveStep = 1 // the new one; Shard is the old one
	MoveFreeze   MoveStep = 2 // the old one; Shard is the new one
	MoveArrived  MoveStep = 3 // the new one, with the Markers of the old one
	MoveRelease  MoveStep = 4 // the old one; Shard is the new one, At an entry of its log from which on it has all
	MoveActivate MoveStep = 5 // the new one
	MoveDrop     MoveStep = 6 // where the account is not any more; Shard is where it is
	MoveThaw     MoveStep = 7 // the old one, before MoveRelease
)

// Move takes a step.
type Move struct {
	Step    MoveStep `cbor:"1,keyasint"`
	Account uint64   `cbor:"2,keyasint"`
	Fence   uint64   `cbor:"3,keyasint"`
	Shard   uint32   `cbor:"4,keyasint,omitempty"`
	At      uint64   `cbor:"5,keyasint,omitempty"`
	After   uint32   `cbor:"6,keyasint,omitempty"` // MoveDrop: goes on behind this mailbox
	// Markers are those of the old shard, for MoveArrived.
	Markers []index.Early `cbor:"7,keyasint,omitempty"`
}

// Import writes and removes keys of an account that arrives.
type Import struct {
	Account uint64       `cbor:"1,keyasint"`
	Fence   uint64       `cbor:"2,keyasint"`
	Puts    []index.Pair `cbor:"3,keyasint,omitempty"`
	Removes [][]byte     `cbor:"4,keyasint,omitempty"`
}

// move executes a step.
func (m *Machine) move(t *index.Txn, c *Move) (*Result, error) {
	result := &Result{}
	var err error
	switch c.Step {
	case MoveArrive:
		err = t.Arrive(c.Account, c.Fence, c.Shard)
	case MoveFreeze:
		err = t.Freeze(c.Account, c.Fence, c.Shard)
	case MoveThaw:
		err = t.Thaw(c.Account, c.Fence)
	case MoveArrived:
		err = m.arrived(t, c)
	case MoveActivate:
		if m.Arrives != nil {
			m.Arrives(c.Account)
		}
		err = t.Activate(c.Account, c.Fence)
	case MoveRelease:
		err = t.Release(c.Account, c.Fence, c.Shard, c.At)
	case MoveDrop:
		result.Next, err = t.Drop(c.Account, c.Fence, c.Shard, c.After)
	default:
		err = fmt.Errorf("%w: step %d of a move", errInvalid, c.Step)
	}
	if err != nil {
		return nil, err
	}
	if c.Step == MoveActivate || c.Step == MoveRelease {
		m.note(c.Account, 0) // who watches it asks, and is sent on
	}
	return result, nil
}

// arrived notes what the old shard may refer to in vain.
func (m *Machine) arrived(t *index.Txn, c *Move) error {
	if err := t.Arrived(c.Account, c.Fence, c.Markers); err != nil {
		return err
	}
	for _, e := range c.Markers {
		m.early.add(volume.Ref{Volume: e.Volume, Record: e.Last}, c.Account, 0)
	}
	return nil
}
