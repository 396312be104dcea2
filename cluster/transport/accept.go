package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"hongyan/cluster/wire"
)

// acceptPause is how long accepting rests after a failure such as too many open files.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the listener is closed.
func (n *Net) accept() {
	handshakes := make(chan struct{}, maxHandshakes)
	refused := &refusals{log: n.log}
	for {
		conn, err := n.acceptOne()
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
			refused.tell(conn, "network not allowed")
			continue
		}
		select {
		case handshakes <- struct{}{}:
		default:
			refused.tell(conn, "too many handshakes")
			continue
		}
		started := n.spawn(func() { n.welcome(conn, refused, func() { <-handshakes }) })
		if !started {
			discard(conn)
		}
	}
}

// acceptOne waits for a connection. Those that are no TCP sockets, which only tests make, are taken as they are.
func (n *Net) acceptOne() (net.Conn, error) {
	conn, err := n.listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		return conn, err
	}
	socket, err := wire.NewSocket(tcp)
	if err != nil {
		discard(conn)
		return nil, err
	}
	return socket, nil
}

// refusals closes unwelcome connections and logs at most one a second, so that strangers cannot fill the log.
type refusals struct {
	log *slog.Logger

	mu     sync.Mutex // guards the rest
	next   time.Time
	silent int // refused since the last line
}

func (r *refusals) tell(conn net.Conn, why string) {
	discard(conn)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.next) {
		r.silent++
		return
	}
	r.log.Warn("connection refused", "remote", conn.RemoteAddr(), "err", why, "others", r.silent)
	r.next, r.silent = now.Add(time.Second), 0
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

// mayAsk says who may connect for what: peers for everything but the one thing that a node asks itself.
func (n *Net) mayAsk(id, protocol string) bool {
	return (id == n.cfg.ID) == (protocol == serviceSelf) && (id == n.cfg.ID || n.find(id) != nil)
}

// welcome authenticates an inbound connection and runs its service until it ends.
func (n *Net) welcome(raw net.Conn, refused *refusals, handshaken func()) {
	conn := tls.Server(raw, n.creds.Now().server(n.mayAsk, append(n.offers(services[:]...), serviceLevels, serviceSelf)))
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.timing.handshake)
	err := conn.HandshakeContext(ctx)
	cancel()
	handshaken()
	if err != nil {
		refused.tell(raw, n.explain(err))
		return
	}
	state := conn.ConnectionState()
	id, err := peerID(state)
	if err != nil { // VerifyConnection let it pass, so this cannot be
		discard(raw)
		return
	}
	if state.NegotiatedProtocol == serviceSelf {
		n.tellProcess(conn)
		return
	}
	p := n.find(id)
	service, level := splitProtocol(state.NegotiatedProtocol)
	if p == nil {
		refused.tell(raw, "node "+id+" was taken out of the peer table")
		return
	}
	if service == serviceLevels {
		n.tellLevels(conn)
		return
	}
	if !p.admit(service, level, raw) {
		refused.tell(raw, "too many of service "+service+", or of too low a feature level")
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

// peerConn is a dialled connection. It ends with its peer, whoever holds it.
type peerConn struct {
	*wire.Socket
	stop func() bool // undoes the watch of the peer
}

func (c *peerConn) Close() error {
	c.stop()
	return c.Socket.Close()
}

// dialProtocols connects to a peer by one of some protocols.
func (n *Net) dialProtocols(ctx context.Context, p *peer, protocols []string) (*tls.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(p.ctx, cancel)
	defer stop()
	dialer := net.Dialer{Timeout: n.cfg.timing.dial}
	tcp, err := dialer.DialContext(ctx, "tcp", *p.addr.Load())
	if err != nil {
		return nil, err
	}
	socket, err := wire.NewSocket(tcp.(*net.TCPConn))
	if err != nil {
		discard(tcp)
		return nil, err
	}
	raw := &peerConn{socket, context.AfterFunc(p.ctx, func() { discard(tcp) })}
	conn := tls.Client(raw, n.creds.Now().client(p.ID, protocols))
	ctx, expire := context.WithTimeout(ctx, n.cfg.timing.handshake)
	defer expire()
	if err := conn.HandshakeContext(ctx); err != nil {
		discard(raw)
		return nil, err
	}
	return conn, nil
}
