package history

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model of one message in one mailbox. It may be there several times: after an attempt whose outcome nobody knew the sender tries
// again. Each copy has a slot. UIDs grow with time, so the first that is made has the smallest of the UIDs that readers found; copies that
// no reading shows come last.
//
// A slot goes from absent to present to gone. Some of its flags may be unknown: a copy has those of its source, which is another object.
// They are known from the first reading on.

// forever is when an operation of unknown outcome has taken effect at the latest.
const forever = time.Duration(math.MaxInt64)

type act uint8

const (
	actCreate act = iota
	actStore
	actExpunge // goes if it has \Deleted
	actRemove
	actShow
)

// input is a step of the model: an operation, or a reading, as this message saw it.
type input struct {
	op       *Op
	act      act
	slot     int // -1: a new message gets the first slot that is free
	call     time.Duration
	ret      time.Duration
	optional bool // may also have had no effect; see shrink
	change   Change
	known    uint32   // Create: which flags are known
	flags    uint32   // Create, Store: by bit
	shown    []glance // actShow: one for each slot with a UID
	counted  bool     // actShow: by POP3, so only how many are there
	copies   int      // actShow, if counted
	blind    bool     // actShow: its flags do not count
	lenient  bool     // actShow: what it does not show may be there
}

// glance is one slot in a reading.
type glance struct {
	there bool
	flags uint32
}

// model is the problem of one message.
type model struct {
	named   []bool // slots whose UID an answer named: only that operation makes them
	uids    int    // slots with a UID; the others no reading has shown
	slots   int
	mask    uint32 // the flags that count
	deleted uint32 // the bit of \Deleted, which a copy may have brought along
}

const slotSize = 9

const (
	absent byte = iota
	present
	gone
)

// slots are a state in memory; in between it is a string, which porcupine can compare.
type slotState struct {
	phase        byte
	known, flags uint32
}

func unpack(s string, i int) slotState {
	b := []byte(s[i*slotSize : (i+1)*slotSize])
	return slotState{b[0], binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])}
}

func (m *model) with(s string, i int, v slotState) string {
	v.known &= m.mask
	v.flags &= v.known
	if v.phase != present {
		v.known, v.flags = 0, 0
	}
	b := []byte(s)
	b[i*slotSize] = v.phase
	binary.LittleEndian.PutUint32(b[i*slotSize+1:], v.known)
	binary.LittleEndian.PutUint32(b[i*slotSize+5:], v.flags)
	return string(b)
}

func (m *model) start() string { return string(make([]byte, m.slots*slotSize)) }

// step gives the states that may follow; none means that the reading cannot be of this state.
func (m *model) step(s string, in *input) []string {
	var next []string
	switch in.act {
	case actCreate:
		next = m.create(s, in)
	case actShow:
		return m.show(s, in)
	default:
		next = m.change(s, in)
	}
	if in.optional && !slices.Contains(next, s) {
		next = append(next, s)
	}
	if in.optional && in.act == actCreate { // also with other flags
		free := *in
		free.known = 0
		next = append(next, m.create(s, &free)...)
	}
	return next
}

func (m *model) create(s string, in *input) []string {
	i := in.slot
	if i < 0 {
		for i = 0; i < m.slots; i++ {
			if !m.named[i] && unpack(s, i).phase == absent {
				break
			}
		}
	}
	if i == m.slots || unpack(s, i).phase != absent {
		return []string{s}
	}
	return []string{m.with(s, i, slotState{present, in.known, in.flags})}
}

func (m *model) change(s string, in *input) []string {
	v := unpack(s, in.slot)
	if v.phase != present {
		return []string{s}
	}
	switch {
	case in.act == actRemove:
		v.phase = gone
	case in.act == actExpunge:
		return m.expunge(s, in.slot, v)
	case in.change == Add:
		v.known, v.flags = v.known|in.flags, v.flags|in.flags
	case in.change == Remove:
		v.known, v.flags = v.known|in.flags, v.flags&^in.flags
	default:
		v.known, v.flags = math.MaxUint32, in.flags
	}
	return []string{m.with(s, in.slot, v)}
}

func (m *model) expunge(s string, i int, v slotState) []string {
	without := m.with(s, i, slotState{phase: gone})
	switch bit := m.deleted & m.mask; {
	case bit == 0 || v.known&bit == 0:
		v.known |= bit
		return []string{without, m.with(s, i, v)}
	case v.flags&bit != 0:
		return []string{without}
	}
	return []string{s}
}

func (m *model) show(s string, in *input) []string {
	if in.counted {
		return m.count(s, in)
	}
	for i := range m.slots {
		v := unpack(s, i)
		if i >= m.uids {
			if v.phase == present && !in.lenient {
				return nil
			}
			continue
		}
		g := in.shown[i]
		if g.there != (v.phase == present) && (g.there || !in.lenient) {
			return nil
		}
		if !g.there || in.blind {
			continue
		}
		if (v.flags^g.flags)&v.known&m.mask != 0 {
			return nil
		}
		s = m.with(s, i, slotState{present, math.MaxUint32, g.flags})
	}
	return []string{s}
}

// count is a reading that does not tell copies of the message apart.
func (m *model) count(s string, in *input) []string {
	n := 0
	for i := range m.slots {
		if unpack(s, i).phase == present {
			n++
		}
	}
	if in.copies > n || in.copies < n && !in.lenient {
		return nil
	}
	return []string{s}
}

// sequential says whether no two of the inputs, sorted by their calls, overlap.
func sequential(ins []*input) bool {
	for i := 1; i < len(ins); i++ {
		if ins[i].call <= ins[i-1].ret {
			return false
		}
	}
	return true
}

// explain searches an order of the inputs that the model allows, for a time.
func (m *model) explain(ins []*input, patience time.Duration) porcupine.CheckResult {
	if sequential(ins) {
		return m.walk(ins)
	}
	nondeterministic := porcupine.NondeterministicModel{
		Init: func() []any { return []any{m.start()} },
		Step: func(state, in, _ any) []any {
			next := m.step(state.(string), in.(*input))
			out := make([]any, len(next))
			for i, s := range next {
				out[i] = s
			}
			return out
		},
		Hash: func(state any) uint64 {
			f := fnv.New64a()
			_, _ = f.Write([]byte(state.(string))) // never fails
			return f.Sum64()
		},
	}
	ops := make([]porcupine.Operation, len(ins))
	for i, in := range ins {
		ops[i] = porcupine.Operation{Input: in, Call: int64(in.call), Return: int64(in.ret)}
	}
	return porcupine.CheckOperationsTimeout(nondeterministic.ToModel(), ops, patience)
}

// walk is explain for inputs that have one order only.
func (m *model) walk(ins []*input) porcupine.CheckResult {
	states := []string{m.start()}
	for _, in := range ins {
		var next []string
		for _, s := range states {
			for _, n := range m.step(s, in) {
				if !slices.Contains(next, n) {
					next = append(next, n)
				}
			}
		}
		if states = next; len(states) == 0 {
			return porcupine.Illegal
		}
	}
	return porcupine.Ok
}
