package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"hongyan/cluster/certfile"
	"hongyan/cluster/clock"
	"hongyan/cluster/feature"
)

// Services on the port, told apart by ALPN.
const (
	serviceRPC      = "hongyan-rpc/1"
	serviceStream   = "hongyan-stream/1"
	serviceRaft     = "hongyan-raft/1"
	serviceRaftBulk = "hongyan-raftbulk/1"
	servicePacket   = "hongyan-packet/1"
	serviceGossip   = "hongyan-gossip/1"
	serviceLevels   = "hongyan-levels/1"
	serviceSelf     = "hongyan-self/1" // of a node by itself
)

// Limits on what peers may ask of a node.
const (
	MaxMessage      = 16 << 20 // one request, reply or stream message
	maxRaftMessage  = 64 << 20 // one AppendEntries
	maxHandshakes   = 256      // connections that have not yet shown who they are
	maxCalls        = 1024     // calls in flight from one peer
	maxStreams      = 256      // streams open from one peer
	maxOwnLinks     = 2        // persistent connections of one service from one peer; the oldest yields
	maxOwnTransfers = 32       // one-shot connections of one service from one peer; a further one is refused
	defaultCallWait = 30 * time.Second
)

// Peer is a line of the peer table.
type Peer struct {
	ID     string
	Region string
	Addr   string // host:port to dial, which a relay may stand in for
	Roles  []string
}

// Config is what a node needs to talk to its peers.
type Config struct {
	ID       string
	Listen   string       // host:port
	Listener net.Listener // in place of Listen, when the socket is open already
	Peers    []Peer       // to begin with (SetPeers); may contain the node itself, which is ignored
	CA       string       // paths of PEM files
	Cert     string
	Key      string
	Allow    []netip.Prefix // networks that may connect; all when empty
	Clock    *clock.Clock   // by which certificates are valid; nil is the system's
	Log      *slog.Logger   // nil discards

	Newest   feature.Level // that this node knows; 0: the program's
	Least    feature.Level // that peers must know, to begin with (Require); 0: any
	Outdated func(error)   // told, once, when a peer asks for more than this node knows; may be nil

	timing timing // zero values mean defaults; tests shorten them
}

// timing gathers the waits of this package.
type timing struct {
	ping      time.Duration // between pings to each of up to pingPeers peers; see pingEvery
	silence   time.Duration // a ping without an answer for so long means the peer is down
	redialMin time.Duration
	redialMax time.Duration
	dial      time.Duration // TCP connect
	handshake time.Duration // TLS
	raft      time.Duration // AppendEntries
	vote      time.Duration // votes, TimeoutNow
	gather    time.Duration // how long a heartbeat waits for those of other shards; with a fifth of raft's timeout well below a lease; more than a tenth gathers all
	beat      time.Duration // heartbeats; well below a leader's lease, so that the next may still save it
	progress  time.Duration // a snapshot transfer without any progress
	renewal   time.Duration // between two looks whether the certificate's files have changed
}

func (t timing) withDefaults() timing {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&t.ping, 50*time.Millisecond)
	set(&t.silence, 2*time.Second)
	set(&t.redialMin, 50*time.Millisecond)
	set(&t.redialMax, time.Second)
	set(&t.dial, 3*time.Second)
	set(&t.handshake, 5*time.Second)
	set(&t.raft, 10*time.Second)
	set(&t.vote, 3*time.Second)
	set(&t.gather, 500*time.Millisecond)
	set(&t.beat, time.Second)
	set(&t.progress, 15*time.Second)
	set(&t.renewal, certfile.Every)
	return t
}

// A node with more peers than pingPeers pings each of them less often, so that it sends no more pings in all, up to pingSlowest times.
const (
	pingPeers   = 3
	pingSlowest = 3
)

// pingEvery is the time between two pings to a peer. Every node pings every other: at one pace for all sizes an idle cluster of seven would
// do little else. What doubt comes later by is a third of what a peer is given for its answer (liveness.Lateness).
func (n *Net) pingEvery() time.Duration {
	peers := time.Duration(len(n.table.Load().peers))
	ping := n.cfg.timing.ping
	return min(max(ping, ping*peers/pingPeers), pingSlowest*ping)
}

func (c *Config) check() error {
	if c.ID == "" {
		return errors.New("no node id")
	}
	return checkPeers(c.ID, c.Peers)
}

// checkPeers refuses a table that cannot be used by a node.
func checkPeers(self string, peers []Peer) error {
	seen := map[string]bool{}
	for _, p := range peers {
		if p.ID == "" || seen[p.ID] {
			return fmt.Errorf("peer id %q is empty or listed twice", p.ID)
		}
		seen[p.ID] = true
		if _, _, err := net.SplitHostPort(p.Addr); err != nil && p.ID != self {
			return fmt.Errorf("address of peer %s: %w", p.ID, err)
		}
	}
	return nil
}
