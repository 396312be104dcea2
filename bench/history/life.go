package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// life searches an order of all that happened to a message, and names what is wrong when there is none.
func (c *checker) life(b *mailbox, m *message) {
	bits := &bitTable{bits: map[string]uint32{}}
	p, all, err := b.problem(m, bits)
	if err != nil {
		c.broken("undecided", b, m.id, err.Error())
		return
	}
	// What nobody knows the outcome of mostly had none that matters; an order without it is an order.
	certain := slices.DeleteFunc(slices.Clone(all), func(in *input) bool { return in.ret == forever })
	if p.explain(certain, c.o.Patience) == porcupine.Ok {
		return
	}
	verdict := porcupine.Illegal
	if len(certain) < len(all) || !sequential(all) {
		verdict = p.explain(all, c.o.Patience)
	}
	switch verdict {
	case porcupine.Ok:
	case porcupine.Unknown:
		c.broken("undecided", b, m.id, fmt.Sprintf("no order of %d operations on %s was found or excluded in %s", len(all), m.id, c.o.Patience))
	default:
		s := &shrinker{p: *p, all: all, bits: bits, until: time.Now().Add(c.o.Patience), ctx: c.ctx}
		s.run()
		rule, text := s.name(m.id)
		c.broken(rule, b, m.id, text, s.visible()...)
	}
}

// problem makes the model of a message and its inputs, by call.
func (b *mailbox) problem(m *message, bits *bitTable) (*model, []*input, error) {
	p := &model{mask: math.MaxUint32, uids: len(m.uids)}
	slot := func(uid uint32) int {
		i, _ := slices.BinarySearch(m.uids, uid)
		return i
	}
	named := make([]bool, len(m.uids))
	free := len(m.uids)
	for _, cr := range m.creates {
		if cr.uid != 0 && !named[slot(cr.uid)] {
			named[slot(cr.uid)] = true
			free--
		}
	}
	var ins []*input
	for _, cr := range m.creates {
		in := &input{op: cr.op, act: actCreate, slot: -1, call: cr.op.Call, ret: end(cr.op), flags: bits.of(cr.flags)}
		if cr.known {
			in.known = math.MaxUint32
		}
		switch {
		case cr.base:
			in.call-- // before the reading that found it
			in.ret = in.call
			in.slot = slot(cr.uid)
		case cr.uid != 0:
			in.slot = slot(cr.uid)
		default:
			free--
		}
		if len(m.creates) == 1 && in.ret == forever {
			in.ret = b.firstShown(m)
		}
		ins = append(ins, in)
	}
	p.slots = len(m.uids) + max(0, -free)
	p.named = append(named, make([]bool, p.slots-len(m.uids))...)
	for _, op := range m.changes {
		in := &input{op: op, act: actRemove, slot: slot(op.UID), call: op.Call, ret: end(op), change: op.Change, flags: bits.of(op.Flags)}
		switch op.Kind {
		case Store:
			in.act = actStore
		case Expunge:
			in.act = actExpunge
		case Move:
			// An answer without COPYUID leaves open whether the message was still there to be moved.
			if op.NewUID == 0 {
				in.ret = forever
			}
		}
		ins = append(ins, in)
	}
	ins = append(ins, b.shows(m, bits)...)
	slices.SortStableFunc(ins, func(x, y *input) int { return cmp.Compare(x.call, y.call) })
	p.deleted = bits.of(deleted)
	if bits.over {
		return nil, nil, fmt.Errorf("%s has had more than 32 flags: too many to follow", m.id)
	}
	return p, ins, nil
}

// end is when an operation had taken effect at the latest.
func end(op *Op) time.Duration {
	if op.Outcome == OK && (op.Kind != Copy && op.Kind != Move || op.NewUID != 0) {
		return op.Return
	}
	return forever
}

// firstShown is the end of the first reading that shows the message: by then its only attempt had succeeded.
func (b *mailbox) firstShown(m *message) time.Duration {
	first := forever
	for _, s := range m.shown {
		first = min(first, b.readings[s.reading].Return)
	}
	return first
}

// shows are the readings as inputs.
func (b *mailbox) shows(m *message, bits *bitTable) []*input {
	var out []*input
	shown := m.shown
	for _, i := range b.relevant(m) {
		r := b.readings[i]
		in := &input{op: r, act: actShow, call: r.Call, ret: r.Return, counted: r.Reading.NoUIDs, shown: make([]glance, len(m.uids))}
		for len(shown) > 0 && shown[0].reading <= i {
			if s := shown[0]; s.reading == i && in.counted {
				in.copies++
			} else if s.reading == i {
				at, _ := slices.BinarySearch(m.uids, s.seen.UID)
				in.shown[at] = glance{true, bits.of(s.seen.Flags)}
			}
			shown = shown[1:]
		}
		out = append(out, in)
	}
	return out
}

// bitTable numbers the flags of one message.
type bitTable struct {
	bits map[string]uint32
	over bool
}

func (t *bitTable) of(f Flags) uint32 {
	set := uint32(0)
	for _, name := range f.List() {
		bit, ok := t.bits[name]
		if !ok {
			if len(t.bits) == 32 {
				t.over = true
				continue
			}
			bit = 1 << len(t.bits)
			t.bits[name] = bit
		}
		set |= bit
	}
	return set
}

// names lists the flags of a set, sorted.
func (t *bitTable) names(set uint32) []string {
	var out []string
	for name, bit := range t.bits {
		if set&bit != 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
