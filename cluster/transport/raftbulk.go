package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
)

// Kinds of frames on a snapshot's connection, beside wire.RaftInstall, its reply and wire.RaftError.
const (
	frameData     = 0x10 // the snapshot's bytes, in order
	frameProgress = 0x11 // the receiver is still at work
)

// A snapshot's connection carries, from the leader: one RaftInstall frame (channel: the shard), the snapshot in
// frameData frames, in all as many bytes as the request said; from the follower: frameProgress now and then, at last
// the reply or an error. Either end gives up when the other shows no progress for timing.progress.

// InstallSnapshot streams a snapshot to a peer and waits until its raft has taken it over.
func (g *raftGroup) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := func() error {
		p, err := g.n.peer(string(target))
		if err == nil {
			err = g.n.unfenced(p.ID)
		}
		if err != nil {
			return err
		}
		if !g.n.Up(p.ID) {
			return wire.Errorf(wire.Unavailable, "node %s is down", p.ID)
		}
		conn, err := g.n.dial(g.ctx, p, serviceRaftBulk)
		if err != nil {
			return err
		}
		defer discard(conn.NetConn())
		return g.sendSnapshot(conn, args, resp, data)
	}()
	if err != nil {
		return fmt.Errorf("snapshot of shard %d to %s: %w", g.shard, target, err)
	}
	return nil
}

func (g *raftGroup) sendSnapshot(conn *tls.Conn, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	link := wire.NewLink(conn, maxRaftMessage)
	defer link.Close()
	stop := context.AfterFunc(g.ctx, func() { link.Close() })
	defer stop()
	request, err := wire.EncodeRaft(nil, args)
	if err != nil {
		return err
	}
	ctx, answered := context.WithCancel(g.ctx) // an answer before the end is a refusal
	defer answered()
	outcome := make(chan error, 1)
	sent := make(chan struct{}) // closed when the follower's silence begins to count
	go func() {
		defer answered()
		outcome <- g.snapshotReply(conn, link, sent, resp)
	}()
	err = link.Send(ctx, wire.Frame{Kind: wire.RaftInstall, Channel: g.shard, Payload: request})
	if err == nil {
		err = sendAll(ctx, link, data, args.Size)
	}
	close(sent)
	var local *localError
	if errors.As(err, &local) {
		link.Close()
		<-outcome
		return local.err
	}
	return <-outcome // when sending failed, why the connection broke
}

// localError is a fault of this end's snapshot, not of the connection.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }

// sendAll sends exactly size bytes of data.
func sendAll(ctx context.Context, link *wire.Link, data io.Reader, size int64) error {
	buf := make([]byte, wire.MaxPiece)
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := io.ReadFull(data, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return &localError{fmt.Errorf("read snapshot, %d of %d bytes left: %w", left, size, err)}
		}
		if err := link.Send(ctx, wire.Frame{Kind: frameData, Payload: buf[:k]}); err != nil {
			return err
		}
		left -= int64(k)
	}
	return nil
}

// snapshotReply waits for the follower's answer. While bytes are being sent the link's own write
// timeout watches; from then on, progress frames must come.
func (g *raftGroup) snapshotReply(conn net.Conn, link *wire.Link, sent <-chan struct{}, resp *raft.InstallSnapshotResponse) error {
	progress := g.n.cfg.timing.progress
	replied := make(chan struct{})
	defer close(replied)
	go func() {
		select {
		case <-sent:
			_ = conn.SetReadDeadline(time.Now().Add(progress)) // fails only when closed, which the read will see
		case <-replied:
		}
	}()
	for {
		f, err := link.Read()
		if err != nil {
			return lost(err)
		}
		switch f.Kind {
		case frameProgress:
			if err := conn.SetReadDeadline(time.Now().Add(progress)); err != nil {
				return lost(err)
			}
		case wire.RaftError:
			return wire.DecodeError(f.Payload)
		default:
			return wire.DecodeRaft(f.Payload, resp)
		}
	}
}

