package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"
)

// acceptPause is how long accepting rests after a failure such as too many open files.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the listener is closed.
func (n *Net) accept() {
	config := n.creds.server(func(id string) bool { return n.peers[id] != nil })
	handshakes := make(chan struct{}, maxHandshakes)
	for {
		conn, err := n.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn("accept from peers failed", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-n.ctx.Done():
				return
			}
			continue
		}
		if !n.allowed(conn.RemoteAddr()) {
			n.log.Warn("connection refused: network not allowed", "remote", conn.RemoteAddr())
			discard(conn)
			continue
		}
		select {
		case handshakes <- struct{}{}:
		default:
			n.log.Warn("connection refused: too many handshakes", "remote", conn.RemoteAddr())
			discard(conn)
			continue
		}
		started := n.spawn(func() { n.welcome(conn, config, func() { <-handshakes }) })
		if !started {
			discard(conn)
		}
	}
}

// discard closes a connection to which nothing is owed.
func discard(conn net.Conn) {
	_ = conn.Close() // the peer sees it closed, or its own error
}

func (n *Net) allowed(addr net.Addr) bool {
	if len(n.cfg.Allow) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap()
	for _, network := range n.cfg.Allow {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// welcome authenticates an inbound connection and runs its service until it ends.
func (n *Net) welcome(raw net.Conn, config *tls.Config, handshaken func()) {
	conn := tls.Server(raw, config)
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.timing.handshake)
	err := conn.HandshakeContext(ctx)
	cancel()
	handshaken()
	if err != nil {
		if n.ctx.Err() == nil {
			n.log.Warn("peer refused", "remote", raw.RemoteAddr(), "err", err)
		}
		discard(raw)
		return
	}
	state := conn.ConnectionState()
	id, err := peerID(state)
	if err != nil { // VerifyConnection let it pass, so this cannot be
		discard(raw)
		return
	}
	p, service := n.peers[id], state.NegotiatedProtocol
	if !p.admit(service, raw) {
		n.log.Warn("connection refused: too many of its kind", "peer", id, "service", service)
		discard(raw)
		return
	}
	defer p.release(service, raw)
	n.log.Debug("peer connected", "peer", id, "service", service)
	switch service {
	case serviceRPC:
		n.serveCalls(conn, p)
	case serviceStream:
		n.serveStreams(conn, p)
	case serviceRaft:
		n.serveRaft(conn, p)
	case serviceRaftBulk:
		n.serveSnapshot(conn, p)
	case servicePacket:
		n.gossip.servePackets(conn, p)
	case serviceGossip:
		n.gossip.serveStream(conn, p)
	}
}

// dial connects to one service of a peer.
func (n *Net) dial(ctx context.Context, p *peer, service string) (*tls.Conn, error) {
	dialer := net.Dialer{Timeout: n.cfg.timing.dial}
	raw, err := dialer.DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, n.creds.client(p.ID, service))
	ctx, cancel := context.WithTimeout(ctx, n.cfg.timing.handshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		discard(raw)
		return nil, err
	}
	return conn, nil
}
