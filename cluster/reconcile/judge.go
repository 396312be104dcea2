package reconcile

import (
	"slices"

	"hongyan/cluster/replica"
)

// State is what a node has of a record. Numbers are fixed: they travel.
type State uint8

// States of a record in a node's copy.
const (
	NoCopy     State = 0 // there is no file of the volume
	NoRecord   State = 1 // the file has no such record
	Other      State = 2 // a record of that number, and not the one that is meant
	Same       State = 3 // the one that is meant
	Erased     State = 4 // its key was destroyed: it was collected as garbage
	Unreadable State = 5 // the copy is damaged there, or does not answer
)

// Record is a node's answer about one reference.
type Record struct {
	State      State  `cbor:"1,keyasint"`
	Generation uint32 `cbor:"2,keyasint,omitempty"` // of the file
	Durable    int64  `cbor:"3,keyasint,omitempty"` // bytes of the file

	Facts *Facts `cbor:"4,keyasint,omitempty"` // of State Same and Other
}

// Facts are what a record says of itself.
type Facts struct {
	Length uint64 `cbor:"1,keyasint"`
	Named  bool   `cbor:"2,keyasint,omitempty"` // the account is a recipient
	Date   int64  `cbor:"3,keyasint,omitempty"`
	Zone   int16  `cbor:"4,keyasint,omitempty"`
	// Of a record whose bytes were read too:
	Hash    [32]byte `cbor:"5,keyasint,omitempty"`
	Summary []byte   `cbor:"6,keyasint,omitempty"`
	Meta    []byte   `cbor:"7,keyasint,omitempty"` // encoded mailbox.Origin
}

// answer is what a node said, or that it did not.
type answer struct {
	node string
	Record
	err error
}

// verdict is what is known of an entry and its volume.
type verdict struct {
	proved bool
	state  State // Same: the bytes are where they should be. Of a contradiction: what is there instead
	why    string
}

// judge is step 2's rule about a record. early says that the shard may refer to records of the volume in vain, which package settle sees to: to those behind
// the last one that the volume was sealed with. Before that it refers to none which is not durable on the volume's primary, whose copy is among those asked.
func judge(e replica.Entry, known, early bool, record uint64, answers []answer) verdict {
	passing := func(why string) verdict { return verdict{state: Unreadable, why: why} }
	for _, a := range answers {
		if a.err == nil && a.State == Same {
			return verdict{state: Same}
		}
	}
	switch {
	case early && (!known || e.State == replica.Sealed && record > e.Last):
		return passing("entries of the volume are not settled yet")
	case !known:
		return verdict{proved: true, state: NoCopy, why: "there is no such volume"}
	case e.Cold != nil:
		return passing("the volume is cold")
	case e.State == replica.Sealed && e.Length == 0:
		return verdict{proved: true, state: NoCopy, why: "the volume is empty"}
	}
	if gone(e, answers) {
		return verdict{proved: true, state: NoCopy, why: "no copy of the volume is left: all nodes that had one have other disks"}
	}
	for _, node := range e.Copies {
		i := slices.IndexFunc(answers, func(a answer) bool { return a.node == node })
		switch {
		case i < 0 || answers[i].err != nil:
			return passing("the copy on " + node + " cannot be asked")
		case answers[i].State == NoCopy:
			return passing("the copy on " + node + " is not there")
		case answers[i].State == Unreadable:
			return passing("the copy on " + node + " is damaged")
		case answers[i].Generation != e.Generation, e.State == replica.Sealed && answers[i].Durable < e.Length:
			return passing("the copy on " + node + " is behind")
		}
	}
	return agreed(e, answers)
}

// gone says whether every node that should have a copy of an ended volume answers that it has nothing of it.
func gone(e replica.Entry, answers []answer) bool {
	if e.State != replica.Sealed || e.Cold != nil || len(e.Copies) == 0 {
		return false
	}
	for _, node := range e.Copies {
		if !slices.ContainsFunc(answers, func(a answer) bool { return a.node == node && a.err == nil && a.State == NoCopy }) {
			return false
		}
	}
	return true
}

// agreed judges whole copies, of which none has the record.
func agreed(e replica.Entry, answers []answer) verdict {
	if len(answers) == 0 {
		return verdict{state: Unreadable, why: "the volume has no copy that can be asked"}
	}
	for _, a := range answers {
		if a.State != answers[0].State {
			return verdict{state: Unreadable, why: "the copies differ: scrub volume " + e.ID.String()}
		}
	}
	v := verdict{proved: true, state: answers[0].State}
	switch v.state {
	case NoRecord:
		v.why = "the volume has no such record"
	case Erased:
		v.why = "the record was collected as garbage"
	default:
		v.why = "another record is in its place"
	}
	return v
}
