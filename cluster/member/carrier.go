package member

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"hongyan/cluster/transport"
)

// port is what memberlist is told beside an address; it means nothing.
const port = 1

// address stands for a node towards memberlist: a unique local IPv6 address (RFC 4193) made from the id's hash.
func address(id string) *net.TCPAddr {
	hash := sha256.Sum256([]byte(id))
	ip := make(net.IP, net.IPv6len)
	ip[0] = 0xfd
	copy(ip[1:], hash[:])
	return &net.TCPAddr{IP: ip, Port: port}
}

// carrier is memberlist's transport over ours.
type carrier struct {
	net     *transport.Net
	ids     map[string]string // address → node id
	packets chan *memberlist.Packet
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*carrier)(nil)

func newCarrier(n *transport.Net) (*carrier, error) {
	c := &carrier{net: n, ids: make(map[string]string), packets: make(chan *memberlist.Packet), stop: make(chan struct{})}
	for _, p := range append(n.Peers(), transport.Peer{ID: n.ID()}) {
		addr := address(p.ID).String()
		if other, taken := c.ids[addr]; taken {
			return nil, fmt.Errorf("nodes %s and %s have one gossip address", p.ID, other)
		}
		c.ids[addr] = p.ID
	}
	n.Gossip().Accept(true)
	c.wg.Go(c.receive)
	return c, nil
}

// receive passes packets on as memberlist wants them.
func (c *carrier) receive() {
	for {
		select {
		case p := <-c.net.Gossip().Packets():
			packet := &memberlist.Packet{Buf: p.Data, From: address(p.From), Timestamp: time.Now()}
			select {
			case c.packets <- packet:
			case <-c.stop:
				return
			}
		case <-c.stop:
			return
		}
	}
}

func (c *carrier) node(addr memberlist.Address) (string, error) {
	if id, ok := c.ids[addr.Addr]; ok {
		return id, nil
	}
	return "", fmt.Errorf("no node is known at gossip address %s", addr.String())
}

func (c *carrier) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return address(c.net.ID()).IP, port, nil
}

func (c *carrier) WriteTo(b []byte, addr string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress loses packets to peers that are down. It must not fail: memberlist takes an error for a fault of
// its own node, and would never suspect the peer.
func (c *carrier) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	id, err := c.node(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip packet: %w", err)
	}
	c.net.Gossip().Send(id, b)
	return time.Now(), nil
}

func (c *carrier) PacketCh() <-chan *memberlist.Packet { return c.packets }

func (c *carrier) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (c *carrier) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	id, err := c.node(addr)
	if err != nil {
		return nil, err
	}
	conn, err := c.net.Gossip().Dial(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("gossip stream to %s: %w", id, err)
	}
	return conn, nil
}

func (c *carrier) StreamCh() <-chan net.Conn { return c.net.Gossip().Streams() }

func (c *carrier) Shutdown() error {
	c.net.Gossip().Accept(false)
	c.once.Do(func() { close(c.stop) })
	c.wg.Wait()
	return nil
}