// serveSnapshot is the accepting end of a snapshot's connection.
func (n *Net) serveSnapshot(conn net.Conn, p *peer) {
	link := wire.NewLink(conn, maxRaftMessage)
	defer link.Close()
	out := wire.Frame{Kind: wire.RaftError}
	response, err := n.receiveSnapshot(conn, link, p)
	if err == errClosed {
		return // raft may still be reading from the link
	}
	if err == nil {
		out.Kind = wire.RaftInstallReply
		out.Payload, err = wire.EncodeRaft(nil, response)
	}
	if err != nil {
		n.log.Warn("snapshot not taken", "peer", p.ID, "err", err)
		out.Kind, out.Payload = wire.RaftError, wire.EncodeError(wire.FromError(err))
	}
	if link.Send(n.ctx, out) != nil || conn.SetReadDeadline(time.Now().Add(n.cfg.timing.progress)) != nil {
		return
	}
	drain(link) // until the leader has the answer and closes
}

// receiveSnapshot hands a snapshot to raft. It returns errClosed when the shard was closed meanwhile; raft may then still be
// reading, until the link is closed.
func (n *Net) receiveSnapshot(conn net.Conn, link *wire.Link, p *peer) (any, error) {
	body := &snapshotReader{conn: conn, link: link, progress: n.cfg.timing.progress}
	f, err := body.frame(wire.RaftInstall)
	if err != nil {
		return nil, err
	}
	request := new(raft.InstallSnapshotRequest)
	if err := wire.DecodeRaft(f.Payload, request); err != nil {
		return nil, err
	}
	if string(request.Addr) != p.ID {
		return nil, wire.Errorf(wire.Denied, "node %q speaks for %q", p.ID, request.Addr)
	}
	if err := n.unfenced(p.ID); err != nil {
		return nil, err
	}
	g := n.group(f.Channel)
	if g == nil {
		return nil, wire.Errorf(wire.Unavailable, "shard %d is not on node %s", f.Channel, n.cfg.ID)
	}
	body.left = request.Size
	done := make(chan struct{})
	defer close(done)
	n.spawn(func() { reportProgress(link, done, n.cfg.timing.progress/5) })
	response, err := g.process(request, body)
	if g.ctx.Err() != nil {
		return nil, errClosed
	}
	return response, err
}

// reportProgress tells the leader that this end is at work, until done.
func reportProgress(link *wire.Link, done <-chan struct{}, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			link.SendUrgent(wire.Frame{Kind: frameProgress})
		case <-done:
			return
		case <-link.Done():
			return
		}
	}
}

// snapshotReader gives raft the bytes of a snapshot as they arrive: all of them, or an error.
type snapshotReader struct {
	conn     net.Conn
	link     *wire.Link
	progress time.Duration
	left     int64
	piece    []byte
}

// frame reads the next frame, which must be of a kind.
func (r *snapshotReader) frame(kind uint8) (wire.Frame, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.progress)); err != nil {
		return wire.Frame{}, lost(err)
	}
	f, err := r.link.Read()
	if err != nil {
		return wire.Frame{}, lost(err)
	}
	if f.Kind != kind {
		return wire.Frame{}, fmt.Errorf("%w: frame of kind %d in a snapshot", wire.ErrMalformed, f.Kind)
	}
	return f, nil
}

func (r *snapshotReader) Read(p []byte) (int, error) {
	if len(r.piece) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		f, err := r.frame(frameData)
		if err != nil {
			return 0, err
		}
		if int64(len(f.Payload)) > r.left || len(f.Payload) == 0 {
			return 0, fmt.Errorf("%w: %d bytes where %d are left of the snapshot", wire.ErrMalformed, len(f.Payload), r.left)
		}
		r.piece = f.Payload
		r.left -= int64(len(f.Payload))
	}
	k := copy(p, r.piece)
	r.piece = r.piece[k:]
	return k, nil
}
