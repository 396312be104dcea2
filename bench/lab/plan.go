package lab

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hongyan/cluster/config"
)

// Region is a place with a number of nodes.
type Region struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
}

const (
	minNodes      = 2
	maxNodes      = 64
	maxRegionName = 40
	portsPerNode  = 100
	highestOffset = 95

	masterKeyFile = "master.key"

	minSettle = 3 * time.Second
	maxSettle = 24 * time.Hour
)

// ColdLeast is how many bytes a volume of the lab must have to turn cold.
const ColdLeast = 64 << 10

// DefaultRegions are one node in each of three regions.
func DefaultRegions() []Region {
	return []Region{{"south-china", 1}, {"north-china", 1}, {"overseas", 1}}
}

// ParseRegions reads a list such as south-china=1,north-china=1,overseas=1.
func ParseRegions(s string) ([]Region, error) {
	var out []Region
	total := 0
	for part := range strings.SplitSeq(s, ",") {
		region, count, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > maxNodes || len(region) > maxRegionName || !config.ValidName(region) {
			return nil, fmt.Errorf("region %q: expected NAME=COUNT such as south-china=1", part)
		}
		if slices.ContainsFunc(out, func(r Region) bool { return r.Name == region }) {
			return nil, fmt.Errorf("region %q: named twice", region)
		}
		out = append(out, Region{region, n})
		total += n
	}
	if total < minNodes {
		return nil, fmt.Errorf("one node: expected at least %d, since every message is kept on two", minNodes)
	}
	if total > maxNodes {
		return nil, fmt.Errorf("%d nodes: expected at most %d on one machine", total, maxNodes)
	}
	return out, nil
}

// plan is what the folder's cluster consists of, and where everything listens. One that others see is not changed any more: see crew.
type plan struct {
	dir    string
	base   int                  // first port of the node with number 0
	roster roster               // of all that the folder knows
	nodes  []node               // those that run here, or would if nobody had stopped them
	dial   map[[2]string]string // where a node reaches another, by both their ids; absent: at its own address
	hurry  int64                // seconds of --settle; 0: the lab's own times
}

// node is one member. Its ports are base plus the last two digits of the standard port.
type node struct {
	ID     string
	Region string
	base   int
	dir    string
	roles  []config.Role
	joined bool
}

func (n node) addr(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.base+offset))
}
func (n node) http() string               { return "http://" + n.addr(80) }
func (n node) logFile() string            { return filepath.Join(n.dir, "node.log") }
func (n node) configFile() string         { return filepath.Join(n.dir, "node.yaml") }
func (n node) does(role config.Role) bool { return slices.Contains(n.roles, role) }

// newPlan is that of a cluster which is about to be founded.
func newPlan(dir string, regions []Region, portBase int) (*plan, error) {
	return planOf(dir, found(regions), portBase)
}

// planOf has all nodes run but those that are there by half.
func planOf(dir string, r roster, portBase int) (*plan, error) {
	p := &plan{dir: dir, base: portBase, roster: r, dial: make(map[[2]string]string)}
	highest := 0
	for _, s := range r.Nodes {
		highest = max(highest, s.Number)
		if s.Half == "" {
			p.nodes = append(p.nodes, p.node(s))
		}
	}
	last := portBase + portsPerNode*highest + highestOffset
	if portBase < 1 || last > 65535 {
		return nil, fmt.Errorf("port base %d: expected one from 1 to %d for %d nodes", portBase, 65535-(last-portBase), highest+1)
	}
	return p, nil
}

func (p *plan) node(s seat) node {
	n := node{s.ID, s.Region, p.base + portsPerNode*s.Number, filepath.Join(p.dir, s.ID), s.Roles, s.Joined}
	if len(n.roles) == 0 {
		n.roles = []config.Role{config.Storage, config.Frontend}
	}
	return n
}

func (p *plan) clone() *plan {
	c := *p
	c.roster, c.nodes, c.dial = p.roster.clone(), slices.Clone(p.nodes), maps.Clone(p.dial)
	return &c
}

