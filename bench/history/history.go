// Package history holds what senders were told against what readers find.
//
// Senders note every attempt before they make it, and every acknowledgement after they got it; a reader then shows the mailboxes as one
// node serves them. The rules, each of which Check names when it is broken:
//
//	lost      what was acknowledged is there
//	changed   byte for byte, below the trace header (RFC 5321 section 4.4)
//	doubled   at most once for each attempt: a sender that got no answer tries again, and both may have been taken
//	foreign   nothing is there that nobody sent
//	order     UIDs ascend, and UIDVALIDITY stays
//	renamed   a UID never names two messages, in any reading by any node at any time (RFC 9051 section 2.3.1.1)
//
// It keeps hashes, not bytes, in memory only.
package history

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
)

// History is safe for concurrent use.
type History struct {
	mu       sync.Mutex // guards what follows
	sent     map[key]*send
	named    map[uidKey][32]byte
	validity map[string]uint32
}

type key struct{ user, id string }

type uidKey struct {
	user string
	uid  uint32
}

type send struct {
	hash  [32]byte
	tries int
	acked bool
}

// Message is one that a reader found. ID is its Message-ID, by which attempts are told apart.
type Message struct {
	ID  string
	UID uint32
	Raw []byte
}

// Mailbox is what a reader found in one user's mailbox, in the order it was served.
type Mailbox struct {
	User        string
	UIDValidity uint32
	Messages    []Message
}

// New returns an empty history.
func New() *History {
	return &History{sent: map[key]*send{}, named: map[uidKey][32]byte{}, validity: map[string]uint32{}}
}

// Try notes that the message is about to be sent to the user, for the first time or again.
func (h *History) Try(user, id string, raw []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sent[key{user, id}]
	if s == nil {
		s = &send{hash: sha256.Sum256(raw)}
		h.sent[key{user, id}] = s
	}
	s.tries++
}

// Acknowledge notes that a server took the message on for the user.
func (h *History) Acknowledge(user, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sent[key{user, id}]; s != nil {
		s.acked = true
	}
}

// Acknowledged counts the messages that are owed.
func (h *History) Acknowledged() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.sent {
		if s.acked {
			n++
		}
	}
	return n
}

// Check holds one user's mailbox against everything noted so far, and lists the rules that are broken. No message
// may be on its way to the user meanwhile.
func (h *History) Check(m Mailbox) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := check{user: m.User}
	if was, ok := h.validity[m.User]; ok && was != m.UIDValidity {
		c.broken("order", "UIDVALIDITY was %d and is %d", was, m.UIDValidity)
	}
	h.validity[m.User] = m.UIDValidity
	copies, last := map[string]int{}, uint32(0)
	for _, msg := range m.Messages {
		if msg.UID <= last {
			c.broken("order", "UID %d follows %d", msg.UID, last)
		}
		last = msg.UID
		hash := sha256.Sum256(WithoutTrace(msg.Raw))
		if was, ok := h.named[uidKey{m.User, msg.UID}]; ok && was != hash {
			c.broken("renamed", "UID %d names %s now, and another message before", msg.UID, msg.ID)
		}
		h.named[uidKey{m.User, msg.UID}] = hash
		copies[msg.ID]++
		s := h.sent[key{m.User, msg.ID}]
		switch {
		case s == nil:
			c.broken("foreign", "%s (UID %d) was never sent", msg.ID, msg.UID)
		case s.hash != hash:
			c.broken("changed", "%s (UID %d) is not what was sent", msg.ID, msg.UID)
		}
	}
	for k, s := range h.sent {
		switch n := copies[k.id]; {
		case k.user != m.User:
		case s.acked && n == 0:
			c.broken("lost", "%s was acknowledged", k.id)
		case n > s.tries:
			c.broken("doubled", "%s is there %d times after %d attempts", k.id, n, s.tries)
		}
	}
	return c.errs
}

// check collects broken rules of one mailbox, as many as a person wants to read.
type check struct {
	user string
	errs []error
}

func (c *check) broken(rule, format string, args ...any) {
	const enough = 20
	if len(c.errs) < enough {
		c.errs = append(c.errs, fmt.Errorf("%s: %s: %s", c.user, rule, fmt.Sprintf(format, args...)))
	}
}

// WithoutTrace drops the fields that servers put in front of a message as they take it.
func WithoutTrace(raw []byte) []byte {
	for {
		name, _, ok := bytes.Cut(raw, []byte(":"))
		if !ok || !strings.EqualFold(string(name), "Received") && !strings.EqualFold(string(name), "Return-Path") {
			return raw
		}
		end := fieldEnd(raw)
		raw = raw[end:]
	}
}

// fieldEnd is the length of the first header field with its folded lines.
func fieldEnd(raw []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(raw[i:], '\n')
		if n < 0 {
			return len(raw)
		}
		i += n + 1
		if i == len(raw) || raw[i] != ' ' && raw[i] != '\t' {
			return i
		}
	}
}
