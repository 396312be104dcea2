package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
)

// recoverPause is the wait before a replica that could not be started is tried again.
const recoverPause = time.Second

// lostGroups are the replicas whose part of the index is gone. They start once they have the state of another one.
type lostGroups struct {
	work sync.WaitGroup // the goroutine that recovers them

	mu     sync.Mutex // guards what follows
	groups []lostGroup
}

type lostGroup struct {
	group placement.Group
	why   *shard.LostError
}

func (l *lostGroups) add(g placement.Group, why *shard.LostError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups = append(l.groups, lostGroup{g, why})
}

func (l *lostGroups) has(number uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.groups, func(g lostGroup) bool { return g.group.Shard == number })
}

// first gives the next one to recover: in order of their numbers, so the directory comes first.
func (l *lostGroups) first() (lostGroup, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.groups) == 0 {
		return lostGroup{}, false
	}
	return l.groups[0], true
}

func (l *lostGroups) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups = l.groups[1:]
}

// reasons are lines for /readyz.
func (l *lostGroups) reasons() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var why []string
	for _, g := range l.groups {
		why = append(why, fmt.Sprintf("shard %d: its index is lost, and is fetched from another node; if every node has lost it, stop them all and see `hongyan volume rebuild --help`", g.group.Shard))
	}
	return why
}

// birth is how a replica begins that has neither log nor snapshot.
type birth int

const (
	waits  birth = iota // for what the leader sends
	founds              // a new group, with its members
	joins               // like waits, and is marked until it is filled
)

// startGroup starts this node's replica of a group, unless its part of the index is lost.
func (n *Node) startGroup(g placement.Group, how birth) (*shard.LostError, error) {
	cfg, err := n.groupConfig(g, how)
	if err != nil {
		return nil, err
	}
	group, err := shard.Start(cfg)
	var lost *shard.LostError
	if errors.As(err, &lost) {
		if t, ok := cfg.Transport.(raft.WithClose); ok { // else peers would wait for a replica that does not run
			err = t.Close()
		}
		return lost, err
	}
	if err != nil {
		return nil, err
	}
	n.host.Add(group)
	return nil, nil
}

func (n *Node) groupConfig(g placement.Group, how birth) (shard.Config, error) {
	machine, err := n.machine(g.Shard)
	return shard.Config{
		Group: g, Founds: how == founds, Joins: how == joins, Self: n.cfg.ID, Region: n.region, Dir: shard.Dir(n.cfg.Data, g.Shard), Logs: n.logs,
		Transport: n.net.RaftGroup(g.Shard), Peers: n.net, Store: n.store.Index.Shard(g.Shard), Machine: machine, Log: n.log,
	}, err
}

// recoverGroups fetches what is lost and starts the replicas, until all run or ctx ends.
func (n *Node) recoverGroups(ctx context.Context) {
	for ctx.Err() == nil {
		l, ok := n.lost.first()
		if !ok {
			return
		}
		if err := n.recoverGroup(ctx, l); err != nil {
			if ctx.Err() == nil {
				n.log.Error("a shard whose index is lost does not start, will be tried again", "shard", l.group.Shard, "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(recoverPause):
			}
			continue
		}
		n.lost.drop()
	}
}

func (n *Node) recoverGroup(ctx context.Context, l lostGroup) error {
	cfg := shard.Config{Group: l.group, Self: n.cfg.ID, Store: n.store.Index.Shard(l.group.Shard), Log: n.log}
	if err := shard.Recover(ctx, cfg, n.net, l.why); err != nil {
		return err
	}
	n.replicas.Lock()
	defer n.replicas.Unlock()
	if n.stopped {
		return nil
	}
	lost, err := n.startGroup(l.group, waits)
	if err == nil && lost != nil {
		err = lost
	}
	return err
}
