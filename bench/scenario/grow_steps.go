package scenario

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"hongyan/bench/load"
	"hongyan/cluster/mover"
	"hongyan/cluster/pause"
)

// Steps, in the order in which they are done.
const (
	stepAdd     = "add"     // four nodes: one to each of the regions, and one more to the first
	stepMove    = "move"    // accounts go to other regions, to a new shard, and home
	stepWeigh   = "weigh"   // a node gets half its weight
	stepDrain   = "drain"   // two nodes empty themselves and are removed
	stepReplace = "replace" // a node loses its disk, and is made anew
	stepRegion  = "region"  // the last region is cut off or dies, and returns
)

// growSteps are all, in their order.
var growSteps = []string{stepAdd, stepUpgrade, stepMove, stepWeigh, stepDrain, stepReplace, stepRegion}

// kinds are the steps that were chosen, in their order.
func (g *growth) kinds() ([]string, error) {
	chosen, err := g.env.Options.kinds(growSteps...)
	return slices.DeleteFunc(slices.Clone(growSteps), func(k string) bool { return !slices.Contains(chosen, k) }), err
}

// add has four nodes come, each after all has settled that the one before has caused.
func (g *growth) add(ctx context.Context) error {
	r := g.env.regions()
	for i, region := range []string{r[0].Name, r[1].Name, r[2].Name, r[0].Name} {
		what := fmt.Sprintf("a node comes to %s", region)
		if i == 3 {
			what = fmt.Sprintf("one more comes to %s", region)
		}
		if err := g.step(ctx, fmt.Sprint("add", i+1), what, false, func(ctx context.Context) error { return g.addOne(ctx, region) }); err != nil {
			return err
		}
	}
	return nil
}

func (g *growth) addOne(ctx context.Context, region string) error {
	id, err := g.env.Lab.Add(region)
	if err != nil {
		return err
	}
	if err := g.refresh(); err != nil {
		return err
	}
	n, err := g.nodeOf(id)
	if err != nil {
		return err
	}
	if err := g.fleet.come(n); err != nil {
		return err
	}
	return g.await(ctx, func() error { return g.settled(ctx) })
}

// weigh halves a node's weight, and notes how new volumes are spread then.
func (g *growth) weigh(ctx context.Context) error {
	ids := g.env.nodes()
	id := ids[g.rng.IntN(len(ids))]
	return g.step(ctx, stepWeigh, id+" gets half its weight", false, func(ctx context.Context) error {
		before, err := g.member(ctx, id)
		if err != nil {
			return err
		}
		half := max(before.Weight/2, 1)
		if err := g.admin(ctx, http.MethodPatch, nodePath(id), mover.NodeChange{Weight: &half}, nil); err != nil {
			return err
		}
		if err := g.await(ctx, func() error { return g.settled(ctx) }); err != nil {
			return err
		}
		return g.spread(ctx)
	})
}

// spread notes how the copies of volumes that were opened while it looked are spread over the nodes.
func (g *growth) spread(ctx context.Context) error {
	var before, after nodeView
	if err := g.admin(ctx, http.MethodGet, "/api/v1/status", nil, &before); err != nil {
		return err
	}
	if err := g.rest(ctx); err != nil {
		return err
	}
	if err := g.admin(ctx, http.MethodGet, "/api/v1/status", nil, &after); err != nil {
		return err
	}
	list, err := g.members(ctx)
	if err != nil {
		return err
	}
	count, all := make(map[string]int), 0
	for _, v := range after.Volumes {
		if slices.ContainsFunc(before.Volumes, func(o volumeView) bool { return o.ID == v.ID }) {
			continue
		}
		for _, n := range v.Copies {
			count[n]++
			all++
		}
	}
	var parts []string
	for _, n := range list {
		parts = append(parts, fmt.Sprintf("%s (weight %d) %d", n.ID, n.Weight, count[n.ID]))
	}
	g.section.Notes = append(g.section.Notes, fmt.Sprintf("Of %d copies of volumes that were opened after the weight had changed, which is few: %s.", all, strings.Join(parts, ", ")))
	return nil
}

// drain empties two nodes and removes them. Their regions keep others.
func (g *growth) drain(ctx context.Context) error {
	ids, err := g.dispensable(2)
	if err != nil {
		return err
	}
	return g.step(ctx, stepDrain, "drain and remove "+strings.Join(ids, ", "), false, func(ctx context.Context) error {
		yes := true
		for _, id := range ids {
			if err := g.admin(ctx, http.MethodPatch, nodePath(id), mover.NodeChange{Draining: &yes}, nil); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if err := g.await(ctx, func() error { return g.emptied(ctx, id) }); err != nil {
				return err
			}
			if err := g.remove(ctx, id); err != nil {
				return err
			}
		}
		return g.await(ctx, func() error { return g.settled(ctx) })
	})
}

