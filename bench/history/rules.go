package history

import (
	"cmp"
	"fmt"
	"slices"
)

// readings are the rules that a reading keeps by itself, and those that a mailbox keeps from one to the next.
func (c *checker) readings(b *mailbox) {
	var validity, next, highest *Op // who showed the first, the largest so far
	for _, r := range b.byReturn() {
		c.ascending(b, r.op)
		now := r.op.Reading
		if v := validity; now.UIDValidity != 0 {
			if v != nil && v.Reading.UIDValidity != now.UIDValidity {
				c.broken("validity", b, "", fmt.Sprintf("UIDVALIDITY was %d and is %d", v.Reading.UIDValidity, now.UIDValidity), v, r.op)
			}
			validity = r.op
		}
		if before := r.before(next); before != nil && now.UIDNext != 0 && now.UIDNext < before.Reading.UIDNext {
			c.broken("uidnext", b, "", fmt.Sprintf("UIDNEXT was %d and is %d", before.Reading.UIDNext, now.UIDNext), before, r.op)
		}
		if before := r.before(highest); before != nil && now.HighestModSeq != 0 && now.HighestModSeq < before.Reading.HighestModSeq {
			c.broken("modseq", b, "", fmt.Sprintf("HIGHESTMODSEQ was %d and is %d", before.Reading.HighestModSeq, now.HighestModSeq), before, r.op)
		}
		if next == nil || now.UIDNext > next.Reading.UIDNext {
			next = r.op
		}
		if highest == nil || now.HighestModSeq > highest.Reading.HighestModSeq {
			highest = r.op
		}
	}
}

// ended is a reading among those sorted by their returns.
type ended struct{ op *Op }

// byReturn sorts the readings by their ends.
func (b *mailbox) byReturn() []ended {
	out := make([]ended, len(b.readings))
	for i, op := range b.readings {
		out[i] = ended{op}
	}
	slices.SortStableFunc(out, func(x, y ended) int { return cmp.Compare(x.op.Return, y.op.Return) })
	return out
}

// before is op if it had ended when this reading began, else nil.
func (e ended) before(op *Op) *Op {
	if op != nil && op.Return < e.op.Call {
		return op
	}
	return nil
}

// ascending looks at one reading.
func (c *checker) ascending(b *mailbox, op *Op) {
	r := op.Reading
	if r.NoUIDs {
		return
	}
	last := Seen{}
	for _, s := range r.Messages {
		switch {
		case s.UID <= last.UID:
			c.broken("order", b, s.ID, fmt.Sprintf("UID %d follows %d", s.UID, last.UID), op)
			return
		case r.UIDNext != 0 && s.UID >= r.UIDNext:
			c.broken("uidnext", b, s.ID, fmt.Sprintf("UIDNEXT is %d, and UID %d is there", r.UIDNext, s.UID), op)
			return
		case r.HighestModSeq != 0 && s.ModSeq > r.HighestModSeq:
			c.broken("modseq", b, s.ID, fmt.Sprintf("HIGHESTMODSEQ is %d, and UID %d has %d", r.HighestModSeq, s.UID, s.ModSeq), op)
			return
		}
		last = s
	}
}

// names is the rule "renamed". What answers told of UIDs counts, too.
func (c *checker) names(b *mailbox) {
	type name struct {
		op   *Op
		seen Seen
		told bool
	}
	first := map[uint32]*name{}
	say := func(op *Op, s Seen, told bool) {
		had := first[s.UID]
		switch {
		case had == nil:
			first[s.UID] = &name{op, s, told}
			return
		case told && had.told && had.op != op:
			c.broken("renamed", b, s.ID, fmt.Sprintf("UID %d was given to two operations", s.UID), had.op, op)
		case had.seen.ID != s.ID:
			c.broken("renamed", b, s.ID, fmt.Sprintf("UID %d names %s and %s", s.UID, had.seen.ID, s.ID), had.op, op)
		case had.seen.Hash != s.Hash && had.seen.Hash != (Hash{}) && s.Hash != (Hash{}):
			c.broken("renamed", b, s.ID, fmt.Sprintf("UID %d names two messages that both call themselves %s", s.UID, s.ID), had.op, op)
		default:
			if had.seen.Hash == (Hash{}) {
				had.seen.Hash = s.Hash
			}
			return
		}
		b.messages[s.ID].spoiled = true
		b.messages[had.seen.ID].spoiled = true
	}
	for _, m := range b.sorted() {
		for _, cr := range m.creates {
			if cr.uid != 0 && !cr.base {
				say(cr.op, Seen{ID: m.id, UID: cr.uid}, true)
			}
		}
	}
	for _, r := range b.readings {
		if r.Reading.NoUIDs {
			continue
		}
		for _, s := range r.Reading.Messages {
			say(r, s, false)
		}
	}
}

