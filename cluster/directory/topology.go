package directory

import (
	"errors"
	"maps"
	"net"
	"slices"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// Limits of the node table.
const (
	MaxNodes  = 4096
	MaxWeight = 10_000
	maxNodeID = 64
	maxLabels = 32
	maxLabel  = 255
	// DefaultWeight is that of a node whose operator gives none.
	DefaultWeight = 10
)

// Node is a member of the cluster.
type Node struct {
	ID      string            `cbor:"1,keyasint" json:"id"`
	Region  string            `cbor:"2,keyasint" json:"region"`
	Zone    string            `cbor:"3,keyasint,omitempty" json:"zone,omitempty"`
	Address string            `cbor:"4,keyasint" json:"address"` // host:port that other nodes dial
	Roles   []string          `cbor:"5,keyasint" json:"roles"`
	Weight  uint32            `cbor:"6,keyasint" json:"weight"` // its share of new mail and of replicas, against the others'
	Labels  map[string]string `cbor:"7,keyasint,omitempty" json:"labels,omitempty"`

	Draining bool  `cbor:"8,keyasint,omitempty" json:"draining,omitempty"` // it gets nothing, and what it has goes elsewhere
	Lost     bool  `cbor:"9,keyasint,omitempty" json:"lost,omitempty"`     // it has been down for long: the same, without asking it
	Removed  bool  `cbor:"10,keyasint,omitempty" json:"removed,omitempty"` // it is no member any more; its id may join again
	Since    int64 `cbor:"11,keyasint,omitempty" json:"since,omitempty"`   // unix seconds of the last of these changes

	// Incarnation names the data folder of the node; "" until it has told. A node that tells another one has lost its disk, or is somebody else.
	Incarnation string `cbor:"12,keyasint,omitempty" json:"incarnation,omitempty"`
	// Emptied is the incarnation that has an empty disk in place of what the tables say: replicas of shards there count for nothing, and are made
	// anew under it.
	Emptied string `cbor:"13,keyasint,omitempty" json:"emptied,omitempty"`
}

// Stores says whether it keeps mail.
func (n *Node) Stores() bool { return !n.Removed && slices.Contains(n.Roles, "storage") }

// Leaving says whether what it has is to go elsewhere.
func (n *Node) Leaving() bool { return n.Draining || n.Lost || n.Removed }

// Topology is who is in the cluster and where the shards' replicas are.
type Topology struct {
	Version uint64            `cbor:"1,keyasint"` // grows with each change; 0: the cluster has not been founded
	Nodes   []Node            `cbor:"2,keyasint"` // by id, removed ones as well
	Groups  []placement.Group `cbor:"3,keyasint"` // by number
	Paused  bool              `cbor:"4,keyasint,omitempty"`
	Level   feature.Level     `cbor:"5,keyasint,omitempty"` // see AtLevel
}

// Node finds one by its id.
func (t *Topology) Node(id string) (Node, bool) {
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return Node{}, false
	}
	return t.Nodes[i], true
}

// FoundTopology enters the first nodes and groups. If there are some, nothing happens.
type FoundTopology struct {
	Nodes  []Node            `cbor:"1,keyasint"`
	Groups []placement.Group `cbor:"2,keyasint"`
}

// AddNode enters a node, or one that had been removed again.
type AddNode struct {
	Node Node `cbor:"1,keyasint"`
}

// ChangeNode changes what is not nil.
type ChangeNode struct {
	ID       string  `cbor:"1,keyasint"`
	Weight   *uint32 `cbor:"2,keyasint,omitempty"`
	Address  *string `cbor:"3,keyasint,omitempty"`
	Zone     *string `cbor:"4,keyasint,omitempty"`
	Draining *bool   `cbor:"5,keyasint,omitempty"`
	Lost     *bool   `cbor:"6,keyasint,omitempty"`
	Removed  *bool   `cbor:"7,keyasint,omitempty"` // only to true, and only when no table names the node
	// Incarnation is told by the node itself. Accept enters it though another one was known: the node begins with an empty disk.
	Incarnation *string `cbor:"8,keyasint,omitempty"`
	Accept      bool    `cbor:"9,keyasint,omitempty"`
	// Refilled ends Emptied.
	Refilled bool `cbor:"10,keyasint,omitempty"`
}

// SetGroup enters where a shard's replicas are now; Add makes a new mailbox shard, whose number is to be the next one.
type SetGroup struct {
	Group placement.Group `cbor:"1,keyasint"`
	Add   bool            `cbor:"2,keyasint,omitempty"`
}

