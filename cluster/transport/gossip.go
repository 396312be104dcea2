package transport

import (
	"context"
	"io"
	"net"

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
}

func newGossip(n *Net) *Gossip {
	return &Gossip{n: n, packets: make(chan Packet, maxPackets), streams: make(chan net.Conn, maxGossipStreams)}
}

// Packets delivers what peers sent.
func (g *Gossip) Packets() <-chan Packet { return g.packets }

// Streams delivers connections that peers opened; the receiver closes them.
func (g *Gossip) Streams() <-chan net.Conn { return g.streams }

// Send sends a packet, or loses it: it never waits. A connection that is not there yet is dialled in the background.
func (g *Gossip) Send(node string, data []byte) {
	p := g.n.peers[node]
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
		select {
		case g.packets <- Packet{From: p.ID, Data: f.Payload}:
		default: // lost, as packets may be
		}
	}
}

// serveStream hands a connection over and stays with it until its new owner closes it.
func (g *Gossip) serveStream(conn net.Conn, _ *peer) {
	owned := &ownedConn{Conn: conn, closed: make(chan struct{})}
	select {
	case g.streams <- owned:
	default:
		return
	}
	select {
	case <-owned.closed:
	case <-g.n.ctx.Done():
	}
}
