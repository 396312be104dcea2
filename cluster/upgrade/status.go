package upgrade

import (
	"errors"
	"fmt"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
)

// Status is how far an upgrade is, for operators.
type Status struct {
	Level feature.Level `json:"level"`           // the cluster's
	Next  feature.Level `json:"next,omitempty"`  // the newest that some node knows, if that is higher
	Name  string        `json:"level_name"`      // of Level, as in "2 (moves)"
	Nodes []Node        `json:"nodes"`           // by id
	Waits []string      `json:"waits,omitempty"` // what holds Next back
}

// Node is what a member runs.
type Node struct {
	ID      string        `json:"id"`
	Build   string        `json:"build,omitempty"` // "" is one from before feature levels, or one that did not answer
	Knows   feature.Level `json:"knows,omitempty"` // 0: it did not answer
	Answers bool          `json:"answers"`
	Holds   bool          `json:"holds,omitempty"`
	Lost    bool          `json:"lost,omitempty"`
	Why     string        `json:"why,omitempty"` // it did not answer
}

// status puts together what the nodes of a topology said.
func (k *Keeper) status(t *directory.Topology, said map[string]answer) *Status {
	s := &Status{Level: t.AtLevel(), Name: t.AtLevel().String()}
	for _, n := range t.Nodes {
		if n.Removed {
			continue
		}
		a := said[n.ID]
		line := Node{ID: n.ID, Build: a.program.Build, Knows: a.program.Knows, Answers: a.err == nil, Holds: a.program.Holds, Lost: n.Lost}
		if a.err != nil {
			line.Build, line.Knows, line.Holds, line.Why = "", 0, false, a.err.Error()
			var o *feature.Outdated
			if errors.As(a.err, &o) && o.Node == n.ID {
				line.Knows = o.Knows
			}
		}
		s.Nodes = append(s.Nodes, line)
		if line.Knows > max(s.Level, s.Next) {
			s.Next = line.Knows
		}
	}
	_, s.Waits = s.reach()
	return s
}

// reach is the highest level that every node knows which counts, and what keeps it below Next. It is never below Level.
func (s *Status) reach() (level feature.Level, waits []string) {
	if s.Next == 0 {
		return s.Level, nil
	}
	level = s.Next
	for _, n := range s.Nodes {
		switch {
		case n.Lost && !n.Answers:
			// it is not waited for
		case !n.Answers:
			waits, level = append(waits, fmt.Sprintf("%s does not answer: %s", n.ID, n.Why)), s.Level
		case n.Holds:
			waits, level = append(waits, fmt.Sprintf("%s holds it: `hongyan admin upgrade release` ends that", n.ID)), s.Level
		case n.Knows < s.Next:
			waits, level = append(waits, fmt.Sprintf("%s runs %s, which knows level %d at most", n.ID, n.program(), n.Knows)), min(level, n.Knows)
		}
	}
	return max(level, s.Level), waits
}

func (n *Node) program() string {
	if n.Build == "" {
		return "a program from before feature levels"
	}
	return n.Build
}
