package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/custody"
	"hongyan/cluster/directory"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/engine/volume"
)

// Ready lists the reasons why this node is not of full use; none means that it takes and serves mail.
func (n *Node) Ready() []string {
	why := append(n.lost.reasons(), n.router.Ready()...)
	if err := n.volumes.Ready(); err != nil {
		why = append(why, err.Error())
	}
	if err := n.misplaced(); err != nil {
		why = append(why, err.Error())
	}
	if n.store != nil {
		if disk := n.diskReason(); disk != "" {
			why = append(why, disk)
		}
		if err := n.store.Index.Ready(); err != nil {
			why = append(why, err.Error())
		}
		if t := n.topology.Load(); t.Version == 0 && len(t.Groups) > 0 {
			why = append(why, "directory: the cluster is not founded yet, or not known here")
		} else if t.Version == 0 {
			why = append(why, "directory: the cluster is not known here, and `join: true` keeps this node from founding one: it waits for a node that knows it. If all disks are lost, see \"Disaster\" in docs/operations.md")
		}
		if err := n.foreign(); err != nil {
			why = append(why, err.Error())
		} else if self, _ := n.topology.Load().Node(n.cfg.ID); self.Emptied != "" {
			why = append(why, "its disk was empty: its replicas are made anew")
		}
	} else if !slices.ContainsFunc(n.storagePeers(), func(p replica.Peer) bool { return n.net.Up(p.ID) }) {
		why = append(why, "no node that keeps mail is up")
	}
	return why
}

// Status describes the cluster as this node sees it.
type Status struct {
	Node    string         `json:"node"`
	Region  string         `json:"region"`
	Ready   []string       `json:"not_ready"` // reasons; empty when ready
	Members []MemberStatus `json:"members"`
	Shards  []shard.Status `json:"shards"`
	Volumes []VolumeStatus `json:"volumes"`
	Copies  replica.Stats  `json:"copies"` // of volumes on this node
}

// MemberStatus is a node as this one sees it.
type MemberStatus struct {
	ID     string  `json:"id"`
	Region string  `json:"region"`
	Up     bool    `json:"up"`
	RTT    float64 `json:"rtt_ms"`
}

// VolumeStatus is a line of the volume table.
type VolumeStatus struct {
	ID      uint64   `json:"id"`
	State   string   `json:"state"`
	Primary string   `json:"primary"`
	Copies  []string `json:"copies"`
	Class   uint8    `json:"class"`
	Length  int64    `json:"length"`           // once sealed
	Policy  string   `json:"policy,omitempty"` // but for the default
}

// Status gathers what an operator asks first.
func (n *Node) Status(ctx context.Context) (any, error) {
	shards, err := n.router.Status()
	if err != nil {
		return nil, err
	}
	s := &Status{Node: n.cfg.ID, Region: n.cfg.Region, Ready: n.Ready(), Shards: shards, Copies: n.volumes.Stats()}
	for _, m := range n.topology.Load().Nodes {
		if m.Removed {
			continue
		}
		rtt, _ := n.net.RTT(m.ID)
		s.Members = append(s.Members, MemberStatus{ID: m.ID, Region: m.Region, Up: n.net.Up(m.ID), RTT: float64(rtt) / float64(time.Millisecond)})
	}
	if n.store == nil {
		return s, nil
	}
	volumes, err := n.directory.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		rule := ""
		if v.Policy != nil {
			rule = v.Policy.String()
		}
		s.Volumes = append(s.Volumes, VolumeStatus{Policy: rule, ID: uint64(v.ID), State: v.State.String(), Primary: v.Primary, Copies: v.Copies, Class: v.Class, Length: v.Length})
	}
	return s, nil
}

// ScrubReports says of every node how its copies of mail are.
func (n *Node) ScrubReports(ctx context.Context) any { return n.scrub.Reports(ctx) }

// Scrub has a volume's copies verified now on all nodes that hold one, or all volumes' if id is 0.
func (n *Node) Scrub(ctx context.Context, id uint64) any {
	return n.scrub.StartEverywhere(ctx, volume.ID(id))
}

// AddDomain makes a domain ours, with a home region for its accounts.
func (n *Node) AddDomain(ctx context.Context, name, home string) error {
	return n.directory.AddDomain(ctx, name, home)
}

// AddAccount makes an account. Of one that exists nothing changes, but for the password when a says so.
func (n *Node) AddAccount(ctx context.Context, a client.NewAccount) (created bool, err error) {
	if a.Password != "" && !a.Reset { // a hash made for nothing is dear
		if _, err := n.client.Resolve(ctx, a.Address); err == nil {
			return false, nil
		} else if errors.Is(err, client.ErrUnavailable) {
			return false, err
		}
	}
	hash, err := a.Credential()
	if err != nil {
		return false, err
	}
	_, created, err = n.directory.AddAccount(ctx, directory.AddAccount{Address: a.Address, Home: a.Home, Password: hash, Reset: a.Reset})
	return created, err
}

// Accounts lists all addresses.
func (n *Node) Accounts(context.Context) ([]string, error) { return n.directory.Addresses() }

// Keys reports which master keys the files of nodes are wrapped by, after the rotation that req asks for; of all nodes that keep
// mail, or of one.
func (n *Node) Keys(ctx context.Context, node string, req custody.Request) ([]custody.Report, error) {
	return n.custody.Ask(ctx, node, req)
}
