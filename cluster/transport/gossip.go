package transport

import (
	"context"
	"io"
	"net"
	"sync"

	"hongyan/cluster/wire"
)

// Bounds of what waits for the gossip library; beyond them packets are lost and streams refused.
const (
	maxPackets       = 512
	maxGossipStreams = 16
	framePacket      = 1
)

// Packet is a gossip packet from an authenticated peer.
type Packet struct {
	From string
	Data []byte
}

// Gossip carries what package member needs: packets that may be lost, and streams.
type Gossip struct {
	n       *Net
	packets chan Packet
	streams chan net.Conn

	mu   sync.Mutex // guards open
	open bool       // somebody takes what arrives
}

func newGossip(n *Net) *Gossip {
	return &Gossip{n: n, packets: make(chan Packet, maxPackets), streams: make(chan net.Conn, maxGossipStreams)}
}

// Accept says whether anybody takes what arrives. Until then, and after, streams are refused and packets lost, so that
// a peer learns at once that this node does not gossip.
func (g *Gossip) Accept(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = on
	for !on {
		select {
		case conn := <-g.streams:
			discard(conn)
		case <-g.packets:
		default:
			return
		}
	}
}

// Packets delivers what peers sent.
func (g *Gossip) Packets() <-chan Packet { return g.packets }

// Streams delivers connections that peers opened; the receiver closes them.
func (g *Gossip) Streams() <-chan net.Conn { return g.streams }

// Send sends a packet, or loses it: it never waits. A connection that is not there yet is dialled in the background.
func (g *Gossip) Send(node string, data []byte) {
	p := g.n.find(node)
	if p == nil {
		return
	}
	if link, ok, _, err := p.packet.peek(); ok && err == nil {
		link.SendUrgent(wire.Frame{Kind: framePacket, Payload: data})
	}
}

// Dial opens a stream to a peer.
func (g *Gossip) Dial(ctx context.Context, node string) (net.Conn, error) {
	p, err := g.n.peer(node)
	if err != nil {
		return nil, err
	}
	if _, err := p.live(ctx); err != nil {
		return nil, err
	}
	return g.n.dial(ctx, p, serviceGossip)
}

// dialPackets opens the connection for packets to a peer.
func (p *peer) dialPackets(ctx context.Context) (*wire.Link, io.Closer, <-chan struct{}, error) {
	conn, err := p.n.dial(ctx, p, servicePacket)
	if err != nil {
		return nil, nil, nil, err
	}
	link := wire.NewLink(conn, wire.MaxPiece)
	if !p.n.spawn(func() { drain(link) }) {
		link.Close()
		return nil, nil, nil, errClosed
	}
	return link, link, link.Done(), nil
}

// drain reads a link that carries nothing towards this end, so that its death is noticed.
func drain(link *wire.Link) {
	for {
		if _, err := link.Read(); err != nil {
			return
		}
	}
}

func (g *Gossip) servePackets(conn net.Conn, p *peer) {
	link := wire.NewLink(conn, wire.MaxPiece)
	defer link.Close()
	for {
		f, err := link.Read()
		if err != nil {
			return
		}
		g.offerPacket(Packet{From: p.ID, Data: f.Payload})
	}
}

func (g *Gossip) offerPacket(p Packet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return
	}
	select {
	case g.packets <- p:
	default: // lost, as packets may be
	}
}

func (g *Gossip) offerStream(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return false
	}
	select {
	case g.streams <- conn:
		return true
	default:
		return false
	}
}

// serveStream hands a connection over and stays with it until its new owner closes it.
func (g *Gossip) serveStream(conn net.Conn, p *peer) {
	owned := &ownedConn{Conn: conn, closed: make(chan struct{})}
	if !g.offerStream(owned) {
		return
	}
	select {
	case <-owned.closed:
	case <-p.ctx.Done():
	}
}

// ownedConn tells when its owner has closed it.
type ownedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *ownedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}
