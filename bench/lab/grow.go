package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"hongyan/bench/disk"
	"hongyan/cluster/config"
	"hongyan/cluster/mover"
)

// Addition is a node that is to come to a cluster that lives.
type Addition struct {
	Region string        `json:"region"` // which may be a new one
	Weight uint32        `json:"weight"` // against those of the other nodes
	Roles  []config.Role `json:"roles"`
}

// ParseRoles reads a list such as storage,frontend.
func ParseRoles(s string) (roles []config.Role, err error) {
	for part := range strings.SplitSeq(s, ",") {
		role := config.Role(part)
		if role != config.Storage && role != config.Frontend || slices.Contains(roles, role) {
			return nil, fmt.Errorf("%q: expected %s, %s or both", s, config.Storage, config.Frontend)
		}
		roles = append(roles, role)
	}
	return roles, nil
}

// add has a node come, and gives its id.
//
// Steps: 1 note in lab.json that it comes, 2 mount its disk, open its relays, write its keys and all nodes' files, 3 have the cluster let it in, 4 start
// it and wait until it serves, 5 note that it is there and publish cluster.json again. Each does only what is not done yet, so when one fails, the
// next add of that region goes on with the same node.
func (s *supervisor) add(ctx context.Context, a Addition) (id string, err error) {
	s.growing.Lock()
	defer s.growing.Unlock()
	if !s.isShown() {
		return "", errors.New("the cluster is not ready yet: wait for cluster.json")
	}
	n, err := s.admit(a)
	if err != nil {
		return "", err
	}
	if err := s.moveIn(ctx, n, a); err != nil {
		return "", fmt.Errorf("node %s is added by half: %w; once that is mended `hongyan dev add %s` goes on, and `hongyan dev remove %s` gives up", n.ID, err, n.Region, n.ID)
	}
	return n.ID, nil
}

func (s *supervisor) isShown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

// admit is step 1.
func (s *supervisor) admit(a Addition) (n node, err error) {
	if len(a.Region) > maxRegionName || !config.ValidName(a.Region) {
		return n, fmt.Errorf("region %q: expected a name such as south-china", a.Region)
	}
	err = s.change(func(c *crew) error {
		r := &c.plan.roster
		place := r.halfway(a.Region)
		if place == nil {
			if len(r.Nodes) >= maxNodes {
				return fmt.Errorf("there are %d nodes: expected at most so many on one machine", len(r.Nodes))
			}
			number, err := c.plan.freeNumber(a.Region)
			if err != nil {
				return err
			}
			r.Nodes = append(r.Nodes, seat{ID: r.nextID(a.Region), Region: a.Region, Number: number, Joined: true, Roles: a.Roles, Half: halfAdded})
			place = &r.Nodes[len(r.Nodes)-1]
		} else if !slices.Equal(place.Roles, a.Roles) {
			return fmt.Errorf("node %s is there by half, with the roles %v: expected the same, or `hongyan dev remove %s` first", place.ID, place.Roles, place.ID)
		}
		n = c.plan.node(*place)
		return nil
	})
	return n, err
}

// moveIn is steps 2 to 5.
func (s *supervisor) moveIn(ctx context.Context, n node, a Addition) error {
	if err := s.giveDisk(n); err != nil {
		return err
	}
	if err := s.connect(n); err != nil {
		return err
	}
	if err := errors.Join(s.writeKeys([]node{n}), s.writeFiles()); err != nil {
		return err
	}
	in := mover.NewNode{ID: n.ID, Region: n.Region, Address: n.addr(1), Weight: a.Weight}
	for _, role := range n.roles {
		in.Roles = append(in.Roles, string(role))
	}
	if err := s.api.letIn(ctx, s.crew.Load().urls(n.ID), in); err != nil {
		return err
	}
	if err := s.bringIn(ctx, n); err != nil {
		return err
	}
	err := s.change(func(c *crew) error {
		c.plan.roster.seat(n.ID).Half = ""
		return nil
	})
	return errors.Join(err, s.publish())
}

// giveDisk mounts a file system of the node's own where the others have such, as large as theirs.
func (s *supervisor) giveDisk(n node) error {
	c := s.crew.Load()
	if c.disks == nil || c.disks[n.ID] != nil {
		return nil
	}
	size := s.o.DiskSize
	if fi, err := os.Stat(n.image()); err == nil { // of an add that failed
		size = fi.Size()
	}
	for i := 0; i < len(c.plan.nodes) && size == 0; i++ {
		if fi, err := os.Stat(c.plan.nodes[i].image()); err == nil {
			size = fi.Size()
		}
	}
	v, err := disk.Mount(n.image(), n.dir, size)
	if err != nil {
		return fmt.Errorf("disk of node %s: %w", n.ID, err)
	}
	return s.change(func(c *crew) error {
		c.disks[n.ID] = v
		return nil
	})
}

