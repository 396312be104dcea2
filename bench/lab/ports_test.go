package lab

import "testing"

// TestPortsOfTwo: who looks for free ports while another is about to start a cluster finds others.
func TestPortsOfTwo(t *testing.T) {
	regions := []Region{{"south", 2}, {"north", 1}}
	one, held, err := reservePorts(regions)
	if err != nil {
		t.Fatal(err)
	}
	two, also, err := reservePorts(regions)
	if err != nil {
		t.Fatal(err)
	}
	if two < one+3*portsPerNode {
		t.Errorf("ports from %d on, and then from %d on", one, two)
	}
	held.close()
	also.close()
	p, err := newPlan("", regions, one)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.claim()
	again.close()
	if err != nil {
		t.Errorf("given back: %v", err)
	}
}
