package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/config"
	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/engine/codec"
	"hongyan/engine/durable"
)

// Who is in the cluster and where replicas are stands in the directory. A node keeps the last that it knew in a file, so that it finds the others
// at its next start; before the cluster is founded, the configuration's peers are all there is.
const (
	topologyFile    = "topology"
	incarnationFile = "raft/" + shard.IncarnationName // beside what it speaks for: who loses the logs and votes loses it too
	topologyPause   = time.Second
	groupsKept      = 5 * time.Second
	foundSay        = 5 * time.Second
)

// openTopology reads what this node knew when it ran last, or makes the first topology of its configuration (version 0).
func (n *Node) openTopology() error {
	t := new(directory.Topology)
	b, err := readSmall(filepath.Join(n.cfg.Data, topologyFile))
	if err == nil && b != nil {
		if wrong := codec.Unmarshal(b, t); wrong != nil { // it is asked for again, as if it were gone
			n.log.Error("the node's copy of the topology is damaged, and fetched again", "file", topologyFile, "err", wrong)
			b = nil
		}
	}
	if err == nil && b == nil {
		t, err = firstTopology(n.cfg)
	}
	if err == nil {
		err = fits(t)
	}
	if err != nil {
		return err
	}
	n.topology.Store(t)
	n.kept = t.Version
	return nil
}

// firstTopology is what a configuration founds. A node that joins founds nothing: it knows only whom to ask.
func firstTopology(cfg *config.Node) (*directory.Topology, error) {
	nodes, homes := members(cfg)
	t := new(directory.Topology)
	addresses := map[string]config.Peer{cfg.ID: {ID: cfg.ID, Region: cfg.Region, Roles: cfg.Roles, RPC: advertised(cfg)}}
	for _, p := range cfg.Peers {
		addresses[p.ID] = p
	}
	for _, m := range nodes {
		p := addresses[m.ID]
		t.Nodes = append(t.Nodes, directory.Node{ID: m.ID, Region: m.Region, Address: p.RPC, Roles: roles(p.Roles), Weight: directory.DefaultWeight})
	}
	if cfg.Join {
		return t, nil
	}
	var err error
	t.Groups, err = placement.Layout(nodes, homes)
	return t, err
}

// advertised is where others reach this node: rpc.advertise, else where it listens, by its host's name if that is everywhere.
func advertised(cfg *config.Node) string {
	if cfg.RPC.Advertise != "" {
		return cfg.RPC.Advertise
	}
	host, port, err := net.SplitHostPort(cfg.RPC.Listen)
	if ip, errIP := netip.ParseAddr(host); err == nil && (host == "" || errIP == nil && ip.IsUnspecified()) {
		return net.JoinHostPort(cfg.Hostname, port)
	}
	return cfg.RPC.Listen
}

