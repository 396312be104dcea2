package transport

import (
	"context"
	"sync"
)

// doubt says whether a node is to be trusted with work now. In doubt is a peer that is down, that has not answered pings for a
// little longer than it usually takes (some 200 ms nearby), or that says itself that it ails, for example since its disk hangs.
// Its connections stay: doubt costs a way round, not what is under way. The node itself can be in doubt too, when it ails.
type doubt struct {
	mu    sync.Mutex
	in    bool
	began chan struct{} // closed while in doubt
}

func newDoubt(in bool) *doubt {
	d := &doubt{began: make(chan struct{})}
	d.set(in)
	return d
}

// set reports whether that is news.
func (d *doubt) set(in bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == in {
		return false
	}
	d.in = in
	if in {
		close(d.began)
	} else {
		d.began = make(chan struct{})
	}
	return true
}

func (d *doubt) is() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in
}

// beginning is closed when the node is, or next comes, in doubt.
func (d *doubt) beginning() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began
}

// doubtOf finds a node's; a node that is not in the table is always in doubt.
func (n *Net) doubtOf(node string) *doubt {
	if node == n.cfg.ID {
		return n.own
	}
	if p := n.find(node); p != nil {
		return p.doubt
	}
	return newDoubt(true)
}

// InDoubt says that a node is down, silent or ailing at present: others are to be asked first, and to lead. A node that ails is in doubt
// of itself.
func (n *Net) InDoubt(node string) bool { return n.doubtOf(node).is() }

// Doubted gives a channel that is closed as soon as the node is in doubt.
func (n *Net) Doubted(node string) <-chan struct{} { return n.doubtOf(node).beginning() }

// Sound is ctx until the node comes in doubt, for work that another node can do as well. One that is in doubt already, and is asked all the
// same, is given its time. The caller calls the returned function in the end.
func (n *Net) Sound(ctx context.Context, node string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	doubt := n.doubtOf(node)
	if doubt.is() {
		return ctx, func() { cancel(nil) }
	}
	go func() {
		select {
		case <-doubt.beginning():
			cancel(errDoubt)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// OnDoubt adds a callback for nodes that come in doubt or out of it, this one included; before Serve. Per node the calls come in order; f
// must not block for long, nor call Ail or SetPeers.
func (n *Net) OnDoubt(f func(node string, in bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onDoubt = append(n.onDoubt, f)
}

func (n *Net) setDoubt(node string, d *doubt, in bool, why string) {
	if !d.set(in) {
		return
	}
	if in {
		n.log.Info("a node is in doubt", "of", node, "why", why)
	} else {
		n.log.Info("a node is in doubt no longer", "of", node)
	}
	n.mu.Lock()
	callbacks := n.onDoubt[:len(n.onDoubt):len(n.onDoubt)]
	n.mu.Unlock()
	for _, f := range callbacks {
		f(node, in)
	}
}

// Ail says that this node cannot work well, or why no longer ("" is well). Its peers learn it with the next answers to their pings. While
// all ail nobody is in doubt for it: a slow disk under all nodes is better than none.
func (n *Net) Ail(why string) {
	if n.ails.Swap(why != "") != (why != "") {
		n.log.Warn("this node's health", "ails", why != "", "why", why)
		n.examine()
	}
}

// examine sets the node's doubt of itself: it ails, and another does not. One at a time, lest what was seen earlier stay.
func (n *Net) examine() {
	n.examining.Lock()
	defer n.examining.Unlock()
	ails := n.ails.Load()
	if ails {
		ails = false
		for _, p := range n.table.Load().peers {
			if c := p.control.Load(); c != nil && !c.ails.Load() && !p.silent.Load() {
				ails = true
			}
		}
	}
	n.setDoubt(n.cfg.ID, n.own, ails, "it ails")
}
