package exercise

import (
	"context"
	"fmt"
	"math/rand/v2"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/cluster/pause"
)

// client is one of those that work on the mailboxes. Its connections are its own.
type client struct {
	*run
	name     string
	random   *rand.Rand
	sessions map[string]*session // by node and account
	senders  map[string]*sender  // by node and protocol
}

// How often a change is followed by a reading on another node at once, and a delivery without an answer by another attempt, in percent.
const (
	readAfter  = 60
	tryAgain   = 50
	manyChance = 15 // of a delivery to two accounts
)

// flags that are set and cleared. The last one has UID EXPUNGE take a message.
var flags = []goimap.Flag{goimap.FlagSeen, goimap.FlagAnswered, goimap.FlagFlagged, "$Blue", "$Green"}

// did is how far a step came.
type did int

const (
	nothing did = iota // no node could be reached
	tried              // also a reading
	changed            // and acknowledged
)

// work does one operation after the other.
func (c *client) work(ctx context.Context) {
	defer c.hangUp()
	for c.pace.Wait(ctx) == nil && ctx.Err() == nil {
		b := c.boxes[c.random.IntN(len(c.boxes))]
		n := c.node(c.random, "")
		what := c.step(n, b)
		if what == changed && c.random.IntN(100) < readAfter {
			c.read(c.node(c.random, n.ID), b)
		}
		if what == nothing && !pause.For(ctx, idlePause) {
			return
		}
	}
}

func (c *client) hangUp() {
	for _, s := range c.sessions {
		s.close()
	}
	for _, s := range c.senders {
		s.close()
	}
}

// step does one operation on a mailbox or into it.
func (c *client) step(n load.Node, b *box) did {
	c.mu.Lock()
	known := b.known
	c.mu.Unlock()
	chance := c.random.IntN(100)
	switch {
	case len(known) == 0:
		chance %= 45
	case len(known) > c.o.Keep && chance < 45:
		return c.clear(n, b, known)
	}
	switch {
	case chance < 8:
		return c.read(n, b)
	case chance < 10:
		return c.readPOP3(n, b)
	case chance < 35 && b.folder == "INBOX":
		return c.deliver(n, b)
	case chance < 45:
		return c.append(n, b)
	case chance < 80:
		return c.store(n, b, c.one(known))
	case chance < 88:
		return c.expunge(n, b, c.one(known))
	}
	return c.carry(n, b, c.one(known), chance < 94)
}

func (c *client) one(known []history.Seen) history.Seen { return known[c.random.IntN(len(known))] }

// clear makes room: an older message goes.
func (c *client) clear(n load.Node, b *box, known []history.Seen) did {
	m := known[c.random.IntN(len(known)/2+1)]
	if b.folder == "INBOX" && c.random.IntN(2) == 0 {
		return c.carry(n, b, m, true)
	}
	return c.expunge(n, b, m)
}

// session gives a connection to a node that is logged in to a mailbox's account, or nil.
func (c *client) session(n load.Node, b *box) *session {
	key := n.ID + " " + b.account.Address
	if s := c.sessions[key]; s != nil && !s.dead {
		return s
	} else if s != nil {
		s.close()
		delete(c.sessions, key)
	}
	s, err := dialIMAP(c.o.Target, n, b.account, c.o.Timeout)
	if err != nil {
		c.failed(n, err)
		return nil
	}
	c.sessions[key] = s
	return s
}

// op is an operation on a mailbox as it begins.
func (c *client) op(n load.Node, kind history.Kind, b *box) history.Op {
	return history.Op{Client: c.name, Node: n.ID, Kind: kind, Mailbox: b.name}
}

// end notes how an IMAP command ended.
func (c *client) end(call *history.Call, s *session, err error, newUID uint32) did {
	o := history.IMAPOutcome(s.did(err))
	call.End(history.Result{Outcome: o, Err: err, NewUID: newUID})
	return c.tell(o)
}

// tell counts an outcome.
func (c *client) tell(o history.Outcome) did {
	c.count(o, false)
	if o == history.OK {
		return changed
	}
	return tried
}

// read takes a fresh reading.
func (c *client) read(n load.Node, b *box) did {
	s := c.session(n, b)
	if s == nil {
		return nothing
	}
	reading, err := s.note(c.o.History, c.op(n, history.Read, b), b.folder, false)
	if err != nil {
		c.o.Log.Debug("reading failed", "node", n.ID, "mailbox", b.name, "error", err)
		c.count(history.Unknown, true)
		return tried
	}
	c.learn(b, reading)
	c.count(history.OK, true)
	return tried
}

// readPOP3 lists an INBOX by POP3, where that is served.
func (c *client) readPOP3(n load.Node, b *box) did {
	if b.folder != "INBOX" || n.POP3 == "" && n.POP3S == "" {
		return c.read(n, b)
	}
	call := c.o.History.Begin(c.op(n, history.Read, b))
	reading, err := readPOP3(c.o.Target, n, b.account, c.o.Timeout)
	r := history.Result{Outcome: history.OK, Err: err, Reading: reading}
	if err != nil {
		c.o.Log.Debug("reading by POP3 failed", "node", n.ID, "mailbox", b.name, "error", err)
		r.Outcome, r.Reading = history.Unknown, nil
	}
	call.End(r)
	c.count(r.Outcome, true)
	return tried
}

// fresh makes a message that was never sent.
func (c *client) fresh() (id string, raw []byte) {
	c.mu.Lock()
	c.serial++
	id = fmt.Sprintf("<%s.%d@exercise.test>", c.o.Tag, c.serial)
	c.mu.Unlock()
	return id, message(id, c.name, 1+c.random.IntN(40))
}

// enter notes that a message goes into a mailbox; false if it did before, or may have.
func (c *client) enter(b *box, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.put[id] {
		return false
	}
	b.put[id] = true
	return true
}
