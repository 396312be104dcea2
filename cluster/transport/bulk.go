package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"hongyan/cluster/wire"
)

// Tuning of streams.
const (
	streamWindow    = 4 << 20          // bytes under way on one stream: 200 ms at 20 MB/s
	streamPiece     = 64 << 10         // written at a time, so that streams take turns
	streamStuck     = 30 * time.Second // a write that makes no progress for so long gives up
	streamOpening   = 10 * time.Second // from a stream's beginning to its first message
	messageOverhead = 5                // length u32, kind u8
)

// yamuxConn is a connection as yamux is given it. It closes without TLS's farewell, which could wait for a
// peer that is stuck. And it joins a small frame's header and body, which yamux's one sender writes one after the other,
// so that they share a TLS record and a system call.
type yamuxConn struct {
	*tls.Conn
	head []byte // a header whose body comes with the next Write
}

// yamux's frame header: version u8, type u8, flags u16, stream u32, length u32, big endian. Type 0 is data.
const (
	yamuxHeader = 12
	joinLimit   = 16<<10 - yamuxHeader // one TLS record
)

func (c *yamuxConn) Close() error { return c.NetConn().Close() }

func (c *yamuxConn) Write(p []byte) (int, error) {
	if len(c.head) > 0 {
		c.head = append(c.head, p...)
		n, err := c.Conn.Write(c.head)
		c.head = c.head[:0]
		return max(n-yamuxHeader, 0), err
	}
	if len(p) == yamuxHeader && p[1] == 0 {
		if body := binary.BigEndian.Uint32(p[8:]); body > 0 && body <= joinLimit {
			c.head = append(c.head, p...)
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

func (n *Net) yamuxConfig(p *peer) *yamux.Config {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false // liveness is watched on the calls connection
	config.MaxStreamWindowSize = streamWindow
	config.ConnectionWriteTimeout = streamStuck
	config.StreamCloseTimeout = streamStuck
	config.StreamOpenTimeout = 0
	config.LogOutput = nil
	config.Logger = yamuxLog{n.log.With("peer", p.ID)}
	return config
}

// yamuxLog passes on what yamux has to say; callers get their errors anyway.
type yamuxLog struct{ log *slog.Logger }

func (l yamuxLog) Print(v ...any) { l.log.Debug("yamux", "text", fmt.Sprint(v...)) }
func (l yamuxLog) Printf(format string, v ...any) {
	l.log.Debug("yamux", "text", fmt.Sprintf(format, v...))
}
func (l yamuxLog) Println(v ...any) { l.log.Debug("yamux", "text", fmt.Sprint(v...)) }

// dialBulk opens the connection for streams to a peer.
func (p *peer) dialBulk(ctx context.Context) (*yamux.Session, io.Closer, <-chan struct{}, error) {
	conn, err := p.n.dial(ctx, p, serviceStream)
	if err != nil {
		return nil, nil, nil, err
	}
	session, err := yamux.Client(&yamuxConn{Conn: conn}, p.n.yamuxConfig(p))
	if err != nil {
		discard(conn)
		return nil, nil, nil, err
	}
	return session, session, session.CloseChan(), nil
}

// serveStreams is the accepting end of a streams connection.
func (n *Net) serveStreams(conn net.Conn, p *peer) {
	session, err := yamux.Server(&yamuxConn{Conn: conn.(*tls.Conn)}, n.yamuxConfig(p))
	if err != nil {
		n.log.Error("streams not served", "peer", p.ID, "err", err)
		return
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(p.ctx) // of every handler: one that lets messages pile up would not notice the connection's end
	defer cancel()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	for {
		ys, err := session.AcceptStream()
		if err != nil {
			return
		}
		if !n.spawn(func() { n.serveStream(ctx, ys, p) }) {
			return
		}
	}
}

// remoteOutlet sends on a yamux stream.
type remoteOutlet struct {
	n       *Net
	ys      *yamux.Stream
	buf     []byte // of send, which one goroutine calls at a time
	closing sync.Once
}

func (o *remoteOutlet) send(kind uint8, p []byte) error {
	first := min(len(p), streamPiece-messageOverhead)
	o.buf = binary.LittleEndian.AppendUint32(o.buf[:0], uint32(len(p)))
	o.buf = append(append(o.buf, kind), p[:first]...)
	if _, err := o.ys.Write(o.buf); err != nil {
		return err
	}
	for rest := p[first:]; len(rest) > 0; {
		piece := rest[:min(len(rest), streamPiece)]
		rest = rest[len(piece):]
		if _, err := o.ys.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (o *remoteOutlet) interrupt() {
	_ = o.ys.SetWriteDeadline(time.Unix(1, 0)) // yamux always returns nil
}

func (o *remoteOutlet) abort() {
	o.closing.Do(func() {
		_ = o.ys.SetDeadline(time.Unix(1, 0)) // yamux always returns nil
		end := func() { _ = o.ys.Close() }    // may wait for a stuck connection, so nobody waits for it
		if !o.n.spawn(end) {
			end() // the session is closed, so this does not wait
		}
	})
}

// readMessage reads one message of a stream: length u32, kind u8, bytes.
func readMessage(r *bufio.Reader) (kind uint8, payload []byte, err error) {
	var head [messageOverhead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > MaxMessage {
		return 0, nil, fmt.Errorf("%w: message of %d bytes", wire.ErrMalformed, size)
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	return head[4], payload, nil
}

// openRemote starts a stream on a session.
func (n *Net) openRemote(ctx context.Context, session *yamux.Session, method string) (*Stream, error) {
	ys, err := session.OpenStream()
	if err != nil {
		return nil, lost(err)
	}
	request := wire.Request{Method: method}
	if deadline, ok := ctx.Deadline(); ok {
		request.Wait = max(time.Until(deadline), time.Millisecond)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := newStream(ctx, cancel, true, newInbox(), &remoteOutlet{n: n, ys: ys})
	err = s.send(messageOpen, wire.EncodeRequest(nil, request))
	if err == nil && !n.spawn(func() { s.pump(bufio.NewReaderSize(ys, 16<<10)) }) {
		err = wire.Errorf(wire.Unavailable, "%v", errClosed)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// pump moves messages from the connection to the inbox until the stream has ended.
func (s *Stream) pump(r *bufio.Reader) {
	for {
		kind, payload, err := readMessage(r)
		switch {
		case err != nil:
			s.broken(err)
			return
		case kind == messageData:
			if s.in.push(s.ctx, payload) != nil {
				return // given up at this end
			}
		case kind == messageEnd && s.caller:
			s.in.finish(endOf(payload))
			s.out.abort()
			return
		case kind == messageEnd:
			s.in.finish(io.EOF) // read on, to learn when the caller goes
		default:
			s.broken(fmt.Errorf("%w: message of kind %d", wire.ErrMalformed, kind))
			return
		}
	}
}

// broken ends a stream whose connection is gone, or whose other end has gone. A handler's context ends with it.
func (s *Stream) broken(err error) {
	s.in.finish(lost(err))
	s.out.abort()
	if !s.caller {
		s.cancel()
	}
}

// endOf is what a handler's end message says: nothing, or a wire.Error.
func endOf(payload []byte) error {
	if len(payload) == 0 {
		return io.EOF
	}
	return wire.DecodeError(payload)
}

// serveStream runs one stream from a peer.
func (n *Net) serveStream(ctx context.Context, ys *yamux.Stream, p *peer) {
	out := &remoteOutlet{n: n, ys: ys}
	defer out.abort()
	release, ok := p.limits.acquireStream()
	if !ok {
		n.endStream(out, wire.Errorf(wire.Unavailable, "node %s has %d streams of %s open", n.cfg.ID, maxStreams, p.ID))
		return
	}
	defer release()
	r := bufio.NewReaderSize(ys, 16<<10)
	req, err := readOpening(ys, r)
	if err != nil {
		n.endStream(out, wire.Errorf(wire.Invalid, "%v", err))
		return
	}
	handlerCtx, cancel := context.WithCancel(ctx)
	if req.Wait > 0 {
		cancel()
		handlerCtx, cancel = context.WithTimeout(ctx, req.Wait)
	}
	s := newStream(handlerCtx, cancel, false, newInbox(), out)
	defer s.Close()
	if n.spawn(func() { s.pump(r) }) {
		n.endStream(out, n.handleStream(s, p.ID, req.Method))
	}
}

func readOpening(ys *yamux.Stream, r *bufio.Reader) (wire.Request, error) {
	if err := ys.SetReadDeadline(time.Now().Add(streamOpening)); err != nil {
		return wire.Request{}, err
	}
	kind, payload, err := readMessage(r)
	if err == nil && kind != messageOpen {
		err = fmt.Errorf("%w: stream opened by a message of kind %d", wire.ErrMalformed, kind)
	}
	if err != nil {
		return wire.Request{}, err
	}
	if err := ys.SetReadDeadline(time.Time{}); err != nil {
		return wire.Request{}, err
	}
	return wire.DecodeRequest(payload)
}

// endStream tells the caller how its stream ended.
func (n *Net) endStream(out outlet, failure *wire.Error) {
	var payload []byte
	if failure != nil {
		payload = wire.EncodeError(failure)
	}
	if err := out.send(messageEnd, payload); err != nil {
		n.log.Debug("stream's end not sent", "err", err) // the caller has gone, or sees the connection break
	}
}
