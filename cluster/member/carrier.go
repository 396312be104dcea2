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

// address stands for a node towards memberlist: a unique local IPv6 address (RFC 4193) made from the id's hash, of which it has
// 120 bits: no two nodes share one.
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
	packets chan *memberlist.Packet
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup

	mu  sync.Mutex        // guards ids
	ids map[string]string // address → node id, of the peer table and this node
}

var _ memberlist.NodeAwareTransport = (*carrier)(nil)

func newCarrier(n *transport.Net) *carrier {
	c := &carrier{net: n, packets: make(chan *memberlist.Packet), stop: make(chan struct{})}
	c.learn()
	n.Gossip().Accept(true)
	c.wg.Go(c.receive)
	return c
}

// learn takes over the peer table.
func (c *carrier) learn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = map[string]string{address(c.net.ID()).String(): c.net.ID()}
	for _, p := range c.net.Peers() {
		c.ids[address(p.ID).String()] = p.ID
	}
}

// receive passes packets on as memberlist wants them. One may have waited here while its sender was taken out of the peer table.
func (c *carrier) receive() {
	for {
		select {
		case p := <-c.net.Gossip().Packets():
			if !c.net.Knows(p.From) {
				continue
			}
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
	c.mu.Lock()
	defer c.mu.Unlock()
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

// WriteToAddress loses packets to peers that are down, or in the peer table no longer. It must not fail: memberlist takes an error for a
// fault of its own node, and would never suspect the peer.
func (c *carrier) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if id, err := c.node(addr); err == nil {
		c.net.Gossip().Send(id, b)
	}
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