// connect makes the node one of the plan's, with relays from and to all others.
func (s *supervisor) connect(n node) error {
	return s.change(func(c *crew) error {
		if slices.ContainsFunc(c.plan.nodes, func(o node) bool { return o.ID == n.ID }) {
			return nil
		}
		others := c.plan.nodes
		c.plan.nodes = append(slices.Clone(others), n)
		links := append(c.plan.pairs([]node{n}, others), c.plan.pairs(others, []node{n})...)
		if err := s.openLinks(c.plan, links); err != nil {
			return errors.Join(err, s.net.Remove(n.ID)) // the plan that knew of them is not taken
		}
		return nil
	})
}

// bringIn is step 4.
func (s *supervisor) bringIn(ctx context.Context, n node) error {
	p, err := s.join(n)
	if err != nil {
		return err
	}
	s.broken.RLock()
	err = p.do(verbStart)
	s.broken.RUnlock()
	if err != nil {
		return fmt.Errorf("node %s %w", n.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	return s.awaitReady(ctx, p, true)
}

// remove clears away a node that the cluster has removed, or had never let in.
//
// Steps: 1 ask the cluster, 2 note in lab.json that it goes, and end its process and its relays, 3 take it out of the others' files, 4 delete
// its folder, 5 take it out of lab.json and publish cluster.json again. When one fails, the next remove goes on.
func (s *supervisor) remove(ctx context.Context, id string) error {
	s.growing.Lock()
	defer s.growing.Unlock()
	c := s.crew.Load()
	place := c.plan.roster.seat(id)
	if place == nil {
		_, err := c.process(id)
		return err
	}
	n := c.plan.node(*place)
	if place.Half != halfRemoved {
		if err := s.mayGo(ctx, id); err != nil {
			return err
		}
	}
	if err := s.moveOut(n); err != nil {
		return fmt.Errorf("node %s is removed by half: %w; once that is mended `hongyan dev remove %s` goes on", id, err, id)
	}
	return nil
}

// mayGo is step 1.
func (s *supervisor) mayGo(ctx context.Context, id string) error {
	in, err := s.api.isMember(ctx, s.crew.Load().urls(id), id)
	if err != nil {
		return fmt.Errorf("whether node %s may go: %w", id, err)
	}
	if in {
		return fmt.Errorf("node %s is a member of the cluster: first `hongyan admin node drain %s --wait` and `hongyan admin node remove %s`", id, id, id)
	}
	return nil
}

// moveOut is steps 2 to 5.
func (s *supervisor) moveOut(n node) error {
	if err := s.dismiss(n.ID); err != nil {
		return err
	}
	if err := errors.Join(s.net.Remove(n.ID), s.writeFiles(), s.takeDisk(n)); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("delete the node's folder: %w", err)
	}
	err := s.change(func(c *crew) error {
		c.plan.roster.leave(n.ID)
		return nil
	})
	return errors.Join(err, s.publish())
}

// dismiss is step 2 but for the relays.
func (s *supervisor) dismiss(id string) error {
	var p *process
	err := s.change(func(c *crew) error {
		c.plan.roster.seat(id).Half = halfRemoved
		c.plan.drop(id)
		if i := slices.IndexFunc(c.procs, func(p *process) bool { return p.node.ID == id }); i >= 0 {
			p = c.procs[i]
			c.procs = slices.Delete(c.procs, i, i+1)
		}
		return nil
	})
	if p != nil {
		_ = p.do(verbEnd) // the only error is that it does not run, which is what is wanted
		p.close()
	}
	return err
}

// takeDisk unmounts a disk of the node's own, which a supervisor that was killed may have mounted, and deletes it.
func (s *supervisor) takeDisk(n node) (err error) {
	s.broken.Lock()
	defer s.broken.Unlock()
	v := s.crew.Load().disks[n.ID]
	if v == nil {
		if _, err := os.Stat(n.image()); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if v, err = disk.Mount(n.image(), n.dir, 0); err != nil {
			return fmt.Errorf("disk of node %s: %w", n.ID, err)
		}
	}
	if err := v.Unmount(); err != nil {
		return fmt.Errorf("disk of node %s: %w", n.ID, err)
	}
	err = s.change(func(c *crew) error {
		delete(c.disks, n.ID)
		return nil
	})
	if err == nil {
		err = os.Remove(n.image())
	}
	if err != nil {
		return fmt.Errorf("delete disk of node %s: %w", n.ID, err)
	}
	return nil
}
