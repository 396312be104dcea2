// Package history holds what clients of a mail system were told against what readers find, and shows the shortest piece of the history
// in which the two do not go together.
//
// Clients note every operation before its first byte is sent, and how it ended after the answer: ok, refused (nothing happened) or
// unknown (no answer, or one that leaves it open: it may take effect at any later time, or never). Readings, each a fresh SELECT and
// FETCH by some node, are operations too. Check finds what breaks one of these rules:
//
//	lost         what was acknowledged is there
//	stale        a mailbox that is selected after an acknowledgement shows what was acknowledged, through whichever node
//	changed      byte for byte, below the trace header (RFC 5321 section 4.4)
//	doubled      once for each attempt that was not refused, at most
//	foreign      nothing is there that nobody sent
//	resurrected  what was expunged or moved away stays away
//	flags        as the operations on them leave them, in an order that their intervals allow
//	order        UIDs ascend, in one reading and from one delivery to the next (RFC 9051 section 2.3.1.1)
//	renamed      a UID never names two messages, in any reading by any node at any time
//	validity     UIDVALIDITY stays
//	uidnext      UIDNEXT lies beyond every UID, and never falls
//	modseq       never falls, and grows with every change of flags (RFC 7162 section 3.1), where the server has it
//
// One message in one mailbox is one object: what was done to it and all readings of it must fit a sequential order, which porcupine
// searches. Linearizability is local (Herlihy and Wing, 1990), so nothing is missed by looking at messages one by one; and IMAP promises
// no more, since other clients may come between a SELECT and its FETCH. Their common order is that of UIDs, which has its own rules.
// A search that takes too long is reported as undecided, which is not a pass.
//
// Hashes are kept, not bytes, in memory only: about 300 bytes for an operation, and 60 for each message in a reading. Nothing is left
// by a crash but what Save wrote.
package history

import (
	"slices"
	"sync"
	"time"
)

// History is safe for concurrent use.
type History struct {
	began time.Time

	mu    sync.Mutex // guards what follows
	ops   []*Op      // in the order in which they were noted; one that has ended is not changed any more
	open  map[*Op]bool
	names map[string]string // every string once
	tried map[sending]*Call // see Try
}

// New returns an empty history whose clock begins now.
func New() *History { return at(time.Now()) }

func at(began time.Time) *History {
	return &History{began: began, open: map[*Op]bool{}, names: map[string]string{}, tried: map[sending]*Call{}}
}

// Now is the time since the history began.
func (h *History) Now() time.Duration { return time.Since(h.began) }

// Call is an operation under way.
type Call struct {
	h  *History
	op *Op
}

// Result is how an operation ended.
type Result struct {
	Outcome Outcome
	Err     error    // what was answered instead of yes
	NewUID  uint32   // from APPENDUID or COPYUID, else 0
	Reading *Reading // of a Read or Base that is OK
}

// Begin notes an operation that is about to be sent.
func (h *History) Begin(op Op) *Call {
	op.Call = h.Now()
	op.Outcome = Unknown
	kept := &op
	h.mu.Lock()
	defer h.mu.Unlock()
	h.intern(kept)
	h.ops = append(h.ops, kept)
	h.open[kept] = true
	return &Call{h, kept}
}

// End notes how the operation ended. Only the first call counts.
func (c *Call) End(r Result) {
	now := c.h.Now()
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if !c.h.open[c.op] {
		return
	}
	delete(c.h.open, c.op)
	c.op.Return, c.op.Outcome, c.op.NewUID, c.op.Reading = now, r.Outcome, r.NewUID, r.Reading
	if r.Err != nil {
		c.op.Answer = cut(r.Err.Error())
	}
	c.h.intern(c.op)
}

// Add notes a whole operation with the times that it has.
func (h *History) Add(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Answer = cut(op.Answer)
	h.intern(&op)
	h.ops = append(h.ops, &op)
}

// intern has equal strings share their bytes.
func (h *History) intern(op *Op) {
	one := func(s string) string {
		if s == "" {
			return ""
		}
		if had, ok := h.names[s]; ok {
			return had
		}
		h.names[s] = s
		return s
	}
	op.Client, op.Node, op.Mailbox, op.To, op.Message = one(op.Client), one(op.Node), one(op.Mailbox), one(op.To), one(op.Message)
	op.Answer, op.Flags = one(op.Answer), Flags(one(string(op.Flags)))
	if op.Reading == nil {
		return
	}
	for i := range op.Reading.Messages {
		m := &op.Reading.Messages[i]
		m.ID, m.Flags = one(m.ID), Flags(one(string(m.Flags)))
	}
}

// snapshot gives all operations by the time of their calls, each as it is now.
func (h *History) snapshot() []*Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := slices.Clone(h.ops)
	for i, op := range ops {
		if h.open[op] {
			still := *op
			ops[i] = &still
		}
	}
	slices.SortStableFunc(ops, func(a, b *Op) int { return int(a.Call - b.Call) })
	return ops
}

// Len counts the operations.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Acknowledged counts the messages that are owed: deliveries and appends that were taken on.
func (h *History) Acknowledged() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, op := range h.ops {
		if op.Outcome == OK && (op.Kind == Deliver || op.Kind == Append) {
			n++
		}
	}
	return n
}

// Mailboxes lists the mailboxes that operations named, sorted.
func (h *History) Mailboxes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, op := range h.ops {
		out = append(out, op.Mailbox)
		if op.To != "" {
			out = append(out, op.To)
		}
		if len(out) > 1000 {
			slices.Sort(out)
			out = slices.Compact(out)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
