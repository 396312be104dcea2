package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

// lands founds a cluster: a and b are in the south, c and d in the north, e is overseas.
func lands(t *testing.T) *tables {
	t.Helper()
	d := newTables(t)
	var nodes []Node
	for i, region := range []string{"south", "south", "north", "north", "overseas"} {
		nodes = append(nodes, Node{ID: string(rune('a' + i)), Region: region, Address: "10.0.0.1:7001", Roles: []string{"storage"}, Weight: 10})
	}
	if r := d.do(Command{FoundTopology: &FoundTopology{Nodes: nodes}}); r.Refused != "" {
		t.Fatal(r.Refused)
	}
	return d
}

func (d *tables) domain(name string) Domain {
	d.t.Helper()
	v := d.store.View()
	defer v.Close()
	dom, err := load[Domain](v, []byte(domainTable+name))
	if err != nil {
		d.t.Fatal(err)
	}
	return dom
}

func (d *tables) policies() (out []string) {
	d.t.Helper()
	v := d.store.View()
	defer v.Close()
	used, err := scan[usedPolicy](v, policyTable)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, u := range used {
		out = append(out, fmt.Sprintf("%d: %s", u.Domains, u.Policy))
	}
	return out
}

// TestSetPolicy: what is not given stays, what the nodes cannot hold is refused and changes nothing, and the table of policies in use follows.
func TestSetPolicy(t *testing.T) {
	d := lands(t)
	for _, name := range []string{"a.test", "b.test"} {
		d.do(Command{AddDomain: &Domain{Name: name, Home: "south"}})
	}
	north := "north"
	for _, c := range []struct {
		set     SetPolicy
		refused string // a part of why
		want    string
		used    []string
	}{
		{SetPolicy{Domain: "A.test", Copies: 3}, "", "3 copies, survive region, in any region", []string{"1: 3 copies, survive region, in any region"}},
		{SetPolicy{Domain: "a.test", Regions: &[]string{"south", "north"}}, "", "3 copies, survive region, in north, south",
			[]string{"1: 3 copies, survive region, in north, south"}},
		{SetPolicy{Domain: "a.test", Regions: &[]string{"overseas", "north"}, Home: &north, Copies: 4}, "there are 3", "3 copies, survive region, in north, south", nil},
		{SetPolicy{Domain: "a.test", Regions: &[]string{"north", "overseas"}}, "home region south", "3 copies, survive region, in north, south", nil},
		{SetPolicy{Domain: "b.test", Regions: &[]string{"north", "south"}, Copies: 3}, "", "3 copies, survive region, in north, south",
			[]string{"2: 3 copies, survive region, in north, south"}},
		{SetPolicy{Domain: "a.test", Regions: &[]string{}, Copies: 2}, "", "2 copies, survive region, in any region", []string{"1: 3 copies, survive region, in north, south"}},
		{SetPolicy{Domain: "b.test", Copies: 5}, "expected 2 to 4", "3 copies, survive region, in north, south", nil},
		{SetPolicy{Domain: "b.test", Survive: "planet"}, "planet", "3 copies, survive region, in north, south", nil},
		{SetPolicy{Domain: "c.test", Copies: 2}, "no domain", "", nil},
	} {
		before := d.policies()
		r := d.do(Command{SetPolicy: &c.set})
		if (r.Refused == "") != (c.refused == "") || !strings.Contains(r.Refused, c.refused) {
			t.Errorf("%+v: %q", c.set, r.Refused)
		}
		if c.used == nil {
			c.used = before
		}
		if got := d.policies(); !slices.Equal(got, c.used) {
			t.Errorf("%+v: in use are %q, expected %q", c.set, got, c.used)
		}
		if c.want == "" {
			continue
		}
		if dom := d.domain(strings.ToLower(c.set.Domain)); policy.Of(dom.Policy).String() != c.want || dom.Home != "south" {
			t.Errorf("%+v: %s, home %s", c.set, policy.Of(dom.Policy), dom.Home)
		}
	}
}

// TestPoliciesBounded: every policy costs each node open volumes, so there are so many at most.
func TestPoliciesBounded(t *testing.T) {
	d := lands(t)
	lists := [][]string{nil, {"north", "south"}, {"north", "overseas"}, {"overseas", "south"}, {"north", "overseas", "south"}}
	set := 0
	for i := range 3 * len(lists) * 2 {
		name := fmt.Sprintf("d%d.test", i)
		d.do(Command{AddDomain: &Domain{Name: name}})
		survive := []string{policy.Region, policy.Zone}[i%2]
		r := d.do(Command{SetPolicy: &SetPolicy{Domain: name, Copies: uint8(2 + i/2%3), Survive: survive, Regions: &lists[i/6]}})
		if r.Refused == "" {
			set++
		} else if !strings.Contains(r.Refused, "policies already") && !strings.Contains(r.Refused, "there are 3") {
			t.Error(r.Refused)
		}
	}
	if got := len(d.policies()); got != maxPolicies || set != maxPolicies+1 { // the first is the default
		t.Errorf("%d policies after %d changes", got, set)
	}
}

