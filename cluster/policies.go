package cluster

import (
	"context"
	"slices"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/rehouse"
	"hongyan/cluster/replica"
)

// followsWait is how long nodes are waited for that say how far stored mail follows its policies.
const followsWait = 2 * time.Second

// Domains lists the domains that are ours with their policies, and what is stored under which.
func (n *Node) Domains(ctx context.Context) (*client.Domains, error) {
	list, err := n.directory.Domains(ctx)
	if err != nil {
		return nil, err
	}
	peers := n.storagePeers()
	out := &client.Domains{Domains: []client.Domain{}, Stored: []client.StoredUnder{}, Follows: n.follows(ctx)}
	for _, d := range list {
		one := client.Domain{Name: d.Name, Home: d.Home, Policy: policy.Of(d.Policy)}
		if err := one.Policy.Feasible(replica.PlacesUp(one.Policy, peers, n.net.Up)); err != nil {
			one.Impossible = "of the nodes that are up: " + err.Error()
		}
		if one.Regions == nil {
			one.Regions = []string{} // a list in JSON
		}
		out.Domains = append(out.Domains, one)
	}
	volumes, err := n.directory.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range volumes {
		p := policy.Of(e.Policy)
		i := slices.IndexFunc(out.Stored, func(s client.StoredUnder) bool { return s.Key() == p.Key() })
		if i < 0 {
			i = len(out.Stored)
			out.Stored = append(out.Stored, client.StoredUnder{Policy: p})
			out.Stored[i].Regions = append([]string{}, p.Regions...)
		}
		out.Stored[i].Volumes++
		out.Stored[i].Bytes += e.Length
	}
	slices.SortFunc(out.Stored, func(a, b client.StoredUnder) int {
		if a.Key() < b.Key() {
			return -1
		}
		return 1
	})
	return out, nil
}

// follows says of every shard how far its stored mail follows the policies.
func (n *Node) follows(ctx context.Context) []client.Following {
	ctx, stop := context.WithTimeout(ctx, followsWait)
	defer stop()
	list := append([]client.Following{}, rehouse.Ask(ctx, n.net, n.storageNodes())...)
	for _, g := range n.topology.Load().Groups {
		if g.Shard != placement.DirectoryShard && !slices.ContainsFunc(list, func(f client.Following) bool { return f.Shard == g.Shard }) {
			list = append(list, client.Following{Shard: g.Shard, Why: "nobody who leads it answers"})
		}
	}
	return list
}

// SetPolicy changes what is given of a domain's policy. wire.ErrInvalid if the nodes could not hold it.
func (n *Node) SetPolicy(ctx context.Context, domain string, c client.PolicyChange) error {
	return n.directory.SetPolicy(ctx, directory.SetPolicy{Domain: domain, Home: c.Home, Copies: c.Copies, Survive: c.Survive, Regions: c.Regions})
}
