package transport

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"hongyan/cluster/liveness"
	"hongyan/cluster/wire"
)

// peer is everything a node has with one other: the connections of each service and whether it lives.
type peer struct {
	Peer
	n       *Net
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

	mu      sync.Mutex            // guards inbound, up
	inbound map[string][]net.Conn // by service, oldest first
	up      chan struct{}         // closed while the peer is up
}

// limits bound what one caller may have in flight.
type limits struct {
	calls, streams chan struct{}
}

func newLimits() *limits {
	return &limits{calls: make(chan struct{}, maxCalls), streams: make(chan struct{}, maxStreams)}
}

func newPeer(n *Net, p Peer) *peer {
	out := &peer{
		Peer: p, n: n, tried: make(chan struct{}), limits: newLimits(), doubt: newDoubt(true), late: new(liveness.Lateness),
		inbound: make(map[string][]net.Conn), up: make(chan struct{}),
	}
	out.beats.p = out
	out.bulk = newSlot(out, out.dialBulk)
	out.raft = newSlot(out, out.dialRaft)
	out.packet = newSlot(out, out.dialPackets)
	return out
}

// run keeps the calls connection open and the peer's state true to it, until the Net closes.
func (p *peer) run() {
	tried := sync.OnceFunc(func() { close(p.tried) })
	defer tried()
	wait := p.n.cfg.timing.redialMin
	for p.n.ctx.Err() == nil {
		c, err := p.connect()
		if err == nil {
			p.setUp(c)
			tried()
			wait = p.n.cfg.timing.redialMin
			err = p.watch(c)
			p.setDown(c, err)
			continue
		}
		tried()
		p.n.log.Debug("peer not reached", "peer", p.ID, "addr", p.Addr, "err", err)
		select { // spread, so that peers of a node that comes back do not all dial at once
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		case <-p.n.ctx.Done():
		}
		wait = min(wait*2, p.n.cfg.timing.redialMax)
	}
}

func (p *peer) setUp(c *caller) {
	p.mu.Lock()
	p.control.Store(c)
	close(p.up)
	p.mu.Unlock()
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
	if p.n.ctx.Err() == nil {
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
			discard(conn)
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
func (p *peer) admit(service string, conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n.ctx.Err() != nil {
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
			discard(conns[0])
			conns = conns[1:]
		}
	}
	p.inbound[service] = append(slices.Clone(conns), conn)
	return true
}

func (p *peer) release(service string, conn net.Conn) {
	discard(conn)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbound[service] = slices.DeleteFunc(p.inbound[service], func(c net.Conn) bool { return c == conn })
}
