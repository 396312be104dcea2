package read

import (
	"context"
	"errors"
	"fmt"

	"hongyan/bench/load"
)

// PoolOptions say how many sessions a pool keeps, and where.
type PoolOptions struct {
	Options
	Workers int         // that call Do, numbered from 0
	Policy  load.Policy // Stick when empty
}

// Pool keeps one IMAP session for each worker, logged in and with a mailbox selected, and makes it again after a failure.
type Pool struct {
	t       load.Target
	o       PoolOptions
	nodes   []int // that serve IMAP
	workers []seat
}

type seat struct {
	picker   *load.Picker
	s        *Session // nil when there is none
	node     int
	who      load.Account
	selected string
}

// NewPool makes a pool. It does not connect yet.
func NewPool(t load.Target, o PoolOptions) (*Pool, error) {
	if o.Workers < 1 {
		return nil, errors.New("pool of sessions: no workers")
	}
	o.fill()
	p := &Pool{t: t, o: o, workers: make([]seat, o.Workers)}
	for i, n := range t.Nodes {
		if n.IMAP != "" || n.IMAPS != "" && t.TLS != nil {
			p.nodes = append(p.nodes, i)
		}
	}
	if len(p.nodes) == 0 {
		return nil, fmt.Errorf("pool of sessions: target %s does not serve IMAP", t.Name)
	}
	for i := range p.workers {
		picker, err := load.NewPicker(o.Policy, len(p.nodes), i)
		if err != nil {
			return nil, fmt.Errorf("pool of sessions: %w", err)
		}
		p.workers[i].picker = picker
	}
	return p, nil
}

// Do runs f with the worker's session, which belongs to the account and has the mailbox selected; none is when that is empty. A session
// that exists is used; else one is made, and what that takes is part of the operation, as it is for a user. A kept session that died since it was
// last used is made again before f runs; f itself runs once.
func (p *Pool) Do(ctx context.Context, worker int, a load.Account, mailbox string, f func(context.Context, *Session) error) error {
	if worker < 0 || worker >= len(p.workers) {
		return fmt.Errorf("pool of sessions: worker %d of %d", worker, len(p.workers))
	}
	w := &p.workers[worker]
	err := p.seat(ctx, w, a, mailbox)
	if err == nil {
		err = f(ctx, w.s)
	}
	alive := w.s != nil && w.s.Alive()
	if !alive {
		w.leave()
	}
	w.picker.Done(!alive)
	return err
}

// seat makes the worker's session what Do promises.
func (p *Pool) seat(ctx context.Context, w *seat, a load.Account, mailbox string) error {
	node := p.nodes[w.picker.Node()]
	if w.s != nil && (!w.s.Alive() || w.who != a || w.node != node) {
		w.leave()
	}
	if w.s == nil {
		s, err := DialIMAP(ctx, p.t, node, p.o.Options)
		if err != nil {
			return err
		}
		if err := s.Login(ctx, a); err != nil {
			s.Close()
			return err
		}
		w.s, w.node, w.who = s, node, a
	}
	if mailbox == "" || mailbox == w.selected {
		return nil
	}
	w.selected = ""
	if _, err := w.s.Select(ctx, mailbox); err != nil {
		return err
	}
	w.selected = mailbox
	return nil
}

func (w *seat) leave() {
	if w.s != nil {
		w.s.Close()
	}
	w.s, w.selected = nil, ""
}

// Close ends all sessions. No worker may be in Do.
func (p *Pool) Close() {
	for i := range p.workers {
		p.workers[i].leave()
	}
}
