package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
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
		if err != nil || n < 1 || n > maxNodes || len(region) > 40 || !config.ValidName(region) {
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

// plan is what the folder's cluster consists of, and where everything listens.
type plan struct {
	dir     string
	regions []Region
	nodes   []node
	dial    map[[2]string]string // where a node reaches another, by both their ids; absent: at its own address
	hurry   int64                // seconds of --settle; 0: the lab's own times
}

// node is one member. Its ports are base plus the last two digits of the standard port.
type node struct {
	ID     string
	Region string
	base   int
	dir    string
}

func (n node) addr(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.base+offset))
}
func (n node) http() string    { return "http://" + n.addr(80) }
func (n node) logFile() string { return filepath.Join(n.dir, "node.log") }

// settle compares what is asked for with what the folder was made with, and numbers the nodes. The first start decides
// which nodes there are; the ports may differ each time.
func settle(dir string, regions []Region, portBase int) (*plan, error) {
	path := filepath.Join(dir, "lab.json")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if b, err = json.Marshal(regions); err != nil {
			return nil, fmt.Errorf("encode list of nodes: %w", err)
		}
		if err := replaceFile(path, append(b, '\n')); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("read list of nodes: %w", err)
	default:
		var old []Region
		if err := json.Unmarshal(b, &old); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if !sameSet(old, regions) {
			return nil, fmt.Errorf("the cluster in %s was made with --regions %s; its nodes cannot change (use another --dir for %s)",
				dir, formatRegions(old), formatRegions(regions))
		}
		regions = old
	}
	return newPlan(dir, regions, portBase)
}

func newPlan(dir string, regions []Region, portBase int) (*plan, error) {
	p := &plan{dir: dir, regions: regions, dial: make(map[[2]string]string)}
	for _, r := range regions {
		for i := range r.Nodes {
			id := fmt.Sprintf("%s-%d", r.Name, i+1)
			p.nodes = append(p.nodes, node{id, r.Name, portBase + portsPerNode*len(p.nodes), filepath.Join(dir, id)})
		}
	}
	last := portBase + portsPerNode*(len(p.nodes)-1) + highestOffset
	if portBase < 1 || last > 65535 {
		return nil, fmt.Errorf("port base %d: expected one from 1 to %d for %d nodes", portBase, 65535-(last-portBase), len(p.nodes))
	}
	return p, nil
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

func (p *plan) urls() []string {
	out := make([]string, len(p.nodes))
	for i, n := range p.nodes {
		out[i] = n.http()
	}
	return out
}

// config is the node's file. Every node takes mail and stores it.
func (p *plan) config(n node, tokenSHA256 string) *config.Node {
	roles := []config.Role{config.Storage, config.Frontend}
	at := func(offset int) *config.Listener {
		return &config.Listener{Address: n.addr(offset), Allow: config.Inside()}
	}
	c := &config.Node{
		ID: n.ID, Region: n.Region, Roles: roles, Data: n.dir,
		RPC:       config.RPC{Listen: n.addr(1), Allow: config.Inside()},
		TLS:       config.NodeTLS{CA: filepath.Join(p.dir, "ca.pem"), Cert: filepath.Join(n.dir, "node.pem"), Key: filepath.Join(n.dir, "node.key")},
		ServerTLS: config.ServerTLS{Cert: filepath.Join(p.dir, "server.pem"), Key: filepath.Join(p.dir, "server.key")},
		Listeners: config.Listeners{
			SMTP: at(25), LMTP: at(24), IMAP: at(43), IMAPS: at(93), POP3: at(10), POP3S: at(95), HTTP: at(80),
		},
		Encryption:       &config.Encryption{MasterKeyFile: filepath.Join(p.dir, masterKeyFile)},
		AdminTokenSHA256: tokenSHA256,
		DiskReserveBytes: p.reserve(n),
		Scrub:            config.Scrub{IntervalSeconds: 600}, // often enough to be seen at work
	}
	c.Compaction, c.Cold = p.ageing()
	for _, o := range p.nodes {
		if o.ID != n.ID {
			at := cmp.Or(p.dial[[2]string{n.ID, o.ID}], o.addr(1))
			c.Peers = append(c.Peers, config.Peer{ID: o.ID, Region: o.Region, Roles: roles, RPC: at})
		}
	}
	return c
}

// ageing says when volumes take no more mail, are collected and become fragments: so soon that one can watch it, or as --settle has it.
func (p *plan) ageing() (config.Compaction, *config.Cold) {
	if p.hurry == 0 {
		return config.Compaction{IntervalSeconds: 15, GraceSeconds: 30, CloseSeconds: 600}, &config.Cold{AfterSeconds: 300, MinBytes: ColdLeast}
	}
	// A volume turns cold no sooner than the grace and two rounds of the collector after its end: package config insists.
	return config.Compaction{IntervalSeconds: 1, GraceSeconds: p.hurry - 2, CloseSeconds: p.hurry}, &config.Cold{AfterSeconds: p.hurry, MinBytes: ColdLeast}
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

func (p *plan) tryPorts() error {
	for _, n := range p.nodes {
		for _, offset := range []int{1, 10, 24, 25, 43, 80, 93, 95} {
			l, err := net.Listen("tcp", n.addr(offset))
			if err != nil {
				return fmt.Errorf("port of node %s is taken (choose another --port-base): %w", n.ID, err)
			}
			if err := l.Close(); err != nil {
				return fmt.Errorf("close probe of %s: %w", n.addr(offset), err)
			}
		}
	}
	return nil
}
