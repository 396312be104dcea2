package shard

import (
	"slices"

	"github.com/hashicorp/raft"

	"hongyan/cluster/placement"
)

// roster is a group's membership as this replica's log has it: the latest entry, committed or not, for that is what raft counts majorities
// of (Ongaro, "Consensus: bridging theory and practice", section 4.1). It is never changed.
type roster struct {
	placement.Group
	preferred []string // voters that should lead: those in the home region

	regions uint64       // how often RegionsChanged had been called
	of      *raft.Server // the first of raft's list that it was made of
}

// roster gives the membership. A replica that has just been made and has heard of no leader yet has none.
func (g *Group) roster() *roster {
	regions := g.regions.Load()
	servers := g.raft.GetConfiguration().Configuration().Servers
	if len(servers) == 0 {
		return &roster{Group: placement.Group{Shard: g.Shard(), Home: g.Home()}}
	}
	home, known := g.Home(), g.known.Load()
	if known != nil && known.of == &servers[0] && known.Home == home && known.regions == regions {
		return known
	}
	r := newRoster(g.Shard(), home, servers, g.cfg.Region)
	r.regions = regions
	g.known.Store(r)
	return r
}

// newRoster lists voters of the home region first, else in raft's order.
func newRoster(shard uint32, home string, servers []raft.Server, region func(node string) string) *roster {
	r := &roster{Group: placement.Group{Shard: shard, Home: home}, of: &servers[0]}
	var away []string
	for _, s := range servers {
		id := string(s.ID)
		switch {
		case s.Suffrage != raft.Voter:
			r.Learners = append(r.Learners, id)
		case region(id) == home:
			r.preferred = append(r.preferred, id)
		default:
			away = append(away, id)
		}
	}
	r.Voters = append(slices.Clone(r.preferred), away...)
	return r
}

// votes says whether a node has a vote.
func (r *roster) votes(node string) bool { return slices.Contains(r.Voters, node) }

// Members is the group's membership as this replica knows it.
func (g *Group) Members() placement.Group { return g.roster().Group }

// Home is the region that should lead the group.
func (g *Group) Home() string { return *g.home.Load() }

// SetHome has another region lead.
func (g *Group) SetHome(region string) { g.home.Store(&region) }

// RegionsChanged is to be called when Config.Region says something else than before.
func (g *Group) RegionsChanged() { g.regions.Add(1) }
