package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// reference is a mailbox in memory, and the history of many clients that work on it. Every operation takes effect at one moment of its
// interval; the intervals overlap.
type reference struct {
	r       *rand.Rand
	h       *History
	now     time.Duration
	boxes   map[string]*refBox
	serial  int
	overlap bool
}

type refBox struct {
	next     uint32
	modseq   uint64
	messages []Seen
}

const (
	inbox = "u/INBOX"
	other = "u/Other"
)

var someFlags = []string{`\Seen`, `\Flagged`, `\Answered`, "$blue", deleted}

// execution makes a correct history.
func execution(seed uint64, steps int) *History {
	x := &reference{r: rand.New(rand.NewPCG(seed, 1)), h: at(time.Unix(1_700_000_000, 0)), overlap: seed%4 != 0,
		boxes: map[string]*refBox{inbox: {next: 1, modseq: 1}, other: {next: 1, modseq: 1}}}
	for range steps {
		x.step()
	}
	for range 2 {
		x.overlap = false
		x.read(inbox)
		x.read(other)
	}
	return x.h
}

// interval is around now; the effect is at now.
func (x *reference) interval(op *Op) {
	x.now += time.Duration(1+x.r.IntN(1000)) * time.Microsecond
	reach := 1
	if x.overlap {
		reach = 5000
	}
	op.Client, op.Node = fmt.Sprintf("c%d", x.r.IntN(4)), fmt.Sprintf("n%d", x.r.IntN(3))
	before := time.Duration(x.r.IntN(reach)) * time.Microsecond
	op.Call = max(0, x.now-before)
	op.Return = x.now + time.Duration(x.r.IntN(reach))*time.Microsecond
	op.Outcome = OK
	if x.r.IntN(20) == 0 && op.Kind != Read {
		op.Outcome, op.NewUID = Unknown, 0
	}
}

// effect says whether an operation has one: without an answer maybe not.
func (x *reference) effect(op *Op) bool { return op.Outcome == OK || x.r.IntN(2) == 0 }

func (x *reference) step() {
	name := inbox
	if x.r.IntN(3) == 0 {
		name = other
	}
	b := x.boxes[name]
	chance := x.r.IntN(100)
	if len(b.messages) == 0 {
		chance %= 50
	}
	switch {
	case chance < 25:
		x.read(name)
	case chance < 40:
		x.deliver(name)
	case chance < 50:
		x.append(name)
	case chance < 80:
		x.store(name, x.r.IntN(len(b.messages)))
	case chance < 90:
		x.expunge(name, x.r.IntN(len(b.messages)))
	default:
		x.carry(x.r.IntN(100) < 50)
	}
}

func (b *refBox) add(id string, f Flags, hash Hash) uint32 {
	b.modseq++
	b.messages = append(b.messages, Seen{ID: id, UID: b.next, Flags: f, ModSeq: b.modseq, Hash: hash})
	b.next++
	return b.next - 1
}

func (x *reference) read(name string) {
	op := Op{Kind: Read, Mailbox: name}
	x.interval(&op)
	b := x.boxes[name]
	op.Reading = &Reading{UIDValidity: 7, UIDNext: b.next, HighestModSeq: b.modseq, Messages: slices.Clone(b.messages)}
	x.h.Add(op)
}

func (x *reference) fresh() (string, Hash) {
	x.serial++
	id := fmt.Sprintf("<%d@x>", x.serial)
	return id, Sum([]byte(id))
}

// deliver has one attempt, or two when the first had no answer.
func (x *reference) deliver(name string) {
	id, hash := x.fresh()
	for {
		op := Op{Kind: Deliver, Mailbox: name, Message: id, Hash: hash}
		x.interval(&op)
		if x.effect(&op) {
			x.boxes[name].add(id, "", hash)
		}
		x.h.Add(op)
		if op.Outcome == OK || x.r.IntN(2) == 0 {
			return
		}
	}
}

func (x *reference) append(name string) {
	id, hash := x.fresh()
	op := Op{Kind: Append, Mailbox: name, Message: id, Hash: hash, Flags: NewFlags(someFlags[x.r.IntN(4)])}
	x.interval(&op)
	if x.effect(&op) {
		uid := x.boxes[name].add(id, op.Flags, hash)
		if op.Outcome == OK {
			op.NewUID = uid
		}
	}
	x.h.Add(op)
}