// dispensable chooses nodes of different regions, each of which has another.
func (g *growth) dispensable(n int) (ids []string, err error) {
	nodes := g.env.Target.Nodes
	region := g.env.regionOf()
	for _, i := range g.rng.Perm(len(nodes)) {
		r := nodes[i].Region
		others := slices.ContainsFunc(nodes, func(o load.Node) bool { return o.Region == r && o.ID != nodes[i].ID })
		taken := slices.ContainsFunc(ids, func(id string) bool { return region[id] == r })
		if others && !taken && len(ids) < n {
			ids = append(ids, nodes[i].ID)
		}
	}
	if len(ids) < n {
		return nil, fmt.Errorf("drain: %d regions have a node to spare, expected %d: add nodes first (--kinds add,drain)", len(ids), n)
	}
	return ids, nil
}

func (g *growth) emptied(ctx context.Context, id string) error {
	n, err := g.member(ctx, id)
	if err != nil {
		return err
	}
	if !n.Empty {
		return fmt.Errorf("node %s still keeps %d replicas, %d copies and %d fragments", id, n.Replicas, n.Copies, n.Fragments)
	}
	return nil
}

// remove ends a node's membership and clears it away. Its users have gone to the others before.
func (g *growth) remove(ctx context.Context, id string) error {
	g.fleet.leave(id)
	if err := g.admin(ctx, http.MethodDelete, nodePath(id), nil, nil); err != nil {
		return err
	}
	if err := g.env.Lab.Remove(id); err != nil {
		return err
	}
	return g.refresh()
}

// replace has a node lose its disk, and waits until it has everything again.
func (g *growth) replace(ctx context.Context) error {
	ids := g.env.nodes()
	id := ids[g.rng.IntN(len(ids))]
	other := without(ids, id)[0]
	var anew int
	err := g.step(ctx, stepReplace, id+" loses its disk and is made anew", false, func(ctx context.Context) error {
		g.fleet.leave(id)
		h := g.env.Lab
		for _, do := range []func(string) error{h.Kill, h.Wipe, h.Start} {
			if err := do(id); err != nil {
				return err
			}
		}
		if err := g.await(ctx, func() error { return g.accepted(ctx, id) }); err != nil {
			return err
		}
		if err := g.readmit(ctx, id); err != nil {
			return err
		}
		return g.await(ctx, func() (err error) {
			anew, err = g.refilled(ctx, id, other)
			return err
		})
	})
	g.phases[len(g.phases)-1].moved += anew
	return err
}

// accepted has the cluster take the node with its empty disk, if it has not done so.
func (g *growth) accepted(ctx context.Context, id string) error {
	n, err := g.member(ctx, id)
	if err != nil || n.State == "replaced" {
		return err
	}
	return g.admin(ctx, http.MethodPost, nodePath(id)+"/replace", nil, nil)
}

// refilled is nil when the node has its replicas and all its copies again; it gives how many replicas these are.
func (g *growth) refilled(ctx context.Context, id, other string) (replicas int, err error) {
	n, err := g.member(ctx, id)
	if err != nil {
		return 0, err
	}
	if n.State != "active" {
		return 0, fmt.Errorf("node %s is %s, with %d replicas", id, n.State, n.Replicas)
	}
	if err := g.settled(ctx); err != nil {
		return 0, err
	}
	v, err := g.env.view(ctx, id)
	if err != nil {
		return 0, err
	}
	return n.Replicas, g.env.copiesWhole(ctx, id, other, v, nil)
}

// readmit waits until nodes serve, and has mail go to them again.
func (g *growth) readmit(ctx context.Context, ids ...string) error {
	if err := g.await(ctx, func() error { return g.env.ready(ctx) }); err != nil {
		return err
	}
	for _, id := range ids {
		n, err := g.nodeOf(id)
		if err != nil {
			return err
		}
		if err := g.fleet.come(n); err != nil {
			return err
		}
	}
	return nil
}

// loseRegion has the last region be cut off or die, as the seed says, and come back after a while.
func (g *growth) loseRegion(ctx context.Context) error {
	r := g.env.regions()
	region := r[len(r)-1].Name
	ids := slices.DeleteFunc(g.env.nodes(), func(id string) bool { return g.env.regionOf()[id] != region })
	what, lose, regain := region+" is cut off and returns", func() error { return g.env.Lab.Isolate(region) }, g.env.Lab.Heal
	if g.rng.IntN(2) == 0 {
		what, lose, regain = region+" dies and returns", func() error { return eachNode(ids, g.env.Lab.Kill) }, func() error { return eachNode(ids, g.env.Lab.Start) }
	}
	return g.step(ctx, stepRegion, what, false, func(ctx context.Context) error {
		g.fleet.leave(ids...)
		if err := lose(); err != nil {
			return err
		}
		pause.For(ctx, regionAway)
		if err := regain(); err != nil {
			return err
		}
		if err := g.readmit(ctx, ids...); err != nil {
			return err
		}
		return g.await(ctx, func() error { return g.settled(ctx) })
	})
}