// SetPlacement stops or resumes what moves by itself.
type SetPlacement struct {
	Paused bool `cbor:"1,keyasint"`
}

// moving is the key movingKey's record.
type moving struct {
	Paused bool `cbor:"1,keyasint"`
}

// touch counts a change of the topology.
func touch(t *index.Txn) error {
	_, err := nextNumber(t, func(c *counters) *uint64 { return &c.Topology })
	return err
}

func foundTopology(t *index.Txn, now int64, c *FoundTopology) (*Result, error) {
	found := false
	if err := t.Scan([]byte(nodeTable), func(_, _ []byte) error { found = true; return nil }); err != nil || found {
		return &Result{}, err
	}
	if len(c.Nodes) == 0 || len(c.Nodes) > MaxNodes {
		return nil, refuse("a cluster of %d nodes: expected 1 to %d", len(c.Nodes), MaxNodes)
	}
	for i := range c.Nodes {
		n := c.Nodes[i]
		n.Since = now
		if err := checkNode(&n); err != nil {
			return nil, err
		}
		if err := save(t, []byte(nodeTable+n.ID), &n); err != nil {
			return nil, err
		}
	}
	var shards AddShards
	for i, g := range c.Groups {
		if g.Shard != placement.DirectoryShard {
			shards.Shards = append(shards.Shards, Shard{Number: g.Shard, Home: g.Home})
		}
		if err := save(t, numberKey(groupTable, uint64(c.Groups[i].Shard)), &c.Groups[i]); err != nil {
			return nil, err
		}
	}
	if _, err := addShards(t, &shards); err != nil {
		return nil, err
	}
	return &Result{Created: true}, touch(t)
}

