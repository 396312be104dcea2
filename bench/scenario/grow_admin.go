package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/cluster/mover"
	"hongyan/cluster/pause"
)

const (
	adminWait = 10 * time.Second // for one answer
	lookEvery = 400 * time.Millisecond
)

func nodePath(id string) string { return "/api/v1/nodes/" + url.PathEscape(id) }

// admin asks the nodes that mail goes to, one after the other, until one does what is asked. out may be nil.
func (g *growth) admin(ctx context.Context, method, path string, in, out any) error {
	c, err := g.env.Lab.Cluster()
	if err != nil {
		return err
	}
	err = errors.New("no node is there")
	for _, n := range g.fleet.nodes() {
		var m lab.Member
		if m, err = memberOf(c, n.ID); err != nil {
			continue
		}
		if err = call(ctx, c, m, method, path, in, out); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s %s: %w", method, path, err)
}

// call asks one node's admin API.
func call(ctx context.Context, c *lab.Cluster, m lab.Member, method, path string, in, out any) (err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode what is asked: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	b, err := adminAsk(ctx, method, m.HTTP+path, c.AdminToken, body)
	if err != nil {
		return fmt.Errorf("%s: %w", m.ID, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read answer of %s: %w", m.ID, err)
	}
	return nil
}

// members are the nodes as the cluster lists them.
func (g *growth) members(ctx context.Context) ([]mover.NodeStatus, error) {
	var list struct {
		Nodes []mover.NodeStatus `json:"nodes"`
	}
	err := g.admin(ctx, http.MethodGet, "/api/v1/nodes", nil, &list)
	return list.Nodes, err
}

// member is one of them.
func (g *growth) member(ctx context.Context, id string) (mover.NodeStatus, error) {
	list, err := g.members(ctx)
	if err != nil {
		return mover.NodeStatus{}, err
	}
	i := slices.IndexFunc(list, func(n mover.NodeStatus) bool { return n.ID == id })
	if i < 0 {
		return mover.NodeStatus{}, fmt.Errorf("the cluster does not list node %s", id)
	}
	return list[i], nil
}

// settled is nil when every node that mail goes to says that no replica has to move.
func (g *growth) settled(ctx context.Context) error {
	var ids []string
	for _, n := range g.fleet.nodes() {
		ids = append(ids, n.ID)
	}
	return g.env.settled(ctx, ids)
}

// await waits until f is nil, and looks less often than until does: each look costs the cluster something.
func (g *growth) await(ctx context.Context, f func() error) error {
	return until(ctx, moveWait, func() error {
		pause.For(ctx, lookEvery)
		return f()
	})
}

// replicas are all that there are of shards, as "shard node".
func (g *growth) replicas(ctx context.Context) (map[string]bool, error) {
	var v nodeView
	if err := g.admin(ctx, http.MethodGet, "/api/v1/status", nil, &v); err != nil {
		return nil, err
	}
	out := make(map[string]bool)
	for _, s := range v.Shards {
		for _, n := range s.Voters {
			out[fmt.Sprintf("%d %s", s.Shard, n)] = true
		}
	}
	return out, nil
}

// refresh looks who is in the cluster now.
func (g *growth) refresh() error {
	c, err := g.env.Lab.Cluster()
	if err != nil {
		return err
	}
	t, err := load.FromCluster(c)
	if err != nil {
		return err
	}
	g.env.Target.Nodes = t.Nodes
	return nil
}

// nodeOf is a node of the target.
func (g *growth) nodeOf(id string) (load.Node, error) {
	i := slices.IndexFunc(g.env.Target.Nodes, func(n load.Node) bool { return n.ID == id })
	if i < 0 {
		return load.Node{}, fmt.Errorf("the cluster has no node %s", id)
	}
	return g.env.Target.Nodes[i], nil
}
