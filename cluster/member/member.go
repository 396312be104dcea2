// Package member knows who is in the cluster, by gossip (hashicorp/memberlist) over the transport's port.
//
// Gossip informs and never decides: what it says may be seconds old, and differ between nodes. Placement is
// decided in the directory; whether a call would get through, transport.Up knows sooner. It also carries short words that
// nodes tell each other (word.go).
//
// Invariants:
//
//  1. memberlist never sees a real address. Each node's stands for its id (see address), the same on
//     every node, so a dial table may send each node another way to the same peer.
//  2. A peer that is reachable is a member: this node joins whoever is up and not yet known, again and again,
//     so partitions of any length heal.
//  3. Only this node and those in its peer table are members, whatever others say: one that is taken out of the table leaves at once,
//     though memberlist may believe in it until the last node has taken it out.
//  4. Events are told on one goroutine of this package, in order; no callback runs inside memberlist's locks.
//
// All state is in memory; a crash leaves nothing behind.
package member

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"hongyan/cluster/transport"
	"hongyan/engine/codec"
)

const (
	rejoinEvery  = 5 * time.Second
	leaveTimeout = 2 * time.Second
	packetSize   = 8 << 10 // TCP carries it, so no need for small ones

	streamTimeout = 3 * time.Second // of an exchange of states
)

// Meta is what a node tells about itself. Encoded it is at most 512 bytes.
type Meta struct {
	Region  string   `cbor:"1,keyasint"`
	Roles   []string `cbor:"2,keyasint,omitempty"`
	Version string   `cbor:"3,keyasint,omitempty"`
	HTTP    string   `cbor:"4,keyasint,omitempty"` // base URL of its HTTP API
}

// Member is a node that gossip believes alive.
type Member struct {
	ID string
	Meta
}

// Event is a change of the membership.
type Event struct {
	Kind   Kind
	Member Member
}

// Kind of an Event.
type Kind uint8

// The kinds of events.
const (
	Joined  Kind = 1
	Left    Kind = 2 // gracefully or not
	Updated Kind = 3 // its Meta changed
)

// Config of a node's membership.
type Config struct {
	Net     *transport.Net
	Meta    Meta
	OnEvent func(Event) // may be nil
	Log     *slog.Logger
}

// List is this node's view of the membership. Safe for concurrent use.
type List struct {
	cfg  Config
	meta []byte
	ml   *memberlist.Memberlist

	stop    chan struct{}
	wake    chan struct{} // capacity one: look for peers to join
	changed chan struct{} // capacity one: members differs from what was told
	wg      sync.WaitGroup

	mu      sync.Mutex        // guards members, stopped
	members map[string]Member // in whom memberlist believes
	stopped bool

	words words
}

