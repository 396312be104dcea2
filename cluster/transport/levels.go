package transport

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"hongyan/cluster/feature"
)

// Programs that know feature levels say them in ALPN: a service's name stands there once for each level from the least that is needed to the newest that is
// known, as in hongyan-rpc/1;level=2, the highest first. Level 1 has the bare name, which is all that older programs know. So two ends agree on the highest
// level that both know, and when one of them knows too little for the cluster there is no connection at all. Then the dialler asks for
// hongyan-levels/1, which everybody but the oldest programs serves at any level, to find out who is too old.

const levelMark = ";level="

var services = [...]string{serviceRPC, serviceStream, serviceRaft, serviceRaftBulk, servicePacket, serviceGossip}

// offers are the protocols of some services that this node takes part in now.
func (n *Net) offers(of ...string) []string {
	var out []string
	least := n.least()
	for l := n.cfg.Newest; l >= least && l >= feature.Base; l-- {
		for _, service := range of {
			if l > feature.Base {
				service += levelMark + strconv.FormatUint(uint64(l), 10)
			}
			out = append(out, service)
		}
	}
	return out
}

// splitProtocol takes one of them apart again. Of what is none of ours it gives no level.
func splitProtocol(protocol string) (service string, level feature.Level) {
	service, number, marked := strings.Cut(protocol, levelMark)
	if !marked {
		return service, feature.Base
	}
	l, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return service, 0
	}
	return service, feature.Level(l)
}

func (n *Net) least() feature.Level { return feature.Level(n.needed.Load()) }

// Require has this node talk only to peers whose programs know a feature level, from now on: the cluster's. Connections with others are closed. It never goes down.
func (n *Net) Require(level feature.Level) {
	for {
		now := n.needed.Load()
		if uint32(level) <= now {
			return
		}
		if n.needed.CompareAndSwap(now, uint32(level)) {
			break
		}
	}
	for _, p := range n.table.Load().peers {
		p.closeBelow(level)
	}
}

// closeBelow closes what was agreed on at a lower level. Outbound connections follow the one for calls.
func (p *peer) closeBelow(level feature.Level) {
	if c := p.control.Load(); c != nil && c.level < level {
		c.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conns := range p.inbound {
		for _, conn := range conns {
			if conn.level < level {
				discard(conn.Conn)
			}
		}
	}
}

// Outdated says why this node and a peer cannot talk, nil if that is not for the age of one's program.
func (n *Net) Outdated(node string) error {
	if p := n.find(node); p != nil {
		if o := p.outdated.Load(); o != nil {
			return o
		}
	}
	return nil
}

// noProtocol tells the alert of a listener that takes part in nothing that was offered. Its type is crypto/tls's own.
func noProtocol(err error) bool { return strings.Contains(err.Error(), "no application protocol") }

// explain is a failed handshake for the log of the listener.
func (n *Net) explain(err error) string {
	if least := n.least(); least > feature.Base && strings.Contains(err.Error(), "unsupported application protocols") {
		return err.Error() + ": a node with a program that does not know the cluster's feature level " + least.String()
	}
	return err.Error()
}

// compare finds out who is too old when the peer takes part in nothing that was offered; other failures stay as they are.
func (p *peer) compare(failed error) error {
	if !noProtocol(failed) {
		return failed
	}
	theirs, err := p.askLevels()
	if err != nil {
		return err
	}
	var o *feature.Outdated
	switch own := p.n.cfg.Newest; {
	case theirs.least > own:
		o = &feature.Outdated{Knows: own, Cluster: theirs.least}
		p.n.behind.Do(func() {
			if p.n.cfg.Outdated != nil {
				p.n.cfg.Outdated(o)
			}
		})
	case theirs.newest < p.n.least():
		o = &feature.Outdated{Node: p.ID, Knows: theirs.newest, Cluster: p.n.least()}
	default:
		return failed // the cluster's level is about to rise, or has just done so
	}
	if old := p.outdated.Swap(o); old == nil || *old != *o {
		p.n.log.Warn("peer is not talked to", "peer", p.ID, "err", o)
	}
	return o
}

// levels are what a node needs of its peers, and knows.
type levels struct{ least, newest feature.Level }

// askLevels asks the peer. A program that is too old to answer knows level 1.
func (p *peer) askLevels() (l levels, err error) {
	conn, err := p.n.dialProtocols(p.ctx, p, []string{serviceLevels})
	if err != nil {
		if noProtocol(err) {
			return levels{feature.Base, feature.Base}, nil
		}
		return l, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetReadDeadline(time.Now().Add(p.n.cfg.timing.handshake)); err != nil {
		return l, err
	}
	var b [8]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return l, err
	}
	return levels{feature.Level(binary.LittleEndian.Uint32(b[:])), feature.Level(binary.LittleEndian.Uint32(b[4:]))}, nil
}

// tellLevels answers askLevels.
func (n *Net) tellLevels(conn *tls.Conn) {
	defer discard(conn)
	if err := conn.SetWriteDeadline(time.Now().Add(n.cfg.timing.handshake)); err != nil {
		return
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(n.least()))
	b = binary.LittleEndian.AppendUint32(b, uint32(n.cfg.Newest))
	if _, err := conn.Write(b); err != nil {
		n.log.Debug("levels were not told", "err", err)
	}
}

// dial connects to one service of a peer, at the highest feature level that both know.
func (n *Net) dial(ctx context.Context, p *peer, service string) (*tls.Conn, error) {
	return n.dialProtocols(ctx, p, n.offers(service))
}
