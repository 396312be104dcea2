// Package relay carries the TCP connections between nodes, and behaves like the network that is not there: it delays, loses time,
// narrows, cuts and resets, while connections run. The nodes know nothing of it but addresses to dial.
//
// There is one listener for each ordered pair of nodes (a link: A dials B), and one state for each direction that bytes move in
// (a way: from A to B). The connections that A dialled and those that B dialled share both ways, as they share a cable.
//
// Invariants:
//
//   - Bytes come out as they went in, in order, and the end of a stream after its last byte. A late piece holds up those behind it, as
//     a lost packet does.
//   - Once Cut has returned, no byte starts on that way until it is healed; what was under way to the receiver's socket, at most a
//     pipe's content (1 MiB) when that receiver does not read, may still arrive. Connections stay open, new ones are taken and left
//     unanswered, and after Heal everything held back goes on at once.
//   - A connection holds at most 256 pieces of 32 KiB in each direction. Behind that, and behind a line that is full, the sender waits,
//     so a way carries at most 8 MiB in each delay. A way without a shape holds nothing: there the kernel moves the bytes (splice).
//   - What it dials is on this machine, so a dialler's connect succeeds at once even across a cut; its first bytes then wait for the
//     round trip that a connect takes. The kernel on this side acknowledges keepalives.
//
// It keeps nothing on disk. When its process dies, every connection is reset.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	acceptPause = 50 * time.Millisecond // after a failure to accept, such as too many open files
)

// Network is all links between some nodes. It is safe for concurrent use.
type Network struct {
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ways  map[pair]*way
	order []pair // of ways, as they were made
	links map[pair]*link
}

// pair is an ordered pair of nodes.
type pair struct{ from, to string }

func (p pair) back() pair { return pair{p.to, p.from} }

// New makes a network without links.
func New(log *slog.Logger) *Network {
	n := &Network{log: log, ways: make(map[pair]*way), links: make(map[pair]*link)}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n
}

// Open makes the link on which from dials to, takes connections from l, and carries them to target.
func (n *Network) Open(from, to, target string, l *net.TCPListener) {
	p := pair{from, to}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := &link{n: n, target: target, l: l, out: n.way(p), in: n.way(p.back()), conns: make(map[*conn]struct{})}
	n.links[p] = k
	n.wg.Go(k.accept)
}

// way is called with the lock held.
func (n *Network) way(p pair) *way {
	w := n.ways[p]
	if w == nil {
		w = newWay()
		n.ways[p], n.order = w, append(n.order, p)
	}
	return w
}

func (n *Network) find(from, to string) (*way, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.ways[pair{from, to}]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("no link between %s and %s", from, to)
}

// Shape changes how bytes move from one node to another.
func (n *Network) Shape(from, to string, s Shape) error {
	if err := s.Check(); err != nil {
		return err
	}
	w, err := n.find(from, to)
	if err == nil {
		w.change(func() { w.shape = s })
	}
	return err
}

// Cut stops the bytes that move from one node to another, whichever of them dialled. With Reset, it ends the connections between the
// two as well, and those that are made later. With Whole it heals this way alone.
func (n *Network) Cut(from, to string, c Cut) error {
	w, err := n.find(from, to)
	if err != nil {
		return err
	}
	w.change(func() { w.cut = c })
	if c == Reset {
		n.mu.Lock()
		links := []*link{n.links[pair{from, to}], n.links[pair{to, from}]}
		n.mu.Unlock()
		for _, k := range links {
			if k != nil {
				k.abort()
			}
		}
	}
	return nil
}

// Heal undoes every cut. Shapes stay.
func (n *Network) Heal() {
	n.mu.Lock()
	all := make([]*way, 0, len(n.ways))
	for _, w := range n.ways {
		all = append(all, w)
	}
	n.mu.Unlock()
	for _, w := range all {
		w.change(func() { w.cut = Whole })
	}
}

// State is what one way is like.
type State struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Cut   Cut    `json:"cut,omitempty"`
	Shape Shape  `json:"shape,omitzero"`
	Bytes int64  `json:"bytes"` // that came to be sent this way since the cluster started
}

// States gives all ways, in the order in which they were made.
func (n *Network) States() []State {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]State, len(n.order))
	for i, p := range n.order {
		shape, cut, _ := n.ways[p].state()
		out[i] = State{p.from, p.to, cut, shape, n.ways[p].bytes()}
	}
	return out
}

// Remove ends all links from and to a node: their listeners close, their connections are reset, their ways are forgotten.
func (n *Network) Remove(node string) error {
	gone := func(p pair) bool { return p.from == node || p.to == node }
	var ended []*link
	var errs []error
	n.mu.Lock()
	for p, k := range n.links {
		if !gone(p) {
			continue
		}
		if err := k.l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close relay from %s to %s: %w", p.from, p.to, err))
		}
		ended = append(ended, k)
		delete(n.links, p)
	}
	maps.DeleteFunc(n.ways, func(p pair, _ *way) bool { return gone(p) })
	n.order = slices.DeleteFunc(n.order, gone)
	n.mu.Unlock()
	for _, k := range ended {
		k.end()
	}
	return errors.Join(errs...)
}

// Close resets every connection and waits until nothing of the network runs.
func (n *Network) Close() error {
	n.stop()
	n.mu.Lock()
	var errs []error
	for p, k := range n.links {
		if err := k.l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close relay from %s to %s: %w", p.from, p.to, err))
		}
	}
	links := n.links
	n.mu.Unlock()
	for _, k := range links {
		k.abort()
	}
	n.wg.Wait()
	return errors.Join(errs...)
}