func checkNode(n *Node) error {
	switch _, _, err := net.SplitHostPort(n.Address); {
	case n.ID == "" || len(n.ID) > maxNodeID || n.Region == "" || len(n.Region) > maxRegion || len(n.Zone) > maxRegion:
		return refuse("a node needs an id of at most %d bytes and a region, got %q and %q", maxNodeID, n.ID, n.Region)
	case err != nil || len(n.Address) > maxAddress:
		return refuse("node %s: address %q: expected host:port", n.ID, n.Address)
	case n.Weight > MaxWeight:
		return refuse("node %s: weight %d, at most %d", n.ID, n.Weight, MaxWeight)
	case len(n.Roles) == 0 || len(n.Labels) > maxLabels:
		return refuse("node %s has no role, or more than %d labels", n.ID, maxLabels)
	}
	for _, role := range n.Roles {
		if role != "storage" && role != "frontend" {
			return refuse("node %s: role %q: expected storage or frontend", n.ID, role)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if len(k)+len(n.Labels[k]) > maxLabel {
			return refuse("node %s: label %.20q has more than %d bytes", n.ID, k, maxLabel)
		}
	}
	return nil
}

func addNode(t *index.Txn, now int64, c *AddNode) (*Result, error) {
	n := c.Node
	n.Draining, n.Lost, n.Removed, n.Incarnation, n.Emptied, n.Since = false, false, false, "", "", now
	if err := checkNode(&n); err != nil {
		return nil, err
	}
	old, err := load[Node](t, []byte(nodeTable+n.ID))
	if err == nil && old.Fenced() {
		n.Incarnation = fenced // with an empty disk it is one of us again, with what it had it is not
	}
	switch {
	case err == nil && !old.Removed:
		return nil, refuse("node %s is a member already: remove or replace it first", n.ID)
	case err != nil && !errors.Is(err, errNoRecord):
		return nil, err
	}
	if err := save(t, []byte(nodeTable+n.ID), &n); err != nil {
		return nil, err
	}
	return &Result{Created: true}, touch(t)
}

func changeNode(t *index.Txn, now int64, c *ChangeNode) (*Result, error) {
	key := []byte(nodeTable + c.ID)
	n, err := load[Node](t, key)
	if errors.Is(err, errNoRecord) || err == nil && n.Removed {
		return nil, refuse("node %s is no member", c.ID)
	}
	if err != nil {
		return nil, err
	}
	before, err := codec.Marshal(&n)
	if err != nil {
		return nil, err
	}
	setIf(&n.Weight, c.Weight)
	setIf(&n.Address, c.Address)
	setIf(&n.Zone, c.Zone)
	if c.Draining != nil && *c.Draining != n.Draining || c.Lost != nil && *c.Lost != n.Lost {
		n.Since = now
	}
	setIf(&n.Draining, c.Draining)
	setIf(&n.Lost, c.Lost)
	if err := tellIncarnation(&n, c); err != nil {
		return nil, err
	}
	if c.Removed != nil && *c.Removed {
		if err := mayGo(t, c.ID); err != nil {
			return nil, err
		}
		n.Removed, n.Since = true, now
	}
	if err := checkNode(&n); err != nil {
		return nil, err
	}
	if after, err := codec.Marshal(&n); err != nil || string(after) == string(before) {
		return &Result{}, err
	}
	if err := save(t, key, &n); err != nil {
		return nil, err
	}
	return &Result{}, touch(t)
}

func setIf[T any](v, now *T) {
	if now != nil {
		*v = *now
	}
}

func tellIncarnation(n *Node, c *ChangeNode) error {
	if c.Refilled {
		n.Emptied = ""
	}
	if c.Incarnation == nil || *c.Incarnation == n.Incarnation {
		return nil
	}
	switch {
	case len(*c.Incarnation) == 0 || len(*c.Incarnation) > maxNodeID:
		return refuse("node %s: an incarnation has 1 to %d bytes", n.ID, maxNodeID)
	case n.Fenced() && !c.Accept:
		return refuse("node %s was given up for ever: `hongyan admin node replace %s` takes it as new", n.ID, n.ID)
	case n.Incarnation != "" && !c.Accept:
		return refuse("node %s is known with other data: its folder is empty, older or another's; `hongyan admin node replace %s` takes it as new", n.ID, n.ID)
	case n.Incarnation != "":
		n.Emptied = *c.Incarnation
	}
	n.Incarnation = *c.Incarnation
	return nil
}

// mayGo refuses while a table names the node.
func mayGo(t *index.Txn, id string) error {
	groups, err := scan[placement.Group](t, groupTable)
	if err != nil {
		return err
	}
	for _, g := range groups {
		learns := g.Shard == placement.DirectoryShard && slices.Contains(g.Learners, id) // as every node does until it goes
		if g.Holds(id) && !learns {
			return refuse("node %s has a replica of shard %d: drain it first, or wait until that is done", id, g.Shard)
		}
	}
	entries, err := scan[replica.Entry](t, volumeTable)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(e.Sources(), id) || e.Primary == id && e.State == replica.Open {
			return refuse("node %s has a copy of volume %d: drain it first, or wait until that is done", id, e.ID)
		}
	}
	return nil
}

func setGroup(t *index.Txn, c *SetGroup) (*Result, error) {
	g := c.Group
	if len(g.Voters) == 0 || len(g.Home) > maxRegion || len(g.Voters)+len(g.Learners) > MaxNodes {
		return nil, refuse("shard %d: a group needs voters and a home region", g.Shard)
	}
	key := numberKey(groupTable, uint64(g.Shard))
	old, err := load[placement.Group](t, key)
	there := err == nil
	if err != nil && !errors.Is(err, errNoRecord) {
		return nil, err
	}
	switch {
	case there && c.Add, !there && !c.Add:
		return nil, refuse("shard %d: the group is there already, or it is not there", g.Shard)
	case c.Add:
		if _, err := load[placement.Group](t, numberKey(groupTable, uint64(g.Shard)-1)); g.Shard == 0 || err != nil {
			return nil, refuse("shard %d: shards are numbered without gaps", g.Shard)
		}
		if _, err := addShards(t, &AddShards{Shards: []Shard{{Number: g.Shard, Home: g.Home, Founding: true}}}); err != nil {
			return nil, err
		}
	case slices.Equal(old.Voters, g.Voters) && slices.Equal(old.Learners, g.Learners) && old.Home == g.Home:
		return &Result{}, nil
	}
	if err := save(t, key, &g); err != nil {
		return nil, err
	}
	return &Result{Created: c.Add}, touch(t)
}

func setPlacement(t *index.Txn, c *SetPlacement) (*Result, error) {
	old, err := loadIf[moving](t, []byte(movingKey))
	if err != nil || old.Paused == c.Paused {
		return &Result{}, err
	}
	if err := save(t, []byte(movingKey), &moving{Paused: c.Paused}); err != nil {
		return nil, err
	}
	return &Result{}, touch(t)
}
