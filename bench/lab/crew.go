package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// crew is who there is, at one moment. One that others may see is never changed, but replaced as a whole, by supervisor.change: what iterates
// over one sees no half of a change, and may see a node that has gone meanwhile, whose process then says that it does not run.
type crew struct {
	plan  *plan
	procs []*process // in the order in which the nodes came; a node that is being added or removed may have none
	disks disks
}

func (c *crew) clone() *crew {
	return &crew{c.plan.clone(), slices.Clone(c.procs), maps.Clone(c.disks)}
}

func (c *crew) process(id string) (*process, error) {
	known := make([]string, len(c.procs))
	for i, p := range c.procs {
		if p.node.ID == id {
			return p, nil
		}
		known[i] = p.node.ID
	}
	return nil, fmt.Errorf("no node %q here; there are %v", id, known)
}

// half is what was begun with a node and is not done yet.
func (c *crew) half(id string) half {
	if s := c.plan.roster.seat(id); s != nil {
		return s.Half
	}
	return ""
}

// wiped says whether a node has not served since its disk was lost.
func (c *crew) wiped(id string) bool {
	s := c.plan.roster.seat(id)
	return s != nil && s.Wiped
}

// urls are the HTTP listeners of the nodes that run and serve, or might, but for one.
func (c *crew) urls(but string) (out []string) {
	for _, p := range c.procs {
		if id := p.node.ID; id != but && p.status().State == stateRunning && c.half(id) == "" && !c.wiped(id) {
			out = append(out, p.node.http())
		}
	}
	return out
}

var errEnding = errors.New("the cluster is stopping")

// change has do change a copy of the crew, which is then the crew. lab.json is written before, if it is to say something else. What fails
// changes nothing.
func (s *supervisor) change(do func(*crew) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.crew.Load()
	c := old.clone()
	if err := do(c); err != nil {
		return err
	}
	if !c.plan.roster.equal(&old.plan.roster) {
		if err := c.plan.roster.write(s.o.Dir); err != nil {
			return err
		}
	}
	s.crew.Store(c)
	return nil
}

// join makes the process of a node that has come. After the last stop has begun there are no new ones.
func (s *supervisor) join(n node) (*process, error) {
	var p *process
	err := s.change(func(c *crew) error {
		if s.ending {
			return errEnding
		}
		var err error
		if p, err = c.process(n.ID); err != nil { // so it has none yet
			p = newProcess(n, s)
			c.procs = append(c.procs, p)
		}
		return nil
	})
	return p, err
}

// end lets nobody join from now on, and gives the processes that there are.
func (s *supervisor) end() []*process {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.ending = true
	return s.crew.Load().procs
}
