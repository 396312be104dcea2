package cluster

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/directory"
	"hongyan/cluster/transport/transporttest"
)

// Nobody is to be woken for ever for a node that an operator has given up.
func TestNodesGivenUpAreNotMeasured(t *testing.T) {
	n := &Node{net: transporttest.Nodes(t, "a", "b", "c")[0]}
	n.topology.Store(&directory.Topology{Nodes: []directory.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}}})
	for _, want := range []int{2, 1} {
		r := prometheus.NewRegistry()
		r.MustRegister(newPeers(n))
		families, err := r.Gather()
		if err != nil || len(families) < 2 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		for _, f := range families {
			if name := f.GetName(); name != "hongyan_peer_rtt_seconds" && len(f.GetMetric()) != want { // which only nodes have that are up
				t.Errorf("%s of %d nodes, expected %d", name, len(f.GetMetric()), want)
			}
		}
		n.topology.Store(&directory.Topology{Nodes: []directory.Node{{ID: "a"}, {ID: "b"}, {ID: "c", Incarnation: "fenced"}}})
	}
}
