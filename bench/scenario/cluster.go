package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hongyan/bench/lab"
	"hongyan/cluster/mover"
)

// leading gives the node that leads the most mailbox shards with that home region.
func (e *Env) leading(home string) (string, error) {
	st, err := e.Lab.Status()
	if err != nil {
		return "", err
	}
	var view nodeView
	if err := json.Unmarshal(st.Cluster, &view); err != nil {
		return "", fmt.Errorf("read who leads: %w", err)
	}
	count := make(map[string]int)
	best := ""
	for _, s := range view.Shards {
		if s.Shard == 0 || s.Home != home || s.Leader == "" {
			continue
		}
		if count[s.Leader]++; best == "" || count[s.Leader] > count[best] {
			best = s.Leader
		}
	}
	if best == "" {
		return "", fmt.Errorf("no shard with its home in %s has a leader", home)
	}
	return best, nil
}

const lookAgain = 100 * time.Millisecond

// serving waits until every node serves.
func (e *Env) serving(ctx context.Context) error {
	return until(ctx, serveWait, func() error { return e.ready(ctx) })
}

// settled is nil when nodes know of no replica that is to move: then another node may be stopped.
func (e *Env) settled(ctx context.Context, nodes []string) error {
	c, err := e.Lab.Cluster()
	if err != nil {
		return err
	}
	for _, id := range nodes {
		m, err := memberOf(c, id)
		if err != nil {
			return err
		}
		var p mover.Placement
		if err := call(ctx, c, m, http.MethodGet, "/api/v1/placement", nil, &p); err != nil {
			return fmt.Errorf("ask %s what moves: %w", id, err)
		}
		if len(p.Steps) > 0 {
			s := p.Steps[0]
			why := ""
			for shard, f := range p.Failures {
				why += fmt.Sprintf("; shard %d: %s", shard, f)
			}
			return fmt.Errorf("%d steps are left, the first: %s %s of shard %d%s", len(p.Steps), s.Step, s.Node, s.Shard, why)
		}
	}
	return nil
}

// until repeats f until it returns nil. Its last error says what was still wrong after the wait.
func until(ctx context.Context, wait time.Duration, f func() error) error {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return fmt.Errorf("after %v: %w", wait, err)
		case <-time.After(lookAgain):
		}
	}
}

// whole undoes all that may have been done to the cluster: cuts, slow links, pauses, faults of disks and clocks, nodes that are down.
func (e *Env) whole() error {
	err := e.Lab.Heal()
	st, unknown := e.Lab.Status()
	if unknown != nil {
		return errors.Join(err, unknown)
	}
	for _, l := range st.Links { // none where nodes dial one another directly
		if l.From < l.To {
			err = errors.Join(err, e.Lab.Link(l.From, l.To, nil))
		}
	}
	for _, n := range st.Nodes {
		if n.State == "paused" {
			err = errors.Join(err, e.Lab.Resume(n.ID))
		}
		if n.Clock != 0 {
			err = errors.Join(err, e.Lab.Clock(n.ID, 0))
		}
		if n.Disk != "" {
			err = errors.Join(err, e.Lab.Disk(n.ID, lab.DiskFault{Kind: lab.DiskOK}))
		}
	}
	return errors.Join(err, e.startAll())
}

// regions are those of the lab, in the order of its nodes.
func (e *Env) regions() (out []lab.Region) {
	for _, n := range e.Target.Nodes {
		i := slices.IndexFunc(out, func(r lab.Region) bool { return r.Name == n.Region })
		if i < 0 {
			out = append(out, lab.Region{Name: n.Region})
			i = len(out) - 1
		}
		out[i].Nodes++
	}
	return out
}

// regionOf gives each node's region.
func (e *Env) regionOf() map[string]string {
	out := make(map[string]string)
	for _, n := range e.Target.Nodes {
		out[n.ID] = n.Region
	}
	return out
}

// delays are the round trips between the regions, for people.
func (e *Env) delays() string {
	st, err := e.Lab.Status()
	if err != nil {
		return "delays unknown"
	}
	region := e.regionOf()
	var parts []string
	for _, l := range st.Links {
		a, b := region[l.From], region[l.To]
		if l.Shape.Delay == 0 || a >= b { // each pair once; the way back has the same delay
			continue
		}
		part := fmt.Sprintf("%s:%s %v", a, b, 2*l.Shape.Delay)
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return noDelay
	}
	return "round trips " + strings.Join(parts, ", ")
}

const noDelay = "no delay between regions"

// abilities are what the lab's cluster was started with.
func (e *Env) abilities() abilities {
	st, err := e.Lab.Status()
	if err != nil {
		return abilities{}
	}
	return abilities{disks: st.Faults.Fsync, power: st.Faults.Disk}
}

// moved are the bytes that went between regions so far.
func (e *Env) moved() (int64, error) {
	st, err := e.Lab.Status()
	if err != nil {
		return 0, err
	}
	region := e.regionOf()
	var sum int64
	for _, l := range st.Links {
		if region[l.From] != region[l.To] {
			sum += l.Bytes
		}
	}
	return sum, nil
}

// startAll starts the nodes that are down, all at once: one alone has no majority and does not serve.
func (e *Env) startAll() error {
	st, err := e.Lab.Status()
	if err != nil {
		return err
	}
	errs := make([]error, len(st.Nodes))
	var work sync.WaitGroup
	for i, n := range st.Nodes {
		if n.State == "down" {
			work.Go(func() { errs[i] = e.Lab.Start(n.ID) })
		}
	}
	work.Wait()
	return errors.Join(errs...)
}