// drop takes a node out of everything but the roster.
func (p *plan) drop(id string) {
	p.nodes = slices.DeleteFunc(p.nodes, func(n node) bool { return n.ID == id })
	maps.DeleteFunc(p.dial, func(way [2]string, _ string) bool { return way[0] == id || way[1] == id })
}

// freeNumber is the lowest that no node has and whose ports are free at the moment.
func (p *plan) freeNumber(region string) (int, error) {
	for number := 0; p.base+portsPerNode*number+highestOffset <= 65535 && number < 2*maxNodes; number++ {
		taken := slices.ContainsFunc(p.roster.Nodes, func(s seat) bool { return s.Number == number })
		if !taken && p.node(seat{ID: p.roster.nextID(region), Number: number}).tryPorts() == nil {
			return number, nil
		}
	}
	return 0, fmt.Errorf("no free ports for a further node from port base %d on: choose a lower one at the next start", p.base)
}

func sameSet(a, b []Region) bool {
	less := func(x, y Region) int { return strings.Compare(x.Name, y.Name) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), less), slices.SortedFunc(slices.Values(b), less))
}

func formatRegions(rs []Region) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("%s=%d", r.Name, r.Nodes)
	}
	return strings.Join(parts, ",")
}

// config is the node's file.
func (p *plan) config(n node, tokenSHA256 string) *config.Node {
	at := func(offset int) *config.Listener {
		return &config.Listener{Address: n.addr(offset), Allow: config.Inside()}
	}
	c := &config.Node{
		ID: n.ID, Region: n.Region, Roles: n.roles, Data: n.dir, Join: n.joined || p.roster.Founded,
		RPC:              config.RPC{Listen: n.addr(1), Allow: config.Inside()},
		TLS:              config.NodeTLS{CA: filepath.Join(p.dir, "ca.pem"), Cert: filepath.Join(n.dir, "node.pem"), Key: filepath.Join(n.dir, "node.key")},
		ServerTLS:        config.ServerTLS{Cert: filepath.Join(p.dir, "server.pem"), Key: filepath.Join(p.dir, "server.key")},
		Listeners:        config.Listeners{HTTP: at(80)},
		Encryption:       &config.Encryption{MasterKeyFile: filepath.Join(p.dir, masterKeyFile)},
		AdminTokenSHA256: tokenSHA256,
		DiskReserveBytes: p.reserve(n),
		Scrub:            config.Scrub{IntervalSeconds: 600}, // often enough to be seen at work
	}
	if n.does(config.Frontend) {
		c.Listeners = config.Listeners{SMTP: at(25), LMTP: at(24), IMAP: at(43), IMAPS: at(93), POP3: at(10), POP3S: at(95), HTTP: at(80)}
	}
	c.Compaction, c.Cold = p.ageing()
	for _, o := range p.nodes {
		if o.ID != n.ID {
			at := cmp.Or(p.dial[[2]string{n.ID, o.ID}], o.addr(1))
			c.Peers = append(c.Peers, config.Peer{ID: o.ID, Region: o.Region, Roles: o.roles, RPC: at})
		}
	}
	return c
}

// ageing says when volumes take no more mail, are collected and become fragments: so soon that one can watch it, or as --settle has it.
func (p *plan) ageing() (config.Compaction, *config.Cold) {
	if p.hurry == 0 {
		return config.Compaction{IntervalSeconds: 15, GraceSeconds: 30, CloseSeconds: 600}, &config.Cold{AfterSeconds: 300, MinBytes: ColdLeast}
	}
	// A volume turns cold no sooner than the grace and two rounds of the collector after its end: package config insists. Each round asks all
	// replicas of all shards about each volume: one a second is the most of what an idle cluster does then.
	every := max(1, p.hurry/15)
	return config.Compaction{IntervalSeconds: every, GraceSeconds: p.hurry - 2*every, CloseSeconds: p.hurry}, &config.Cold{AfterSeconds: p.hurry, MinBytes: ColdLeast}
}

// waitPorts makes sure that nobody else listens on a port of the cluster. Nodes of a supervisor that
// was killed a moment ago may still be on their way out.
func (p *plan) waitPorts(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(pollEvery) {
		err := p.tryPorts()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
