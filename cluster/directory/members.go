package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hongyan/cluster/placement"
	"hongyan/engine/index"
)

// MethodTopology asks a node with a replica for the topology, when it is newer than what the asker has.
const MethodTopology = "directory.topology"

// topologyWait is how long a node keeps a question for news, at most.
const topologyWait = 10 * time.Second

// TopologyRequest asks for a topology of a later version. Wait: the answer may come as late as there is one, some seconds at most.
type TopologyRequest struct {
	After uint64 `cbor:"1,keyasint,omitempty"`
	Wait  bool   `cbor:"2,keyasint,omitempty"`
}

// TopologyResponse has it, or nil when there is nothing newer, and the version that the answerer has.
type TopologyResponse struct {
	Topology *Topology `cbor:"1,keyasint,omitempty"`
	Version  uint64    `cbor:"2,keyasint,omitempty"`
}

// changes wakes those who wait for the directory to change.
type changes struct {
	mu  sync.Mutex // guards now
	now chan struct{}
}

func newChanges() *changes { return &changes{now: make(chan struct{})} }

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *changes) happen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.now)
	c.now = make(chan struct{})
}

// Changed is closed at the next change of this node's replica, whatever it is of.
func (s *Service) Changed() <-chan struct{} { return s.changes.next() }

// Machine is the state machine of this node's replica.
func (s *Service) Machine() Machine { return Machine{changes: s.changes} }

// Topology reads this node's replica. Its Version is 0 before the cluster was founded.
func (s *Service) Topology() (*Topology, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	t, err := readTopology(v)
	return t, errors.Join(err, v.Close())
}

// TopologyNewer is a cheap look whether there is one of a later version.
func (s *Service) TopologyNewer(than uint64) (bool, error) {
	version, err := s.topologyVersion()
	return version > than, err
}

func (s *Service) topologyVersion() (version uint64, err error) {
	v, err := s.view()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	c, err := loadIf[counters](v, []byte(counterKey))
	return c.Topology, err
}

func readTopology(v *index.View) (*Topology, error) {
	c, err := loadIf[counters](v, []byte(counterKey))
	if err != nil {
		return nil, err
	}
	t := &Topology{Version: c.Topology}
	if t.Nodes, err = scan[Node](v, nodeTable); err != nil {
		return nil, err
	}
	if t.Groups, err = scan[placement.Group](v, groupTable); err != nil {
		return nil, err
	}
	m, err := loadIf[moving](v, []byte(movingKey))
	if t.Paused = m.Paused; err != nil {
		return nil, err
	}
	l, err := loadIf[reached](v, []byte(levelKey))
	t.Level = l.Level
	return t, err
}

// serveTopology answers with what the replica here has, or with what the node knew before if that is newer.
func (s *Service) serveTopology(ctx context.Context, _ string, req *TopologyRequest) (*TopologyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, topologyWait)
	defer cancel()
	for {
		changed, t := s.Changed(), s.Known()
		if s.Own() {
			newer, err := s.TopologyNewer(max(t.Version, req.After))
			if err == nil && newer {
				t, err = s.Topology()
			}
			if err != nil {
				return nil, err
			}
		} else if req.Wait {
			return nil, errNoReplica
		}
		if t.Version > req.After {
			return &TopologyResponse{Topology: t, Version: t.Version}, nil
		}
		if !req.Wait {
			return &TopologyResponse{Version: t.Version}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &TopologyResponse{Version: t.Version}, nil
		}
	}
}

// FetchTopology asks another node.
func (s *Service) FetchTopology(ctx context.Context, node string, req TopologyRequest) (*TopologyResponse, error) {
	resp := new(TopologyResponse)
	if err := s.net.Call(ctx, node, MethodTopology, &req, resp); err != nil {
		return nil, fmt.Errorf("ask %s for the topology: %w", node, err)
	}
	return resp, nil
}

// FoundTopology enters the first nodes and groups; see the command.
func (s *Service) FoundTopology(ctx context.Context, c FoundTopology) error {
	_, err := s.propose(ctx, &Command{FoundTopology: &c})
	return err
}

// AddNode makes a node a member.
func (s *Service) AddNode(ctx context.Context, n Node) error {
	_, err := s.propose(ctx, &Command{AddNode: &AddNode{Node: n}})
	return err
}

// ChangeNode changes a member.
func (s *Service) ChangeNode(ctx context.Context, c ChangeNode) error {
	_, err := s.propose(ctx, &Command{ChangeNode: &c})
	return err
}

// SetGroup enters where a shard's replicas are, or a new shard.
func (s *Service) SetGroup(ctx context.Context, g placement.Group, add bool) error {
	_, err := s.propose(ctx, &Command{SetGroup: &SetGroup{Group: g, Add: add}})
	return err
}

// PausePlacement stops or resumes what moves by itself.
func (s *Service) PausePlacement(ctx context.Context, paused bool) error {
	_, err := s.propose(ctx, &Command{SetPlacement: &SetPlacement{Paused: paused}})
	return err
}
