package load

import "fmt"

// Policy says which node of a target a worker talks to.
type Policy string

// Policies.
const (
	Stick      Policy = "stick"       // one node for each worker, spread evenly; it waits for that node to come back
	Failover   Policy = "failover"    // the same, but after a failure the next node, and it stays there
	RoundRobin Policy = "round-robin" // the next node for each operation
)

// Picker gives one worker its nodes. It is not safe for concurrent use.
type Picker struct {
	policy Policy
	nodes  int
	now    int
}

// NewPicker makes worker's picker among that many nodes.
func NewPicker(p Policy, nodes, worker int) (*Picker, error) {
	switch p {
	case Stick, Failover, RoundRobin:
	case "":
		p = Stick
	default:
		return nil, fmt.Errorf("policy %q: want stick, failover or round-robin", p)
	}
	if nodes < 1 {
		return nil, fmt.Errorf("a worker needs a node to talk to")
	}
	return &Picker{policy: p, nodes: nodes, now: worker % nodes}, nil
}

// Node is the number of the node for the operation that begins now.
func (p *Picker) Node() int { return p.now }

// Done says that the operation is over, and whether the node failed: no connection or no answer. A node that said no has not failed.
func (p *Picker) Done(failed bool) {
	if p.policy == RoundRobin || failed && p.policy == Failover {
		p.now = (p.now + 1) % p.nodes
	}
}

// Next goes to another node for a further try of the same operation, as an exchanger does that was told to come back later. Under Stick it
// stays where it is.
func (p *Picker) Next() {
	if p.policy != Stick {
		p.now = (p.now + 1) % p.nodes
	}
}
