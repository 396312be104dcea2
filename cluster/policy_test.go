package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/mover"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// lands is a cluster with policies: south and north have two nodes, overseas has one.
type lands struct {
	*clustertest.Cluster
	t    *testing.T
	sent map[string][]string // by address
	by   *cluster.Node       // whom to ask
}

// domain makes one with an account under a policy.
func (l *lands) domain(name string, c client.PolicyChange) client.Account {
	l.t.Helper()
	if err := l.by.AddDomain(ctx(l.t), name, "south"); err != nil {
		l.t.Fatal(err)
	}
	if err := l.by.SetPolicy(ctx(l.t), name, c); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.by.AddAccount(ctx(l.t), client.NewAccount{Address: "u@" + name, Password: clustertest.Password}); err != nil {
		l.t.Fatal(err)
	}
	a, err := l.by.Client().Resolve(ctx(l.t), "u@"+name)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// mail delivers one message to several at once.
func (l *lands) mail(door *cluster.Node, raw []byte, to ...client.Account) {
	l.t.Helper()
	deliver(l.t, door.Client(), raw, to...)
	for _, a := range to {
		l.sent[a.Address] = append(l.sent[a.Address], string(raw))
	}
}

// entries gives the volumes of a policy, and with them how many there are of others.
func (l *lands) entries(rule policy.Policy) (out []replica.Entry) {
	l.t.Helper()
	all, err := l.by.Entries(ctx(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e replica.Entry) bool { return policy.Of(e.Policy).Key() != rule.Key() })
}

// files are the volumes that a node has anything of on its disk.
func (l *lands) files(node int) map[volume.ID]string {
	l.t.Helper()
	out := make(map[volume.ID]string)
	for _, dir := range []string{"volumes", "cold"} {
		names, err := filepath.Glob(filepath.Join(l.Configs[node].Data, dir, "*"))
		if err != nil {
			l.t.Fatal(err)
		}
		for _, name := range names {
			base := filepath.Base(name)
			if id, err := strconv.ParseUint(base[:min(len(base), 16)], 16, 64); err == nil {
				out[volume.ID(id)] = base
			}
		}
	}
	return out
}

// confined checks that no entry and no disk has bytes under a policy where it allows none, and that entries have as many copies as it wants.
func (l *lands) confined(rule policy.Policy) {
	l.t.Helper()
	list := l.entries(rule)
	if len(list) == 0 {
		l.t.Errorf("no volume under %s", rule)
	}
	for i, n := range l.Configs {
		if rule.Allows(n.Region) {
			continue
		}
		have := l.files(i)
		for _, e := range list {
			if slices.Contains(e.Sources(), n.ID) || have[e.ID] != "" {
				l.t.Errorf("volume %s (%s) lies on %s: entry %v, file %q", e.ID, rule, n.ID, e.Sources(), have[e.ID])
			}
		}
	}
	for _, e := range list {
		if e.Cold == nil && e.Length > 0 && len(e.Copies) < e.Wanted() {
			l.t.Errorf("volume %s (%s) is on %v only", e.ID, rule, e.Copies)
		}
	}
}

// without waits until nothing under a policy is on a node.
func (l *lands) without(rule policy.Policy, node string) {
	l.t.Helper()
	var left []replica.Entry
	clustertest.Eventually(l.t, 60*time.Second, func() bool {
		left = slices.DeleteFunc(l.entries(rule), func(e replica.Entry) bool { return !slices.Contains(e.Sources(), node) })
		return len(left) == 0
	}, func() string { return fmt.Sprintf("nothing under %s is on %s: %+v", rule, node, left) })
}

// under checks in which policy's volumes an account's messages are.
func (l *lands) under(a client.Account, rules ...policy.Policy) {
	l.t.Helper()
	box, err := l.by.Client().Select(ctx(l.t), a, "INBOX")
	if err != nil {
		l.t.Fatal(err)
	}
	var got []string
	all, err := l.by.Entries(ctx(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	err = l.by.Client().Messages(ctx(l.t), a, box.Mailbox.ID, box.UIDs, index.WantImmutable, func(m *client.Message) error {
		i := slices.IndexFunc(all, func(e replica.Entry) bool { return e.ID == m.Ref.Volume })
		got = append(got, policy.Of(all[i].Policy).String())
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	var want []string
	for _, r := range rules {
		want = append(want, r.String())
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("messages of %s are under %q, expected %q", a.Address, got, want)
	}
}

// read compares all mail with what was acknowledged.
func (l *lands) read(door *cluster.Node, accounts ...client.Account) {
	l.t.Helper()
	for _, a := range accounts {
		if got := bodies(l.t, door.Client(), a, "INBOX"); !slices.Equal(got, l.sent[a.Address]) {
			l.t.Errorf("%s: %d messages, %d were acknowledged", a.Address, len(got), len(l.sent[a.Address]))
		}
	}
}

func landsOf(t *testing.T) *lands {
	tune := func(n *config.Node) {
		n.Encryption = nil // key files are most of what opening many volumes costs under the race detector
		n.Shards, n.Compaction.CloseSeconds = 1, 1
		n.Cold = &config.Cold{AfterSeconds: 1, MinBytes: 1 << 20, DataFragments: 2, ParityFragments: 2, BytesPerSecond: 64 << 20}
	}
	var specs []clustertest.Spec
	for _, region := range []string{"south", "south", "north", "north", "overseas"} {
		specs = append(specs, clustertest.Spec{Region: region, Roles: everything, Tune: tune})
	}
	l := &lands{Cluster: clustertest.StartNodes(t, specs...), t: t, sent: make(map[string][]string)}
	l.by = l.Nodes[0]
	zones := []string{"a", "b"}
	for i := range zones {
		if err := l.by.ChangeNode(ctx(t), l.Configs[i].ID, mover.NodeChange{Zone: &zones[i]}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestPolicies has domains whose bytes may lie in the mainland only, in three copies, and in two zones of one region. A node is drained and another one lost:
// nothing of the first is ever overseas, as copies or fragments, every volume keeps its copies, and mail that cannot be stored as asked is refused.
func TestPolicies(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	l := landsOf(t)
	mainland := policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"north", "south"}}
	thrice := policy.Policy{Copies: 3, Survive: policy.Region}
	zonal := policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"south"}}
	a := l.domain("a.test", client.PolicyChange{Regions: &[]string{"south", "north"}})
	b := l.domain("b.test", client.PolicyChange{Copies: 3})
	c := l.domain("c.test", client.PolicyChange{Survive: policy.Zone, Regions: &[]string{"south"}})
	for domain, change := range map[string]client.PolicyChange{
		"b.test": {Regions: &[]string{"moon"}}, "c.test": {Survive: policy.Region}, "a.test": {Regions: &[]string{"north"}},
		"nobody.test": {Copies: 2},
	} {
		if err := l.by.SetPolicy(ctx(t), domain, change); err == nil {
			t.Errorf("%s: %+v is taken", domain, change)
		} else {
			t.Log(err)
		}
	}
	for i, door := range l.Nodes {
		l.mail(door, message(i+1, 300), a, b, c)
	}
	large := make([]byte, 2<<20)
	for i := range large {
		large[i] = byte('!' + rand.N(90))
	}
	l.mail(l.Nodes[4], large, a)
	l.under(a, mainland, mainland, mainland, mainland, mainland, mainland)
	l.under(b, thrice, thrice, thrice, thrice, thrice)
	l.under(c, zonal, zonal, zonal, zonal, zonal)
	check := func() {
		t.Helper()
		for _, rule := range []policy.Policy{mainland, thrice, zonal} {
			l.confined(rule)
		}
	}
	check()
	cold := func() bool {
		return slices.ContainsFunc(l.entries(mainland), func(e replica.Entry) bool { return e.Cold != nil })
	}
	yes := true
	if err := l.by.ChangeNode(ctx(t), "north-3", mover.NodeChange{Draining: &yes}); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 60*time.Second, func() bool { return nodeOf(t, l.by, "north-3").Empty },
		func() string { return fmt.Sprintf("the drained node is empty: %+v", nodeOf(t, l.by, "north-3")) })
	check()
	clustertest.Eventually(t, 60*time.Second, cold, func() string { return fmt.Sprintf("the large volume is cold: %+v", l.entries(mainland)) })
	check()
	l.mail(l.Nodes[4], message(10, 300), a, b, c)

	l.StopNode(t, 1)
	none, sameZone := uint32(0), "a"
	for _, c := range []mover.NodeChange{{Draining: &yes}, {Weight: &none}, {Zone: &sameZone}} {
		err := l.by.ChangeNode(ctx(t), "south-2", c)
		if err == nil || !strings.Contains(err.Error(), "mail for c.test needs south-2") || !strings.Contains(err.Error(), "--anyway") {
			t.Errorf("a change that makes a policy impossible, %+v: %v", c, err)
		}
	}
	if err := l.by.ChangeNode(ctx(t), "south-2", mover.NodeChange{Draining: &yes, Anyway: true}); err != nil {
		t.Fatal(err)
	}
	l.without(mainland, "south-2")
	l.without(thrice, "south-2")
	l.mail(l.Nodes[4], message(11, 300), a, b)
	check()
	l.refused(c)
	l.read(l.Nodes[0], a, b, c)
	l.read(l.Nodes[4], a, b, c)
}

// refused checks that mail which can be stored nowhere as its policy wants is refused for the time being, with the reason.
func (l *lands) refused(to client.Account) {
	l.t.Helper()
	limited, stop := context.WithTimeout(ctx(l.t), 500*time.Millisecond)
	defer stop()
	door := l.Nodes[4].Client()
	d := door.NewDraft()
	defer d.Close()
	if _, err := d.Write(message(12, 300)); err != nil {
		l.t.Fatal(err)
	}
	err := door.Deliver(limited, d, client.Delivery{From: "a@remote.test", Recipients: []client.Account{to}})[0]
	if err == nil || !strings.Contains(err.Error(), "in south want as many nodes") {
		l.t.Errorf("mail that has no place: %v", err)
	} else {
		l.t.Log(err)
	}
}

// TestMisplacedNode lets nodes join as what they are not: one in another region than its configuration says, and one as a node that keeps mail whose configuration has no
// such role. Both say so, nothing comes to them, and mail goes on. With the region put right the first one gets its share.
func TestMisplacedNode(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	unwatched(t)
	c := clustertest.Start(t, "south", "north", "overseas")
	a := c.Account(t, "u1")
	wrong := c.Join(t, "overseas-b", clustertest.Spec{Region: "south", Roles: everything, Tune: func(n *config.Node) { n.Region = "overseas" }})
	door := c.Join(t, "door-b", clustertest.Spec{Region: "north", Roles: everything, Tune: func(n *config.Node) { n.Roles = []config.Role{config.Frontend} }})
	says := func(i int, word string) {
		t.Helper()
		clustertest.Eventually(t, 20*time.Second, func() bool {
			return slices.ContainsFunc(c.Nodes[i].Ready(), func(why string) bool { return strings.Contains(why, word) })
		}, func() string { return "it says so: " + strings.Join(c.Nodes[i].Ready(), "; ") })
	}
	says(wrong, "is known to be in region south, and is in overseas by its configuration")
	says(door, "its configuration has no role storage")
	refused := func(word string) func() bool {
		return func() bool {
			for _, n := range c.Nodes[:3] {
				p, err := n.Placement(ctx(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, why := range p.Failures {
					if strings.Contains(why, word) {
						return true
					}
				}
			}
			return false
		}
	}
	for _, word := range []string{"is in overseas by its configuration", "has no role storage"} {
		clustertest.Eventually(t, 30*time.Second, refused(word), func() string { return "no replica is opened, since " + word })
	}
	deliver(t, c.Nodes[0].Client(), message(1, 300), a)
	for _, id := range []string{"overseas-b", "door-b"} {
		if n := nodeOf(t, c.Nodes[0], id); !n.Empty {
			t.Errorf("something came to it: %+v", n)
		}
	}
	if err := c.Nodes[0].RemoveNode(ctx(t), "door-b"); err != nil {
		t.Error(err)
	}
	c.StopNode(t, door)
	c.StopNode(t, wrong)
	c.Configs[wrong].Region = "south"
	c.StartNode(t, wrong)
	c.WaitReady(t)
	settled(t, c.Nodes[0])
	if n := nodeOf(t, c.Nodes[0], "overseas-b"); n.Replicas == 0 {
		t.Errorf("in its region: %+v", n)
	}
	if got := bodies(t, c.Nodes[wrong].Client(), a, "INBOX"); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}