// Start joins the cluster: it returns at once, and the peers that can be reached get known as they are.
func Start(cfg Config) (*List, error) {
	meta, err := codec.Marshal(&cfg.Meta)
	if err == nil && len(meta) > memberlist.MetaMaxSize {
		err = fmt.Errorf("%d bytes of metadata, at most %d", len(meta), memberlist.MetaMaxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("start membership: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &List{
		cfg: cfg, meta: meta,
		stop: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		members: make(map[string]Member),
	}
	carrier := newCarrier(cfg.Net)
	if l.ml, err = memberlist.Create(l.memberlistConfig(carrier)); err != nil {
		return nil, fmt.Errorf("start membership: %w", errors.Join(err, carrier.Shutdown()))
	}
	cfg.Net.OnChange(func(string, bool) { poke(l.wake) })
	cfg.Net.OnPeers(func() {
		carrier.learn()
		poke(l.changed)
		poke(l.wake)
	})
	carrier.learn() // the table may have changed just before
	l.wg.Go(l.join)
	l.wg.Go(l.tell)
	return l, nil
}

// memberlistConfig starts from memberlist's settings for a LAN: its probe timeout of 500 ms is also above every
// round trip between our regions.
func (l *List) memberlistConfig(carrier *carrier) *memberlist.Config {
	config := memberlist.DefaultLANConfig()
	config.Name = l.cfg.Net.ID()
	config.Transport = carrier
	config.Delegate = delegate{l}
	config.Events = events{l}
	config.Alive = doorkeeper{l.cfg.Net}
	config.Logger = log.New(logWriter{l.cfg.Log}, "", 0)
	config.SuspicionMult = 3 // with SuspicionMaxTimeoutMult: a silent node is out after 3 to 6 s
	config.SuspicionMaxTimeoutMult = 2
	config.DisableTcpPings = true    // packets travel by TCP already
	config.EnableCompression = false // not worth its CPU
	config.UDPBufferSize = packetSize
	config.TCPTimeout = streamTimeout
	return config
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Members lists the nodes believed alive, this one included, by id.
func (l *List) Members() []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Member, 0, len(l.members))
	for _, m := range l.members {
		if l.cfg.Net.Knows(m.ID) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Leave tells the others that this node goes on purpose, waiting a moment for the word to get out, and stops.
func (l *List) Leave() error { return l.end(true) }

// Close stops without a word; the others will find out.
func (l *List) Close() error { return l.end(false) }

func (l *List) end(leave bool) error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return nil
	}
	l.stopped = true
	l.mu.Unlock()
	close(l.stop)
	l.wg.Wait()
	var err error
	if leave {
		err = l.ml.Leave(leaveTimeout)
	}
	if err = errors.Join(err, l.ml.Shutdown()); err != nil {
		return fmt.Errorf("end membership: %w", err)
	}
	return nil
}

// join keeps invariant 2.
func (l *List) join() {
	ticker := time.NewTicker(rejoinEvery)
	defer ticker.Stop()
	for {
		for _, p := range l.cfg.Net.Peers() {
			if l.known(p.ID) || !l.cfg.Net.Up(p.ID) {
				continue
			}
			if _, err := l.ml.Join([]string{p.ID + "/" + address(p.ID).String()}); err != nil {
				l.cfg.Log.Debug("peer not joined", "peer", p.ID, "err", err)
			}
		}
		select {
		case <-l.wake:
		case <-ticker.C:
		case <-l.stop:
			return
		}
	}
}

func (l *List) known(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.members[id]
	return ok
}

// set enters what memberlist says of a node; alive false removes it.
func (l *List) set(node *memberlist.Node, alive bool) {
	m := Member{ID: node.Name}
	if err := codec.Unmarshal(node.Meta, &m.Meta); err != nil && alive {
		l.cfg.Log.Warn("member's metadata unreadable", "peer", node.Name, "err", err)
	}
	l.mu.Lock()
	if alive {
		l.members[m.ID] = m
	} else {
		delete(l.members, m.ID)
	}
	l.mu.Unlock()
	poke(l.changed)
	poke(l.wake)
}

// tell reports each difference between the members now and those told before.
func (l *List) tell() {
	told := map[string]Member{}
	for {
		select {
		case <-l.changed:
		case <-l.stop:
			return
		}
		now := make(map[string]Member)
		for _, m := range l.Members() {
			now[m.ID] = m
		}
		for _, e := range differences(told, now) {
			l.cfg.Log.Info("membership changed", "event", e.Kind.String(), "peer", e.Member.ID, "region", e.Member.Region)
			if l.cfg.OnEvent != nil {
				l.cfg.OnEvent(e)
			}
		}
		told = now
	}
}

// differences between two memberships, by id.
func differences(before, after map[string]Member) []Event {
	var out []Event
	for id, m := range after {
		old, known := before[id]
		switch {
		case !known:
			out = append(out, Event{Joined, m})
		case old.Region != m.Region || old.Version != m.Version || old.HTTP != m.HTTP || !slices.Equal(old.Roles, m.Roles):
			out = append(out, Event{Updated, m})
		}
	}
	for id, m := range before {
		if _, still := after[id]; !still {
			out = append(out, Event{Left, m})
		}
	}
	slices.SortFunc(out, func(a, b Event) int { return strings.Compare(a.Member.ID, b.Member.ID) })
	return out
}

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Joined:
		return "joined"
	case Left:
		return "left"
	case Updated:
		return "updated"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// delegate gives memberlist this node's metadata and takes words.
type delegate struct{ l *List }

func (d delegate) NodeMeta(int) []byte           { return d.l.meta }
func (d delegate) NotifyMsg(packet []byte)       { d.l.heard(packet) }
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// doorkeeper keeps from memberlist what is said of nodes that are not in the peer table.
type doorkeeper struct{ net *transport.Net }

func (d doorkeeper) NotifyAlive(n *memberlist.Node) error {
	if !d.net.Knows(n.Name) {
		return fmt.Errorf("node %s is not in the peer table", n.Name)
	}
	return nil
}

// events is called by memberlist inside its locks.
type events struct{ l *List }

func (e events) NotifyJoin(n *memberlist.Node)   { e.l.set(n, true) }
func (e events) NotifyUpdate(n *memberlist.Node) { e.l.set(n, true) }
func (e events) NotifyLeave(n *memberlist.Node)  { e.l.set(n, false) }

// logWriter passes memberlist's lines on at debug level: what matters of them this package tells itself.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug("memberlist", "text", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}
