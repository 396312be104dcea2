package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"hongyan/bench/relay"
	"hongyan/cluster/config"
)

// WAN is the round trips between regions; between nodes of one region there is none. The zero value is no delay anywhere.
type WAN []RTT

// RTT is the round trip between two regions, half of it on each way.
type RTT struct {
	A, B string
	RTT  time.Duration
}

const (
	wanNone  = "none"
	wanChina = "china"

	maxRTT = 2 * relay.MaxDelay
)

// ParseWAN reads none, china, or a list such as south-china:overseas=160ms,south-china:north-china=40ms, which may also name regions whose
// nodes are yet to come. regions are those that there are.
func ParseWAN(s string, regions []Region) (WAN, error) {
	switch s {
	case wanNone, "":
		return nil, nil
	case wanChina:
		w := WAN{{"south-china", "north-china", 40 * time.Millisecond}, {"south-china", "overseas", 160 * time.Millisecond}, {"north-china", "overseas", 200 * time.Millisecond}}
		for _, r := range regions {
			if !slices.ContainsFunc(w, func(t RTT) bool { return t.A == r.Name || t.B == r.Name }) {
				return nil, fmt.Errorf("%s has no region %q: expected south-china, north-china and overseas only, or a list such as %s:REGION=40ms", s, r.Name, r.Name)
			}
		}
		return w, nil
	}
	var w WAN
	for part := range strings.SplitSeq(s, ",") {
		names, value, _ := strings.Cut(part, "=")
		a, b, ok := strings.Cut(names, ":")
		d, err := time.ParseDuration(value)
		switch {
		case !ok || err != nil || d < 0 || d > maxRTT:
			return nil, fmt.Errorf("%q: expected none, china or REGION:REGION=RTT with 0s to %v, such as south-china:overseas=160ms", part, maxRTT)
		case !config.ValidName(a) || !config.ValidName(b):
			return nil, fmt.Errorf("%q: expected two regions such as south-china:overseas", part)
		case a == b:
			return nil, fmt.Errorf("%q: expected two regions, since there is no delay within one", part)
		}
		if slices.ContainsFunc(w, func(t RTT) bool { return t.A == a && t.B == b || t.A == b && t.B == a }) {
			return nil, fmt.Errorf("%q: these two regions have a round trip already", part)
		}
		w = append(w, RTT{a, b, d})
	}
	return w, nil
}

// between is the shape of the way from one region to another.
func (w WAN) between(a, b string) relay.Shape {
	for _, t := range w {
		if t.A == a && t.B == b || t.A == b && t.B == a {
			return relay.Shape{Delay: t.RTT / 2}
		}
	}
	return relay.Shape{}
}

// way is an ordered pair of nodes.
type way struct{ from, to node }

// openLinks puts a relay on each of some ways between two nodes, which come with their ways back, each at a port that the system picks and
// no node wants. The plan learns of them.
func (s *supervisor) openLinks(p *plan, all []way) error {
	if s.o.NoRelay {
		return nil
	}
	for _, w := range all {
		l, err := p.listenElsewhere()
		if err != nil {
			return fmt.Errorf("open relay from %s to %s: %w", w.from.ID, w.to.ID, err)
		}
		p.dial[[2]string{w.from.ID, w.to.ID}] = l.Addr().String()
		s.net.Open(w.from.ID, w.to.ID, w.to.addr(1), l)
	}
	for _, w := range all { // now that both ways of each exist
		if err := s.net.Shape(w.from.ID, w.to.ID, s.o.WAN.between(w.from.Region, w.to.Region)); err != nil {
			return err
		}
	}
	return nil
}

// listenElsewhere takes a free port outside the plan's, also those of nodes that may come.
func (p *plan) listenElsewhere() (*net.TCPListener, error) {
	first, last := p.base, p.base+portsPerNode*maxNodes
	var refused []*net.TCPListener // kept until another is found, so that the system does not give them again
	defer func() {
		for _, l := range refused {
			_ = l.Close() // nobody used it
		}
	}()
	for len(refused) < portsPerNode*maxNodes {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		if at, ok := l.Addr().(*net.TCPAddr); ok && (at.Port < first || at.Port >= last) {
			return l, nil
		}
		refused = append(refused, l)
	}
	return nil, errors.New("no free port outside the nodes' own")
}

// pairs are the ways from each of some nodes to each of others.
func (p *plan) pairs(from, to []node) (out []way) {
	for _, a := range from {
		for _, b := range to {
			if a.ID != b.ID {
				out = append(out, way{a, b})
			}
		}
	}
	return out
}

// named gives the node of that name, or the nodes of the region of that name.
func (p *plan) named(name string) ([]node, error) {
	var known []string
	var region []node
	for _, n := range p.nodes {
		if n.ID == name {
			return []node{n}, nil
		}
		if n.Region == name {
			region = append(region, n)
		}
		known = append(known, n.ID)
	}
	if region == nil {
		return nil, fmt.Errorf("no node and no region %q here; the nodes are %v", name, known)
	}
	return region, nil
}

// ways are those from a to b and back, each a node or a region; without b, those between a and all others.
func (p *plan) ways(a, b string) (there, back []way, err error) {
	from, err := p.named(a)
	if err != nil {
		return nil, nil, err
	}
	var to []node
	if b == "" {
		for _, n := range p.nodes {
			if !slices.ContainsFunc(from, func(f node) bool { return f.ID == n.ID }) {
				to = append(to, n)
			}
		}
	} else if to, err = p.named(b); err != nil {
		return nil, nil, err
	}
	there = p.pairs(from, to)
	if len(there) == 0 {
		return nil, nil, fmt.Errorf("there is no link between %s and itself", a)
	}
	return there, p.pairs(to, from), nil
}
