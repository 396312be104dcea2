package lab

import (
	"fmt"
	"net"
)

// reservedOffset is of a port that no node listens on: who holds it has the hundred for itself, among those who look for free ones.
const reservedOffset = 99

// hold is a cluster's ports, until its nodes listen on them.
type hold []net.Listener

// reservePorts finds a port base at which a cluster of these regions finds its ports free, and keeps others that look at the same moment from taking the same.
func reservePorts(regions []Region) (base int, h hold, err error) {
	for base = 20000; ; base += portsPerNode {
		p, err := newPlan("", regions, base)
		if err != nil {
			return 0, nil, fmt.Errorf("no free ports for the cluster: %w", err)
		}
		if h, err = p.claim(); err == nil {
			if err = p.tryPorts(); err == nil {
				return base, h, nil
			}
		}
		h.close()
	}
}

func (p *plan) claim() (h hold, err error) {
	for _, n := range p.nodes {
		l, err := net.Listen("tcp", n.addr(reservedOffset))
		if err != nil {
			return h, fmt.Errorf("reserve the ports of node %s: %w", n.ID, err)
		}
		h = append(h, l)
	}
	return h, nil
}

func (h hold) close() {
	for _, l := range h {
		_ = l.Close() // nobody was accepted
	}
}

// tryPorts says whether somebody listens on a port of a node.
func (p *plan) tryPorts() error {
	for _, n := range p.nodes {
		if err := n.tryPorts(); err != nil {
			return err
		}
	}
	return nil
}

func (n node) tryPorts() error {
	for _, offset := range []int{1, 10, 24, 25, 43, 80, 93, 95} {
		l, err := net.Listen("tcp", n.addr(offset))
		if err != nil {
			return fmt.Errorf("port of node %s is taken (choose another --port-base): %w", n.ID, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("close probe of %s: %w", n.addr(offset), err)
		}
	}
	return nil
}
