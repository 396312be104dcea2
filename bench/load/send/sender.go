// Package send brings messages to servers by SMTP and LMTP, over connections that are kept and made again after failures.
//
// The client is our own, of two small files: go-smtp's does not pipeline, so that each message costs three round trips more, and
// copies every body through a dot-stuffing writer and a text protocol reader. Client and servers of a bench often share a machine, and what
// the client burns is missing from what is measured: BenchmarkSender prints its CPU for a thousand messages, beside go-smtp's.
//
// Invariants: a recipient is acknowledged only by a reply of the server that answers the message itself (250 after the final dot; in LMTP
// one for each recipient). Every try is noted before its first byte goes out. A message is sent again by itself only when nothing of it
// had gone out, or with Until.
package send

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hongyan/bench/load"
	"hongyan/cluster/pause"
)

// Journal notes what senders do, for a history that is checked later. bench/history's History is one.
type Journal interface {
	// Try is called before the message is sent to the user, each time, once there is a server that has greeted.
	Try(user, id string, raw []byte)
	// Acknowledge is called when a server has taken the message on for the user.
	Acknowledge(user, id string)
}

// Protocol is SMTP or LMTP.
type Protocol string

// Protocols.
const (
	SMTP Protocol = "smtp"
	LMTP Protocol = "lmtp"
)

// Options say how to send. Only Protocol and Workers must be set.
type Options struct {
	Protocol Protocol
	Workers  int         // that call Send, numbered from 0
	Policy   load.Policy // Stick when empty
	// Until tries again, as a mail exchanger does, for those recipients that were not acknowledged and not refused for good, until none is
	// left or Patience is over: at the next node, or under Stick at the same.
	Until    bool
	Patience time.Duration // five minutes when zero
	Pause    time.Duration // between tries; 20 ms when zero
	Timeout  time.Duration // of one try; 30 s when zero
	// DialTimeout bounds the making of a connection; 2 s when zero.
	DialTimeout time.Duration
	Journal     Journal // may be nil
}

// Sender sends to a target's nodes that serve the protocol. Each worker has its connections; different workers may send at once.
type Sender struct {
	o       Options
	addrs   []string
	workers []worker
}

type worker struct {
	picker *load.Picker
	conns  []*conn // by node; nil where there is none
}

// New makes a sender. It does not connect yet.
func New(t load.Target, o Options) (*Sender, error) {
	s := &Sender{}
	for _, n := range t.Nodes {
		addr := n.SMTP
		if o.Protocol == LMTP {
			addr = n.LMTP
		}
		if addr != "" {
			s.addrs = append(s.addrs, addr)
		}
	}
	if o.Protocol != SMTP && o.Protocol != LMTP {
		return nil, fmt.Errorf("sender: protocol %q: want smtp or lmtp", o.Protocol)
	}
	if len(s.addrs) == 0 {
		return nil, fmt.Errorf("sender: target %s does not serve %s", t.Name, o.Protocol)
	}
	if o.Workers < 1 {
		return nil, errors.New("sender: no workers")
	}
	defaultTo(&o.Patience, 5*time.Minute)
	defaultTo(&o.Pause, 20*time.Millisecond)
	defaultTo(&o.Timeout, 30*time.Second)
	defaultTo(&o.DialTimeout, 2*time.Second)
	s.o, s.workers = o, make([]worker, o.Workers)
	for i := range s.workers {
		p, err := load.NewPicker(o.Policy, len(s.addrs), i)
		if err != nil {
			return nil, fmt.Errorf("sender: %w", err)
		}
		s.workers[i] = worker{picker: p, conns: make([]*conn, len(s.addrs))}
	}
	return s, nil
}

func defaultTo(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Close closes the connections. No worker may be sending.
func (s *Sender) Close() {
	for i := range s.workers {
		for node := range s.workers[i].conns {
			s.workers[i].drop(node)
		}
	}
}

// drop closes the connection to a node, if there is one.
func (w *worker) drop(node int) {
	if c := w.conns[node]; c != nil {
		c.close()
		w.conns[node] = nil
	}
}

// Send brings the message to its recipients, once, or until it is accepted. Nil means that each was acknowledged; else the error is that of
// the first who was not, and says how many were.
func (s *Sender) Send(ctx context.Context, number int, m *load.Message) error {
	if number < 0 || number >= len(s.workers) {
		return fmt.Errorf("send %s: worker %d of %d", m.ID, number, len(s.workers))
	}
	for _, a := range append([]string{m.From}, m.To...) {
		if strings.ContainsAny(a, "<> \r\n") {
			return fmt.Errorf("send %s: address %q has characters that would end it", m.ID, a)
		}
	}
	w := &s.workers[number]
	begun, pending := time.Now(), m.To
	var refused error // for good
	for {
		node := w.picker.Node()
		again, permanent, err := s.try(ctx, w, m, pending)
		if refused == nil {
			refused = permanent
		}
		pending = again
		if len(pending) == 0 {
			return wrap(m, refused)
		}
		if !s.o.Until || ctx.Err() != nil || time.Since(begun) > s.o.Patience {
			return wrap(m, err)
		}
		if w.picker.Node() == node {
			w.picker.Next()
		}
		pause.For(ctx, s.o.Pause)
	}
}

func wrap(m *load.Message, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("send %s: %w", m.ID, err)
}

// try sends the message once. again are the recipients for whom another try makes sense, with the first error of those; permanent is the first
// refusal for good.
func (s *Sender) try(ctx context.Context, w *worker, m *load.Message, to []string) (again []string, permanent, err error) {
	outcomes, connErr := s.attempt(ctx, w, m, to)
	w.picker.Done(connErr != nil)
	for i, o := range outcomes {
		switch {
		case o.acked:
			if s.o.Journal != nil {
				s.o.Journal.Acknowledge(to[i], m.ID)
			}
		case load.Classify(o.err) == load.Permanent:
			if permanent == nil {
				permanent = o.err
			}
		default:
			again = append(again, to[i])
			if err == nil {
				err = o.err
			}
		}
	}
	return again, permanent, err
}

// note enters a try in the journal: there is a connection, and something may go out. Where none could be made there was no try, of which a history
// would have to think that it may have succeeded.
func (s *Sender) note(m *load.Message, to []string) {
	if s.o.Journal == nil {
		return
	}
	raw := m.Raw()
	for _, u := range to {
		s.o.Journal.Try(u, m.ID, raw)
	}
}

// attempt is one conversation over the kept connection, or over a new one. A kept connection that turns out to be dead before the server said a
// word about this message, but for goodbye, is made again once: servers close idle connections, and a client cannot know.
func (s *Sender) attempt(ctx context.Context, w *worker, m *load.Message, to []string) ([]outcome, error) {
	node := w.picker.Node()
	for noted := false; ; noted = true {
		c := w.conns[node]
		kept := c != nil
		if !kept {
			var err error
			if c, err = dial(ctx, s.addrs[node], s.o); err != nil {
				outcomes := make([]outcome, len(to))
				settle(outcomes, err)
				return outcomes, err
			}
			w.conns[node] = c
		}
		if !noted {
			s.note(m, to)
		}
		outcomes, err := c.transact(ctx, m, to, s.o.Timeout)
		if err != nil {
			w.drop(node)
			if kept && c.replies == 0 && load.Classify(err) == load.Connection {
				continue
			}
		}
		return outcomes, err
	}
}
