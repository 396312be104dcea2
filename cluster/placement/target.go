package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Target says where the replicas of all groups should be, given where they are. The groups come back ordered by shard, each with
// its home as it was. In this order:
//
//  1. Spread. Voters are spread over regions as quotas says, from the home region outwards, and over zones inside a region. A
//     group whose home region has no node left for it is in the nearest ones until it has again.
//  2. The directory has a learner on every other storage node that is not lost: one that leaves works until it goes. Mailbox shards have
//     voters only.
//  3. Stay. A replica moves only if its node leaves, its region has more of the group than its quota, or its zone has.
//     A learner counts as one that is about to vote, so that a move that is under way goes on.
//  4. Weights. Inside a region mailbox replicas follow the weights of nodes; they move while a node has one replica more, or one
//     less, than its share. The same goes for the first of the voters, which should lead.
//
// Nodes that a group names and the table does not are gone like lost ones. It fails if no node can keep anything, and
// if a node or a shard is listed twice.
func Target(nodes []Node, groups []Group, o Options) ([]Group, error) {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	t, err := newTable(sorted, groups)
	if err != nil {
		return nil, err
	}
	groups = slices.SortedFunc(slices.Values(groups), func(a, b Group) int { return cmp.Compare(a.Shard, b.Shard) })
	for i := 1; i < len(groups); i++ {
		if groups[i].Shard == groups[i-1].Shard {
			return nil, fmt.Errorf("place shards: shard %d is listed twice", groups[i].Shard)
		}
	}
	return t.place(groups, o), nil
}

// table is the nodes that may have replicas.
type table struct {
	regions []string             // with storage nodes, also such as leave, so that the order outlives a lost region
	keepers []Node               // those that may have replicas, in the order of the table
	present []string             // storage nodes that are not lost, in that order
	at      map[string]spot      // where a keeper is
	members map[string]*quarters // by region
}

// spot is a keeper's place: its region, and its number among the keepers there.
type spot struct {
	region string
	number int
}

// leastKeepers is how many nodes share every shard as long as there are so many that can: with one voter, what is acknowledged would be on one disk.
const leastKeepers = 2

func newTable(nodes []Node, groups []Group) (*table, error) {
	t := &table{at: make(map[string]spot), members: make(map[string]*quarters)}
	seen := make(map[string]bool)
	for _, n := range nodes {
		if seen[n.ID] {
			return nil, fmt.Errorf("place shards: node %s is listed twice", n.ID)
		}
		seen[n.ID] = true
		if n.Storage && !slices.Contains(t.regions, n.Region) {
			t.regions = append(t.regions, n.Region)
			t.members[n.Region] = &quarters{}
		}
		if n.stays() {
			t.keepers = append(t.keepers, n)
		}
		if n.Storage && !n.Lost {
			t.present = append(t.present, n.ID)
		}
	}
	if len(t.regions) == 0 {
		return nil, fmt.Errorf("place shards: no node has the storage role")
	}
	t.retain(nodes, groups)
	if len(t.keepers) == 0 {
		return nil, fmt.Errorf("place shards: all storage nodes are lost; add one, or bring one back")
	}
	weigh := 0
	for _, n := range t.keepers {
		if n.Weight > 0 {
			weigh++
		}
	}
	for i := range t.keepers {
		n := &t.keepers[i]
		if weigh < leastKeepers && n.Weight <= 0 {
			n.Weight = 1
		}
		q := t.members[n.Region]
		t.at[n.ID] = spot{n.Region, len(q.nodes)}
		q.add(*n)
	}
	return t, nil
}

// retain has nodes that leave keep replicas while too few stay: all if none stays, else one, in another region than who stays if there is one, and of such
// the one that votes in most groups.
func (t *table) retain(nodes []Node, groups []Group) {
	leave := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.stays() || !n.Storage || n.Lost })
	if len(t.keepers) >= leastKeepers || len(leave) == 0 {
		return
	}
	if len(t.keepers) == 1 {
		votes := make(map[string]int)
		for _, g := range groups {
			for _, id := range g.Voters {
				votes[id]++
			}
		}
		near := func(n Node) int {
			if n.Region == t.keepers[0].Region {
				return 1
			}
			return 0
		}
		leave = []Node{slices.MinFunc(leave, func(a, b Node) int {
			return cmp.Or(cmp.Compare(near(a), near(b)), cmp.Compare(votes[b.ID], votes[a.ID]), cmp.Compare(a.ID, b.ID))
		})}
	}
	kept := append(t.keepers, leave...)
	t.keepers = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { // in their order
		return !slices.ContainsFunc(kept, func(k Node) bool { return k.ID == n.ID })
	})
}

// place finds the replicas of groups, which are in the order of their shards.
func (t *table) place(groups []Group, o Options) []Group {
	orders := make(map[string][]string)
	claims := make([]map[string]*tenant, len(groups))
	for i, g := range groups {
		if orders[g.Home] == nil {
			orders[g.Home] = o.order(g.Home, t.regions)
		}
		claims[i] = t.claim(g, orders[g.Home])
	}
	for _, r := range t.regions {
		t.members[r].settle()
	}
	out := make([]Group, len(groups))
	for i, g := range groups {
		out[i] = Group{Shard: g.Shard, Home: g.Home}
		for _, r := range orders[g.Home] {
			if c := claims[i][r]; c != nil {
				for _, n := range c.on {
					out[i].Voters = append(out[i].Voters, t.members[r].nodes[n].ID)
				}
			}
		}
		if g.Shard == DirectoryShard {
			out[i].Learners = minus(t.present, out[i].Voters)
		}
	}
	return out
}

// claim enters the group as a tenant of each region that it gets voters in, or has replicas in.
func (t *table) claim(g Group, order []string) map[string]*tenant {
	claims := make(map[string]*tenant)
	of := func(region string) *tenant {
		if claims[region] == nil {
			claims[region] = &tenant{everywhere: g.Shard == DirectoryShard}
		}
		return claims[region]
	}
	for i, id := range g.Replicas() {
		s, ok := t.at[id]
		if !ok {
			continue
		}
		switch c := of(s.region); {
		case slices.Contains(c.held, s.number):
		case g.Shard == DirectoryShard && i >= len(g.Voters):
			c.copies = append(c.copies, s.number)
		default:
			c.held = append(c.held, s.number)
		}
	}
	q := quotas(order, func(region string) int {
		m := t.members[region]
		if m == nil {
			return 0
		}
		room := m.open
		if c := claims[region]; c != nil {
			for _, n := range c.held {
				if m.nodes[n].Weight <= 0 {
					room++
				}
			}
		}
		return room
	})
	led := false
	for _, r := range order {
		if q[r] == 0 && claims[r] == nil {
			continue
		}
		c := of(r)
		c.quota = q[r]
		c.leads = q[r] > 0 && !led && !c.everywhere
		led = led || q[r] > 0
		t.members[r].tenants = append(t.members[r].tenants, c)
	}
	return claims
}
