package history

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// CheckOptions bound a check.
type CheckOptions struct {
	Patience time.Duration // for the search of one message's order; 0 is 5 s
}

const defaultPatience = 5 * time.Second

// Violation is a rule that is broken, with the operations that show it.
type Violation struct {
	Rule    string // one of those in the package's comment, or "undecided"
	Mailbox string
	Message string // its Message-ID, if the rule is about one
	Text    string
	Ops     []Op // by call; their readings hold what matters only
	More    int  // how many further ones of this rule in this mailbox are not listed

	began time.Time
}

// Error is the violation in a line.
func (v Violation) Error() string { return fmt.Sprintf("%s: %s: %s", v.Mailbox, v.Rule, v.Text) }

// enough is how many violations of one rule in one mailbox a person wants to read.
const enough = 5

// checker checks one history.
type checker struct {
	o      CheckOptions
	ctx    context.Context
	began  time.Time
	hashes map[string]Hash // of what was sent, by Message-ID
	found  []Violation
	count  map[[2]string]int // violations by mailbox and rule
}

// Check holds everything noted so far against the rules, and lists those that are broken, mailbox by mailbox. Operations under way count as
// unknown. When ctx ends, what was not looked at is reported as undecided.
func (h *History) Check(ctx context.Context, o CheckOptions) []Violation {
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	ops := h.snapshot()
	c := &checker{o: o, ctx: ctx, began: h.began, hashes: map[string]Hash{}, count: map[[2]string]int{}}
	for _, op := range ops {
		if op.Hash != (Hash{}) && c.hashes[op.Message] == (Hash{}) {
			c.hashes[op.Message] = op.Hash
		}
	}
	for _, b := range assort(ops) {
		c.readings(b)
		c.names(b)
		c.order(b)
		c.modseqs(b)
		c.messages(b)
	}
	for i := range c.found {
		v := &c.found[i]
		if at := [2]string{v.Mailbox, v.Rule}; c.count[at] > enough {
			v.More, c.count[at] = c.count[at]-enough, 0
		}
	}
	return c.found
}

// broken notes a violation.
func (c *checker) broken(rule string, b *mailbox, id, text string, ops ...*Op) {
	at := [2]string{b.name, rule}
	if c.count[at]++; c.count[at] > enough {
		return
	}
	v := Violation{Rule: rule, Mailbox: b.name, Message: id, Text: text, began: c.began}
	slices.SortStableFunc(ops, func(x, y *Op) int { return cmp.Compare(x.Call, y.Call) })
	for _, op := range slices.Compact(ops) {
		v.Ops = append(v.Ops, brief(op, id))
	}
	c.found = append(c.found, v)
}

// brief is an operation with only what its reading has of one message.
func brief(op *Op, id string) Op {
	short := *op
	if op.Reading == nil {
		return short
	}
	r := *op.Reading
	r.Messages = nil
	for _, s := range op.Reading.Messages {
		if s.ID == id {
			r.Messages = append(r.Messages, s)
		}
	}
	r.Others = op.Reading.Others + len(op.Reading.Messages) - len(r.Messages)
	short.Reading = &r
	return short
}

// messages checks each message of a mailbox by itself.
func (c *checker) messages(b *mailbox) {
	for _, m := range b.sorted() {
		if err := c.ctx.Err(); err != nil {
			c.broken("undecided", b, "", fmt.Sprintf("the check was ended before it was through: %v", err))
			return
		}
		c.content(b, m)
		if !m.spoiled {
			c.copies(b, m)
		}
		if !m.spoiled {
			c.life(b, m)
		}
	}
}

// content is the rule "changed".
func (c *checker) content(b *mailbox, m *message) {
	sent := c.hashes[m.id]
	if sent == (Hash{}) {
		return
	}
	for _, s := range m.shown {
		if s.seen.Hash != (Hash{}) && s.seen.Hash != sent {
			c.broken("changed", b, m.id, fmt.Sprintf("%s (UID %d) is not what was sent", m.id, s.seen.UID),
				append(m.attempts(), b.readings[s.reading])...)
			return
		}
	}
}

// attempts are the operations that may have put the message there.
func (m *message) attempts() []*Op {
	var out []*Op
	for _, cr := range m.creates {
		out = append(out, cr.op)
	}
	return out
}

// copies are the rules "foreign" and "doubled".
func (c *checker) copies(b *mailbox, m *message) {
	begins := m.begins()
	seen := map[uint32]bool{}
	for _, cr := range m.creates {
		if cr.uid != 0 && !cr.base {
			seen[cr.uid] = true
		}
	}
	var first []*Op // of the readings that show another copy
	for _, s := range m.shown {
		r := b.readings[s.reading]
		if r.Return < begins {
			text := fmt.Sprintf("%s (UID %d) was sent by nobody", m.id, s.seen.UID)
			if len(m.creates) > 0 {
				text = fmt.Sprintf("%s (UID %d) is there before it was sent", m.id, s.seen.UID)
			}
			c.broken("foreign", b, m.id, text, append(m.attempts(), r)...)
			m.spoiled = true
			return
		}
		if r.Reading.NoUIDs {
			if n := m.copiesIn(s.reading); n > len(m.creates) {
				c.broken("doubled", b, m.id, fmt.Sprintf("%s is there %d times after %s", m.id, n, attempts(len(m.creates))), append(m.attempts(), r)...)
				m.spoiled = true
				return
			}
			continue
		}
		if seen[s.seen.UID] {
			continue
		}
		seen[s.seen.UID] = true
		if first = append(first, r); len(seen) > len(m.creates) {
			c.broken("doubled", b, m.id, fmt.Sprintf("%s has had %d UIDs after %s", m.id, len(seen), attempts(len(m.creates))),
				append(m.attempts(), b.fewest(m, first)...)...)
			m.spoiled = true
			return
		}
	}
}

// copiesIn counts how often a reading shows the message.
func (m *message) copiesIn(reading int) int {
	n := 0
	for _, s := range m.shown {
		if s.reading == reading {
			n++
		}
	}
	return n
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// fewest is the last of the readings, if that shows the message as often as all of them together.
func (b *mailbox) fewest(m *message, readings []*Op) []*Op {
	last := readings[len(readings)-1]
	n := 0
	for _, s := range m.shown {
		if b.readings[s.reading] == last {
			n++
		}
	}
	if n >= len(readings) {
		return []*Op{last}
	}
	return slices.Clone(readings)
}
