package transport

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"hongyan/cluster/feature"
	"hongyan/cluster/liveness"
	"hongyan/cluster/wire"
)

// peer is everything a node has with one other: the connections of each service and whether it lives.
//
// It is there from when it enters the peer table until it is taken out, or the Net closes. A node that comes back has a new one, whose run
// begins when that of the old one has ended: what is told of a node keeps its order.
type peer struct {
	ID      string
	addr    atomic.Pointer[string] // for the next connection
	moved   chan struct{}          // capacity one: addr is another
	n       *Net
	ctx     context.Context // ends with the peer
	cancel  context.CancelFunc
	after   <-chan struct{}        // closed when the node's peer before this one has ended; may be nil
	ended   chan struct{}          // closed when run has ended
	control atomic.Pointer[caller] // not nil while the peer is up
	rtt     atomic.Int64           // smoothed, nanoseconds
	tried   chan struct{}          // closed once the first attempt to reach the peer has ended
	limits  *limits                // of what it may have in flight here
	doubt   *doubt
	late    *liveness.Lateness // of answers to pings
	silent  atomic.Bool        // it answers late, or not

	bulk   *slot[*yamux.Session]
	raft   *slot[*raftLink]
	packet *slot[*wire.Link]
	beats  beats // to it

	mu      sync.Mutex           // guards inbound, up
	inbound map[string][]arrival // by service, oldest first
	up      chan struct{}        // closed while the peer is up

	outdated atomic.Pointer[feature.Outdated] // why its program and this one do not talk; nil while they may
}

// arrival is a connection that the peer dialled, and the feature level that both ends know at least.
type arrival struct {
	net.Conn
	level feature.Level
}

// limits bound what one caller may have in flight.
type limits struct {
	calls, streams chan struct{}
}

func newLimits() *limits {
	return &limits{calls: make(chan struct{}, maxCalls), streams: make(chan struct{}, maxStreams)}
}

func newPeer(n *Net, line Peer, after <-chan struct{}) *peer {
	out := &peer{
		ID: line.ID, moved: make(chan struct{}, 1), n: n, after: after, ended: make(chan struct{}),
		tried: make(chan struct{}), limits: newLimits(), doubt: newDoubt(true), late: new(liveness.Lateness),
		inbound: make(map[string][]arrival), up: make(chan struct{}),
	}
	out.addr.Store(&line.Addr)
	out.ctx, out.cancel = context.WithCancel(n.ctx)
	out.beats.p = out
	out.bulk = newSlot(out, out.dialBulk)
	out.raft = newSlot(out, out.dialRaft)
	out.packet = newSlot(out, out.dialPackets)
	return out
}

// run keeps the calls connection open and the peer's state true to it, until the peer's end.
func (p *peer) run() {
	defer close(p.ended)
	if p.after != nil {
		<-p.after
	}
	tried := sync.OnceFunc(func() { close(p.tried) })
	defer tried()
	wait := p.n.cfg.timing.redialMin
	for p.ctx.Err() == nil {
		c, err := p.connect()
		if err == nil {
			p.setUp(c)
			if c.level < p.n.least() { // that has risen meanwhile
				c.close()
			}
			tried()
			wait = p.n.cfg.timing.redialMin
			err = p.watch(c)
			p.setDown(c, err)
			continue
		}
		tried()
		p.n.log.Debug("peer not reached", "peer", p.ID, "addr", *p.addr.Load(), "err", err)
		select { // spread, so that peers of a node that comes back do not all dial at once
		case <-time.After(wait/2 + rand.N(wait/2+1)):
			wait = min(wait*2, p.n.cfg.timing.redialMax)
		case <-p.moved:
			wait = p.n.cfg.timing.redialMin
		case <-p.ctx.Done():
		}
	}
}

func (p *peer) setUp(c *caller) {
	p.mu.Lock()
	p.control.Store(c)
	close(p.up)
	p.mu.Unlock()
	p.outdated.Store(nil)
	p.n.log.Info("peer up", "peer", p.ID, "rtt", time.Duration(p.rtt.Load()))
	p.judge(c, false)
	p.n.notify(p.ID, true)
}

// setDown ends everything that waits on the peer. Inbound connections of a peer that fell silent are closed too:
// their handlers would wait for it. When only our own connection broke they speak for themselves.
func (p *peer) setDown(c *caller, why error) {
	p.mu.Lock()
	p.control.Store(nil)
	p.up = make(chan struct{})
	p.mu.Unlock()
	p.n.setDoubt(p.ID, p.doubt, true, why.Error())
	c.close()
	p.closeOutbound()
	if why == errSilent {
		p.closeInbound()
	}
	if p.ctx.Err() == nil {
		p.n.log.Warn("peer down", "peer", p.ID, "err", why)
	}
	p.n.notify(p.ID, false)
}

// judge brings the peer in doubt or out of it.
func (p *peer) judge(c *caller, silent bool) {
	p.silent.Store(silent)
	if silent {
		p.n.setDoubt(p.ID, p.doubt, true, "it is silent")
	} else {
		p.n.setDoubt(p.ID, p.doubt, c.ails.Load() && !p.n.ails.Load(), "it ails")
	}
	p.n.examine()
}

// waitUp returns a channel that is closed when the peer is up.
func (p *peer) waitUp() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// gone is why nothing can be had of a peer whose context has ended.
func (p *peer) gone() error {
	if p.n.ctx.Err() != nil {
		return wire.Errorf(wire.Unavailable, "node %s is closing", p.n.cfg.ID)
	}
	return wire.Errorf(wire.Unavailable, "node %s was taken out of the peer table", p.ID)
}

// leave ends the peer, taken out of the table, and everything with it. What is left is to tell, which run does.
func (p *peer) leave() {
	p.cancel()
	p.closeAll()
}

// move has the next connection go to another address.
func (p *peer) move(addr string) {
	p.addr.Store(&addr)
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

func (p *peer) closeOutbound() {
	p.bulk.reset()
	p.raft.reset()
	p.packet.reset()
}

func (p *peer) closeInbound() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conns := range p.inbound {
		for _, conn := range conns {
			discard(conn.Conn)
		}
	}
}

func (p *peer) closeAll() {
	if c := p.control.Load(); c != nil {
		c.close()
	}
	p.closeOutbound()
	p.closeInbound()
}

// admit enters an inbound connection. A peer that restarted or was cut off may leave persistent
// connections behind that look alive, so of those the oldest yields; of one-shot ones the newest is refused.
func (p *peer) admit(service string, level feature.Level, conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || level < p.n.least() {
		return false
	}
	conns := p.inbound[service]
	switch service {
	case serviceRaftBulk, serviceGossip:
		if len(conns) >= maxOwnTransfers {
			return false
		}
	default:
		if len(conns) >= maxOwnLinks {
			discard(conns[0].Conn)
			conns = conns[1:]
		}
	}
	p.inbound[service] = append(slices.Clone(conns), arrival{conn, level})
	return true
}

func (p *peer) release(service string, conn net.Conn) {
	discard(conn)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbound[service] = slices.DeleteFunc(p.inbound[service], func(c arrival) bool { return c.Conn == conn })
}
