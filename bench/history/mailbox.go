package history

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// mailbox is what happened to one mailbox.
type mailbox struct {
	name     string
	readings []*Op           // that were answered, by call
	latest   []time.Duration // by which the readings so far had ended
	messages map[string]*message
	ordered  []*message // by the time when they can have come
}

// message is what happened to one message in one mailbox.
type message struct {
	id      string
	creates []*create
	changes []*Op // on its UIDs; of Move the side that it leaves
	uids    []uint32
	shown   []sight // by reading
	spoiled bool    // a rule about it is broken already: no search
}

// create is an operation that may have put the message there.
type create struct {
	op    *Op
	uid   uint32 // if an answer named it
	flags Flags
	known bool // whether flags are what it began with
	base  bool
}

// sight is the message in one reading.
type sight struct {
	reading int
	seen    *Seen
}

// assort gives each operation to the mailboxes that it concerns. What was refused concerns none.
func assort(ops []*Op) []*mailbox {
	boxes := map[string]*mailbox{}
	box := func(name string) *mailbox {
		if boxes[name] == nil {
			boxes[name] = &mailbox{name: name, messages: map[string]*message{}}
		}
		return boxes[name]
	}
	for _, op := range ops {
		if op.Outcome == Refused {
			continue
		}
		b := box(op.Mailbox)
		switch op.Kind {
		case Deliver, Append:
			m := b.message(op.Message)
			m.creates = append(m.creates, &create{op: op, uid: op.NewUID, flags: op.Flags, known: true})
		case Store, Expunge:
			m := b.message(op.Message)
			m.changes = append(m.changes, op)
		case Copy, Move:
			if op.Kind == Move {
				m := b.message(op.Message)
				m.changes = append(m.changes, op)
			}
			to := box(op.To).message(op.Message)
			to.creates = append(to.creates, &create{op: op, uid: op.NewUID})
		case Read, Base:
			b.read(op)
		}
	}
	out := make([]*mailbox, 0, len(boxes))
	for _, b := range boxes {
		b.index()
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *mailbox) int { return cmp.Compare(a.name, b.name) })
	return out
}

func (b *mailbox) message(id string) *message {
	m := b.messages[id]
	if m == nil {
		m = &message{id: id}
		b.messages[id] = m
	}
	return m
}

// read takes a reading in. What was there before the history began was put there by nobody that it knows.
func (b *mailbox) read(op *Op) {
	if op.Outcome != OK || op.Reading == nil {
		return
	}
	for i := range op.Reading.Messages {
		s := &op.Reading.Messages[i]
		m := b.message(s.ID)
		if op.Kind == Base {
			m.creates = append(m.creates, &create{op: op, uid: s.UID, flags: s.Flags, known: true, base: true})
		}
		m.shown = append(m.shown, sight{len(b.readings), s})
	}
	b.readings = append(b.readings, op)
}

// index finds each message's UIDs, and until when readings had ended.
func (b *mailbox) index() {
	latest := time.Duration(0)
	for _, r := range b.readings {
		latest = max(latest, r.Return)
		b.latest = append(b.latest, latest)
	}
	for _, m := range b.messages {
		for _, s := range m.shown {
			if !b.readings[s.reading].Reading.NoUIDs {
				m.uids = append(m.uids, s.seen.UID)
			}
		}
		for _, c := range m.creates {
			if c.uid != 0 {
				m.uids = append(m.uids, c.uid)
			}
		}
		slices.Sort(m.uids)
		m.uids = slices.Compact(m.uids)
		for _, op := range m.changes {
			if _, known := slices.BinarySearch(m.uids, op.UID); !known {
				m.uids = append(m.uids, op.UID)
				slices.Sort(m.uids)
			}
		}
	}
}

// sorted gives the messages in an order that does not change from run to run.
func (b *mailbox) sorted() []*message {
	if b.ordered != nil {
		return b.ordered
	}
	out := make([]*message, 0, len(b.messages))
	for _, m := range b.messages {
		out = append(out, m)
	}
	slices.SortFunc(out, func(x, y *message) int {
		if c := cmp.Compare(x.begins(), y.begins()); c != 0 {
			return c
		}
		return cmp.Compare(x.id, y.id)
	})
	b.ordered = out
	return out
}

// begins is when the message can have been there at the earliest.
func (m *message) begins() time.Duration {
	first := forever
	for _, c := range m.creates {
		first = min(first, c.op.Call)
	}
	return first
}

// settles is when the last of its operations had taken effect, as far as that is known.
func (m *message) settles() time.Duration {
	last := time.Duration(0)
	for _, c := range m.creates {
		if c.op.Outcome == OK {
			last = max(last, c.op.Return)
		}
	}
	for _, op := range m.changes {
		if op.Outcome == OK {
			last = max(last, op.Return)
		}
	}
	return last
}

// relevant lists the readings that say something about the message: all that show it, and those that do not from its beginning
// until the first that was begun after everything had settled.
func (b *mailbox) relevant(m *message) []int {
	begins, settles := m.begins(), m.settles()
	var out []int
	shown := m.shown
	first := sort.Search(len(b.readings), func(i int) bool { return b.latest[i] >= begins })
	settled := false
	for i := first; i < len(b.readings); i++ {
		for len(shown) > 0 && shown[0].reading < i {
			shown = shown[1:]
		}
		switch r := b.readings[i]; {
		case len(shown) > 0 && shown[0].reading == i:
			out = append(out, i)
		case settled && len(shown) == 0:
			return out
		case settled || r.Return < begins:
		default:
			out = append(out, i)
			settled = r.Call > settles
		}
	}
	return out
}