func (x *reference) store(name string, i int) {
	b := x.boxes[name]
	m := &b.messages[i]
	op := Op{Kind: Store, Mailbox: name, Message: m.ID, UID: m.UID, Flags: NewFlags(someFlags[x.r.IntN(5)]),
		Change: []Change{Add, Remove, Replace}[x.r.IntN(3)]}
	x.interval(&op)
	if x.effect(&op) {
		if f := apply(m.Flags, op.Change, op.Flags); f != m.Flags {
			b.modseq++
			m.Flags, m.ModSeq = f, b.modseq
		}
	}
	x.h.Add(op)
}

func apply(had Flags, c Change, f Flags) Flags {
	switch c {
	case Add:
		return NewFlags(append(had.List(), f.List()...)...)
	case Remove:
		return NewFlags(slices.DeleteFunc(had.List(), func(n string) bool { return slices.Contains(f.List(), n) })...)
	}
	return f
}

func (x *reference) expunge(name string, i int) {
	b := x.boxes[name]
	m := b.messages[i]
	op := Op{Kind: Expunge, Mailbox: name, Message: m.ID, UID: m.UID}
	x.interval(&op)
	if x.effect(&op) && slices.Contains(m.Flags.List(), deleted) {
		b.messages = slices.Delete(b.messages, i, i+1)
		b.modseq++
	}
	x.h.Add(op)
}

// carry copies or moves a message from INBOX to the other mailbox, if it is not there.
func (x *reference) carry(move bool) {
	from, to := x.boxes[inbox], x.boxes[other]
	if len(from.messages) == 0 {
		return
	}
	i := x.r.IntN(len(from.messages))
	m := from.messages[i]
	if !move && slices.ContainsFunc(to.messages, func(s Seen) bool { return s.ID == m.ID }) {
		return
	}
	op := Op{Kind: Copy, Mailbox: inbox, To: other, Message: m.ID, UID: m.UID}
	if move {
		op.Kind = Move
	}
	x.interval(&op)
	if x.effect(&op) {
		uid := to.add(m.ID, m.Flags, m.Hash)
		if op.Outcome == OK {
			op.NewUID = uid
		}
		if move {
			from.messages = slices.Delete(from.messages, i, i+1)
			from.modseq++
		}
	}
	x.h.Add(op)
}

// TestCorrectExecutionsPass: whatever order the clients' operations had, it is found.
func TestCorrectExecutionsPass(t *testing.T) {
	for seed := range uint64(300) {
		h := execution(seed, 120)
		for _, v := range h.Check(context.Background(), CheckOptions{}) {
			t.Fatalf("seed %d: %v", seed, v)
		}
	}
}

// mutations are what a broken server may do to a correct history. Each says whether it found something to break.
var mutations = []struct {
	name  string
	rules string
	apply func(r *rand.Rand, ops []*Op) bool
}{
	{"drop a delivery", "lost", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		return m != nil && dropFrom(ops, last.Mailbox, *m)
	}},
	{"duplicate", "doubled", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		if m == nil || attemptsOf(ops, last.Mailbox, m.ID) != 1 {
			return false
		}
		again := *m
		again.UID = last.Reading.UIDNext
		last.Reading.UIDNext++
		last.Reading.Messages = append(last.Reading.Messages, again)
		return true
	}},
	{"swap two UIDs", "renamed order", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		if m == nil || len(last.Reading.Messages) < 2 || len(seen(ops, last.Mailbox, *m)) < 2 {
			return false
		}
		i := slices.IndexFunc(last.Reading.Messages, func(s Seen) bool { return s.UID == m.UID })
		j := (i + 1) % len(last.Reading.Messages)
		a, b := &last.Reading.Messages[i], &last.Reading.Messages[j]
		a.ID, b.ID, a.Hash, b.Hash = b.ID, a.ID, b.Hash, a.Hash
		return true
	}},
	{"stale reading", "stale lost flags resurrected uidnext modseq", func(r *rand.Rand, ops []*Op) bool {
		readings := all(ops, func(op *Op) bool { return op.Kind == Read && op.Mailbox == inbox })
		last := readings[len(readings)-1]
		stale := *readings[len(readings)/2].Reading
		owed := slices.ContainsFunc(last.Reading.Messages, func(s Seen) bool {
			return !slices.ContainsFunc(stale.Messages, func(old Seen) bool { return old.UID == s.UID })
		})
		stale.UIDNext, stale.HighestModSeq = 0, 0
		last.Reading = &stale
		return owed
	}},
	{"lost flag", "flags modseq", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		if m == nil || m.Flags == "" {
			return false
		}
		m.Flags = ""
		m.ModSeq = 0
		return !excusable(ops, last.Mailbox, *m)
	}},
	{"resurrected", "resurrected flags order doubled", func(r *rand.Rand, ops []*Op) bool {
		for _, op := range ops {
			if op.Kind != Move || op.Outcome != OK {
				continue
			}
			reads := all(ops, func(x *Op) bool { return x.Kind == Read && x.Mailbox == op.Mailbox && x.Call > op.Return })
			last := reads[len(reads)-1]
			back := append(last.Reading.Messages, Seen{ID: op.Message, UID: op.UID})
			slices.SortFunc(back, func(a, b Seen) int { return int(a.UID) - int(b.UID) })
			last.Reading.Messages = back
			return true
		}
		return false
	}},
	{"modseq going back", "modseq", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		if m == nil || m.ModSeq < 2 || len(seen(ops, last.Mailbox, *m)) < 2 {
			return false
		}
		m.ModSeq--
		return true
	}},
	{"other bytes", "changed renamed", func(r *rand.Rand, ops []*Op) bool {
		_, m := someLast(r, ops)
		if m == nil {
			return false
		}
		m.Hash[0]++
		return true
	}},
	{"foreign", "foreign", func(r *rand.Rand, ops []*Op) bool {
		last, m := someLast(r, ops)
		if m == nil {
			return false
		}
		last.Reading.Messages = append(last.Reading.Messages, Seen{ID: "<nobody>", UID: last.Reading.UIDNext})
		last.Reading.UIDNext++
		return true
	}},
}