// readIncarnation gives the name of the data folder, which it gets at its first start.
func readIncarnation(data string) (string, error) {
	path := filepath.Join(data, incarnationFile) // its folder is there
	b, err := readSmall(path)
	if err != nil || b != nil {
		return strings.TrimSpace(string(b)), err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	name := hex.EncodeToString(random[:])
	return name, durable.Replace(vfs.Default, path, []byte(name), vfs.WriteCategoryUnspecified)
}

// readSmall gives nil for a file that is not there.
func readSmall(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return b, nil
}

// region is where a node is, "" if it is not known.
func (n *Node) region(node string) string {
	known, _ := n.topology.Load().Node(node)
	return known.Region
}

// storagePeers lists the nodes that keep volumes.
func (n *Node) storagePeers() []replica.Peer {
	var out []replica.Peer
	for _, m := range n.topology.Load().Nodes {
		if m.Stores() {
			lost := m.Lost || m.Emptied != "" || m.ID == n.cfg.ID && n.foreign() != nil
			out = append(out, replica.Peer{ID: m.ID, Region: m.Region, Zone: m.Zone, Weight: m.Weight, Leaving: m.Leaving(), Lost: lost})
		}
	}
	return out
}

// dialTable is where the others are: their own addresses, but those that this node's configuration gives, for it may see the network in another way.
func (n *Node) dialTable(t *directory.Topology, cfg *config.Node) []transport.Peer {
	own := make(map[string]string)
	for _, p := range cfg.Peers {
		own[p.ID] = p.RPC
	}
	var out []transport.Peer
	for _, m := range t.Nodes {
		if m.Removed && !m.Fenced() || m.ID == n.cfg.ID { // one that was given up is told so if it comes back
			continue
		}
		p := transport.Peer{ID: m.ID, Region: m.Region, Addr: m.Address, Roles: m.Roles}
		if addr := own[m.ID]; addr != "" {
			p.Addr = addr
		}
		out = append(out, p)
	}
	return out
}

// takeTopology has everything follow a newer one.
func (n *Node) takeTopology(t *directory.Topology) error {
	n.taking.Lock()
	defer n.taking.Unlock()
	if t.Version <= n.topology.Load().Version {
		return nil
	}
	if len(t.Nodes) == 0 || len(t.Groups) == 0 {
		return fmt.Errorf("topology %d has %d nodes and %d groups: not taken", t.Version, len(t.Nodes), len(t.Groups))
	}
	if err := fits(t); err != nil {
		n.tooOld(err)
		return err
	}
	if old := n.topology.Load(); old.Version == 0 || old.Recoveries() != t.Recoveries() || old.Paused != t.Paused || old.Level != t.Level || !reflect.DeepEqual(old.Nodes, t.Nodes) {
		if err := n.keepTopology(t); err != nil {
			return err
		}
	}
	if err := n.net.SetPeers(n.dialTable(t, n.configured())); err != nil {
		return err
	}
	n.net.Require(t.AtLevel())
	n.topology.Store(t)
	if err := n.fence(t); err != nil {
		return err
	}
	n.router.SetGroups(t.Groups)
	homes := make(map[uint32]string)
	for _, g := range t.Groups {
		homes[g.Shard] = g.Home
	}
	for _, g := range n.host.Groups() {
		if home, ok := homes[g.Shard()]; ok {
			g.SetHome(home)
		}
		g.RegionsChanged()
	}
	n.log.Info("topology", "version", t.Version, "nodes", len(t.Nodes), "groups", len(t.Groups))
	return nil
}

// keepTopology writes what this node is to know at its next start. Called under taking.
func (n *Node) keepTopology(t *directory.Topology) error {
	b, err := codec.Marshal(t)
	if err == nil {
		err = durable.Replace(vfs.Default, filepath.Join(n.cfg.Data, topologyFile), b, vfs.WriteCategoryUnspecified)
	}
	if err == nil {
		n.kept, n.keptAt = t.Version, time.Now()
	}
	return err
}

// keepGroups writes where replicas are, if that has changed, and not more often than every so often: while many move it changes several times a second, and a node that
// starts with where they were asks there.
func (n *Node) keepGroups(every time.Duration) error {
	n.taking.Lock()
	defer n.taking.Unlock()
	if t := n.topology.Load(); t.Version > n.kept && time.Since(n.keptAt) >= every {
		return n.keepTopology(t)
	}
	return nil
}

// configured is this node's configuration as it stands in its file now: the operator may have entered other addresses since the start. Called under taking.
func (n *Node) configured() *config.Node {
	if n.cfg.File == "" {
		return n.cfg
	}
	b, err := config.Read(n.cfg.File)
	if err == nil && !bytes.Equal(b, n.file.read) {
		n.file.is, err = config.Parse(n.cfg.File, b)
		n.file.read = b
	}
	if err == nil && n.file.is == nil {
		err = errors.New("it is as wrong as before")
	}
	if err != nil {
		n.log.Warn("configuration not read again, its addresses of other nodes stay as they were", "err", err)
		return n.cfg
	}
	return n.file.is
}

// followTopology keeps this node's up to date until ctx ends: from its own replica of the directory, else from another node.
func (n *Node) followTopology(ctx context.Context) {
	defer func() {
		if err := n.keepGroups(0); err != nil {
			n.log.Warn("the next start begins with an older topology", "err", err)
		}
	}()
	for ctx.Err() == nil {
		changed := n.directory.Changed()
		err := n.fillDirectory(ctx)
		t, errNewer := n.newerTopology(ctx)
		if err = errors.Join(err, errNewer); t != nil {
			err = errors.Join(err, n.takeTopology(t))
		}
		if err = errors.Join(err, n.keepGroups(groupsKept), n.dropForeign()); err != nil && ctx.Err() == nil {
			n.log.Debug("topology is not followed now", "err", err)
		}
		n.tellIncarnation(ctx)
		pause := topologyPause
		if !n.directory.Own() && err == nil {
			pause = 0 // the question itself waits
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// fillDirectory has a replica of the directory that joined speak for itself once it has what the leader had.
func (n *Node) fillDirectory(ctx context.Context) error {
	g, ok := n.host.Group(placement.DirectoryShard)
	if !ok || g.Filled() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, topologyPause)
	defer cancel()
	if err := n.directory.CatchUp(ctx); err != nil {
		return err
	}
	return g.Fill()
}

func (n *Node) newerTopology(ctx context.Context) (*directory.Topology, error) {
	mine := n.topology.Load().Version
	if n.directory.Own() {
		newer, err := n.directory.TopologyNewer(mine)
		if err != nil || !newer {
			return nil, err
		}
		return n.directory.Topology()
	}
	err := errors.New("no node that keeps the directory is up")
	for _, p := range n.storagePeers() {
		if p.ID == n.cfg.ID || !n.net.Up(p.ID) {
			continue
		}
		resp, errHere := n.directory.FetchTopology(ctx, p.ID, directory.TopologyRequest{After: mine, Wait: true})
		if errHere == nil && resp.Topology == nil && resp.Version < mine {
			errHere = fmt.Errorf("%s lags behind", p.ID)
		}
		if errHere == nil {
			return resp.Topology, nil
		}
		err = errHere
	}
	return nil, err
}

// found enters the first topology in the directory, until that has been done once by anybody. A node that joins knows no groups, and so enters none, but one that
// was rebuilt from volumes does. Where groups are is asked of their leaders: of a
// cluster that is older than this table it is not what the configuration would place today.
func (n *Node) found(ctx context.Context) {
	defer close(n.done)
	for n.store != nil && len(n.topology.Load().Groups) > 0 && n.topology.Load().Version == 0 && ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.tryFound(try)
		cancel()
		if err != nil && ctx.Err() == nil {
			n.log.Info("the cluster is not founded yet", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (n *Node) tryFound(ctx context.Context) error {
	t := n.topology.Load()
	first := directory.FoundTopology{Nodes: t.Nodes}
	for _, g := range t.Groups {
		now, err := n.router.Members(ctx, g.Shard, placement.Group{Voters: n.storageNodes()})
		if err != nil {
			return err
		}
		now.Home = g.Home
		first.Groups = append(first.Groups, now)
	}
	return n.directory.FoundTopology(ctx, first)
}

// tellIncarnation enters this node's, once it is a member. One whose disk is empty takes the place of what was known: its certificate says who it is, and
// nothing here has been promised that could be broken. Other data has to be accepted by an operator.
func (n *Node) tellIncarnation(ctx context.Context) {
	t := n.topology.Load()
	self, known := t.Node(n.cfg.ID)
	if t.Version == 0 || !known || self.Removed || n.incarnation == "" {
		return
	}
	if self.Incarnation == n.incarnation {
		n.empty.Store(false) // what it gets from now on is no stranger's to take
		return
	}
	if self.Incarnation != "" && n.yieldToTwin(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := n.directory.ChangeNode(ctx, directory.ChangeNode{ID: n.cfg.ID, Incarnation: &n.incarnation, Accept: n.empty.Load()})
	switch {
	case err == nil && self.Incarnation != "":
		n.log.Warn("this node's disk was empty: what it had is made anew from the others", "incarnation", n.incarnation)
	case err != nil && ctx.Err() == nil:
		n.log.Error("this node is not taken for the one that the cluster knows", "err", err)
	}
}

// foreign is why this node is not the member that the cluster knows by its id, nil if it is.
func (n *Node) foreign() error {
	t := n.topology.Load()
	self, known := t.Node(n.cfg.ID)
	switch {
	case t.Version == 0:
		return nil
	case !known:
		return fmt.Errorf("node %s is no member of the cluster: see `hongyan admin node join --help`", n.cfg.ID)
	case self.Removed:
		return fmt.Errorf("node %s was removed from the cluster: empty its data folder and let it join again, or switch it off", n.cfg.ID)
	case n.incarnation == "" || self.Incarnation == "" || self.Incarnation == n.incarnation:
		return nil
	case self.Fenced() && !n.empty.Load():
		return fmt.Errorf("node %s was given up for ever by `hongyan admin recover`, with what is in %s: empty that folder, or have its data made anew here by `hongyan admin node replace %s`", n.cfg.ID, n.cfg.Data, n.cfg.ID)
	case n.empty.Load():
		return fmt.Errorf("node %s has lost its disk, and waits until that is entered in the directory", n.cfg.ID)
	}
	return fmt.Errorf("node %s is known with other data than is in %s: give it its own back, or have its data made anew here by `hongyan admin node replace %s`", n.cfg.ID, n.cfg.Data, n.cfg.ID)
}

// misplaced is why this node gets nothing new to keep: the table of nodes has it in another region than its configuration, so policies would be held against the
// wrong place, or has it keep mail, which its configuration does not let it. What it has stays in use.
func (n *Node) misplaced() error {
	t := n.topology.Load()
	self, known := t.Node(n.cfg.ID)
	switch {
	case t.Version == 0 || !known || !self.Stores():
		return nil
	case n.store == nil:
		return fmt.Errorf("node %s is known as one that keeps mail, and its configuration has no role storage, so nothing comes to it: give it that role, or take it out (`hongyan admin node remove %s`) and let it join with --roles frontend", n.cfg.ID, n.cfg.ID)
	case self.Region != n.cfg.Region:
		return fmt.Errorf("node %s is known to be in region %s, and is in %s by its configuration, so nothing new comes to it: correct the configuration and start it again, or take it out (`hongyan admin node drain`, `node remove`) and let it join with --region %s", n.cfg.ID, self.Region, n.cfg.Region, n.cfg.Region)
	}
	return nil
}

// mayFound waits until it is certain that this node, which has no replica yet, does not stand in for one whose votes it does not know: it asks the other
// storage nodes until every one knows of no cluster, or one knows the topology. Then that is taken. A majority would not do: when it has lost its
// disks, one that is off has all that is left.
func (n *Node) mayFound(ctx context.Context) error {
	peers := n.storagePeers()
	told := time.Now()
	for ctx.Err() == nil {
		var silent []string
		for _, p := range peers {
			if p.ID == n.cfg.ID {
				continue
			}
			resp, err := n.directory.FetchTopology(ctx, p.ID, directory.TopologyRequest{})
			if err != nil {
				silent = append(silent, p.ID)
				continue
			}
			if resp.Topology != nil {
				return n.takeTopology(resp.Topology)
			}
		}
		if len(silent) == 0 {
			return nil
		}
		if now := time.Now(); now.Sub(told) >= foundSay {
			told = now
			n.log.Warn("the cluster is not founded before every storage node that the configuration names has said that it knows of none", "silent", silent)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