// order is the rule of that name between operations: who came later has the larger UID, also when a reading told in between which is the
// next one.
func (c *checker) order(b *mailbox) {
	var made []birth
	for _, m := range b.sorted() {
		if m.spoiled || len(m.creates) != 1 || m.creates[0].base || len(m.uids) != 1 {
			continue
		}
		made = append(made, birth{m: m, op: m.creates[0].op, uid: m.uids[0]})
	}
	done := slices.Clone(made)
	done = slices.DeleteFunc(done, func(x birth) bool { return x.op.Outcome != OK })
	slices.SortStableFunc(done, func(x, y birth) int { return cmp.Compare(x.op.Return, y.op.Return) })
	var top birth
	for _, y := range made { // by call
		for len(done) > 0 && done[0].op.Return < y.op.Call {
			if done[0].uid > top.uid {
				top = done[0]
			}
			done = done[1:]
		}
		if y.uid < top.uid {
			c.broken("order", b, y.m.id, fmt.Sprintf("%s came after %s was acknowledged with UID %d, and has UID %d", y.m.id, top.m.id, top.uid, y.uid),
				top.op, y.op, b.shower(top.m), b.shower(y.m))
		}
	}
	c.promised(b)
}

// birth is a message whose one UID is known.
type birth struct {
	m   *message
	op  *Op
	uid uint32
}

// shower is the first reading that shows a message.
func (b *mailbox) shower(m *message) *Op {
	for _, s := range m.shown {
		if r := b.readings[s.reading]; !r.Reading.NoUIDs {
			return r
		}
	}
	return m.creates[0].op // whose answer told the UID
}

// promised: a UID that a reading does not show for the first time lies at or above every UIDNEXT told before.
func (c *checker) promised(b *mailbox) {
	old := b.byReturn()
	var top *Op
	seen := map[uint32]bool{}
	for _, r := range b.readings {
		for len(old) > 0 && old[0].op.Return < r.Call {
			if top == nil || old[0].op.Reading.UIDNext > top.Reading.UIDNext {
				top = old[0].op
			}
			old = old[1:]
		}
		for _, s := range r.Reading.Messages {
			if top != nil && !r.Reading.NoUIDs && !seen[s.UID] && s.UID < top.Reading.UIDNext && !b.told(s) {
				c.broken("order", b, s.ID, fmt.Sprintf("UID %d appears after UIDNEXT was %d", s.UID, top.Reading.UIDNext), top, r)
			}
			seen[s.UID] = true
		}
	}
}

// told says whether the UID was in an answer: then a reading that does not show the message is stale, and the order is right.
func (b *mailbox) told(s Seen) bool {
	m := b.messages[s.ID]
	return slices.ContainsFunc(m.creates, func(cr *create) bool { return cr.uid == s.UID && !cr.base })
}

// modseqs is the rule "modseq" for each message: the same number means the same flags, and later readings show no smaller one.
func (c *checker) modseqs(b *mailbox) {
	type sighted struct {
		op *Op
		s  *Seen
	}
	type state struct {
		at    map[uint64]sighted
		last  []sighted // by return, not yet behind
		top   sighted   // the largest among those that had ended
		noted bool
	}
	states := map[uint32]*state{}
	for _, r := range b.readings {
		for i := range r.Reading.Messages {
			s := &r.Reading.Messages[i]
			if s.ModSeq == 0 {
				continue
			}
			st := states[s.UID]
			if st == nil {
				st = &state{at: map[uint64]sighted{}}
				states[s.UID] = st
			}
			if st.noted {
				continue
			}
			if had, ok := st.at[s.ModSeq]; ok && had.s.Flags != s.Flags {
				c.broken("modseq", b, s.ID, fmt.Sprintf("UID %d has modseq %d with flags [%s] and with flags [%s]", s.UID, s.ModSeq, had.s.Flags, s.Flags), had.op, r)
				st.noted = true
			} else if !ok {
				st.at[s.ModSeq] = sighted{r, s}
			}
			st.last = slices.DeleteFunc(st.last, func(x sighted) bool {
				if x.op.Return >= r.Call {
					return false
				}
				if st.top.s == nil || x.s.ModSeq > st.top.s.ModSeq {
					st.top = x
				}
				return true
			})
			if st.top.s != nil && s.ModSeq < st.top.s.ModSeq && !st.noted {
				c.broken("modseq", b, s.ID, fmt.Sprintf("UID %d had modseq %d and has %d", s.UID, st.top.s.ModSeq, s.ModSeq), st.top.op, r)
				st.noted = true
			}
			st.last = append(st.last, sighted{r, s})
		}
	}
}