func all(ops []*Op, ok func(*Op) bool) []*Op {
	return slices.DeleteFunc(slices.Clone(ops), func(op *Op) bool { return !ok(op) })
}

// someLast picks a message of the last reading of a mailbox.
func someLast(r *rand.Rand, ops []*Op) (*Op, *Seen) {
	name := []string{inbox, other}[r.IntN(2)]
	reads := all(ops, func(op *Op) bool { return op.Kind == Read && op.Mailbox == name })
	last := reads[len(reads)-1]
	if len(last.Reading.Messages) == 0 {
		return last, nil
	}
	return last, &last.Reading.Messages[r.IntN(len(last.Reading.Messages))]
}

// seen are the readings that show a message.
func seen(ops []*Op, name string, m Seen) []*Op {
	return all(ops, func(op *Op) bool {
		return op.Kind == Read && op.Mailbox == name && slices.ContainsFunc(op.Reading.Messages, func(s Seen) bool { return s.UID == m.UID })
	})
}

func attemptsOf(ops []*Op, name, id string) int {
	return len(all(ops, func(op *Op) bool {
		return op.Message == id && (op.Kind == Deliver || op.Kind == Append) && op.Mailbox == name || op.To == name && op.Message == id
	}))
}

// dropFrom takes a message out of the last two readings, if nobody can have removed it.
func dropFrom(ops []*Op, name string, m Seen) bool {
	if excusable(ops, name, m) || len(seen(ops, name, m)) < 3 {
		return false
	}
	reads := seen(ops, name, m)
	for _, r := range reads[len(reads)-2:] {
		r.Reading.Messages = slices.DeleteFunc(slices.Clone(r.Reading.Messages), func(s Seen) bool { return s.UID == m.UID })
	}
	return true
}

// excusable: an operation without an answer may be the reason.
func excusable(ops []*Op, name string, m Seen) bool {
	return slices.ContainsFunc(ops, func(op *Op) bool { return op.Mailbox == name && op.UID == m.UID && op.Outcome != OK })
}

// TestMutationsAreRejected breaks correct histories.
func TestMutationsAreRejected(t *testing.T) {
	for _, tt := range mutations {
		t.Run(tt.name, func(t *testing.T) {
			broken := 0
			for seed := uint64(0); seed < 60; seed++ {
				h := execution(seed, 80)
				ops := h.snapshot()
				if !tt.apply(rand.New(rand.NewPCG(seed, 2)), ops) {
					continue
				}
				broken++
				found := h.Check(context.Background(), CheckOptions{})
				if len(found) == 0 {
					t.Errorf("seed %d: passed", seed)
				} else if !strings.Contains(tt.rules, found[0].Rule) {
					t.Errorf("seed %d: %v", seed, found[0])
				}
			}
			if broken < 10 {
				t.Errorf("only %d of 60 histories could be broken", broken)
			}
		})
	}
}