// TestNoEntryElsewhere: no command has a volume's entry name a node where its policy allows no bytes, nor fewer copies than it wants.
func TestNoEntryElsewhere(t *testing.T) {
	d := lands(t)
	mainland := policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"north", "south"}}
	open := func(p policy.Policy, copies ...string) *Result {
		return d.do(Command{OpenVolumeUnder: &OpenVolumeUnder{Primary: copies[0], Copies: copies, Policy: p}})
	}
	refused := func(what string, r *Result) {
		t.Helper()
		if r.Refused == "" {
			t.Errorf("%s: %+v", what, r.Volume)
		}
	}
	refused("opened overseas", open(mainland, "a", "e"))
	refused("opened at nobody", open(mainland, "a", "x"))
	refused("a copy too few", open(policy.Policy{Copies: 3, Survive: policy.Region}, "a", "c"))
	refused("no policy", open(policy.Policy{Copies: 9}, "a", "c"))
	e := open(mainland, "a", "c").Volume
	if e == nil || policy.Of(e.Policy).Key() != mainland.Key() {
		t.Fatalf("%+v", e)
	}
	e = d.do(Command{SealVolume: &SealVolume{ID: e.ID, Length: 9000}}).Volume
	refused("a copy overseas", d.do(Command{AddCopy: &AddCopy{ID: e.ID, Node: "e", Epoch: e.Epoch}}))
	e = d.do(Command{AddCopy: &AddCopy{ID: e.ID, Node: "b", Epoch: e.Epoch}}).Volume
	if e == nil || e.Policy == nil {
		t.Fatalf("a copy in the south: %+v", e)
	}
	freeze := func(nodes ...string) *Result {
		return d.do(Command{FreezeVolume: &FreezeVolume{ID: e.ID, Generation: e.Generation, Attempt: e.Attempt, Cold: replica.Cold{Data: 2, Parity: 1, Nodes: nodes}}})
	}
	refused("a fragment overseas", freeze("a", "c", "e"))
	if r := freeze("a", "c", "d"); r.Refused != "" || r.Volume.Policy == nil {
		t.Fatalf("fragments: %+v", r)
	}
	refused("a fragment moves overseas", d.do(Command{MoveFragment: &MoveFragment{ID: e.ID, Index: 1, From: "c", To: "e"}}))
	refused("thawed overseas", d.do(Command{ThawVolume: &ThawVolume{ID: e.ID, Copies: []string{"a", "e"}}}))
	if r := d.do(Command{ThawVolume: &ThawVolume{ID: e.ID, Copies: []string{"a", "d"}}}); r.Refused != "" || r.Volume.Policy == nil {
		t.Fatalf("thawed: %+v", r)
	}
	thrice := open(policy.Policy{Copies: 3, Survive: policy.Region}, "a", "c", "e").Volume
	thrice = d.do(Command{SealVolume: &SealVolume{ID: thrice.ID, Length: 9000}}).Volume
	refused("a third copy goes", d.do(Command{RemoveCopy: &RemoveCopy{ID: thrice.ID, Node: "c", Epoch: thrice.Epoch}}))
}

// TestMendedUnderPolicy: a volume that the tables have lost comes back under the policy in its file's header.
func TestMendedUnderPolicy(t *testing.T) {
	d := newTables(t)
	rule := policy.Policy{Copies: 3, Survive: policy.Zone, Regions: []string{"south"}}
	b, err := rule.Encode()
	if err != nil {
		t.Fatal(err)
	}
	txn := d.store.Begin()
	txn.SetIndex(1)
	found := []Found{{Header: volume.Header{ID: 7, Primary: "a", Copies: []string{"a", "b", "c"}, Policy: b}, Length: 9000}}
	if _, err := Mend(txn, found, 0, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := txn.Commit(1); err != nil {
		t.Fatal(err)
	}
	v := d.store.View()
	defer v.Close()
	if e, err := load[replica.Entry](v, numberKey(volumeTable, 7)); err != nil || policy.Of(e.Policy).Key() != rule.Key() {
		t.Errorf("%+v, %v", e, err)
	}
}
