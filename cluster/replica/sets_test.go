package replica

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/policy"
	"hongyan/engine/volume"
)

// peersIn reads "name:region/zone" words.
func peersIn(words string) (out []Peer) {
	for _, w := range strings.Fields(words) {
		id, at, _ := strings.Cut(w, ":")
		region, zone, _ := strings.Cut(at, "/")
		out = append(out, Peer{ID: id, Region: region, Zone: zone, Weight: 10})
	}
	return out
}

func names(sets [][]Peer) (out []string) {
	for _, set := range sets {
		out = append(out, strings.Join(ids(set), "+"))
	}
	return out
}

// TestPartnerSets: the first node keeps volumes with which others.
func TestPartnerSets(t *testing.T) {
	const five = "s1:south/x s2:south/y n1:north n2:north o:overseas"
	mainland := []string{"north", "south"}
	for _, c := range []struct {
		what   string
		rule   policy.Policy
		peers  string
		want   string
		spread bool
	}{
		{"by default one elsewhere", policy.Default(), five, "n1 n2 o", true},
		{"near if there is none elsewhere", policy.Default(), "s1:south s2:south", "s2", false},
		{"not overseas", policy.Policy{Copies: 2, Survive: policy.Region, Regions: mainland}, five, "n1 n2", true},
		{"rather near than overseas", policy.Policy{Copies: 2, Survive: policy.Region, Regions: mainland}, "s1:south s2:south o:overseas", "s2", false},
		{"rather none than overseas", policy.Policy{Copies: 2, Survive: policy.Region, Regions: mainland}, "s1:south o:overseas", "", false},
		{"nothing where it is forbidden itself", policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"north", "overseas"}}, five, "", false},
		{"three regions for three copies", policy.Policy{Copies: 3, Survive: policy.Region}, five, "s2+n1 n1+o n2+o", true},
		{"three copies in two regions", policy.Policy{Copies: 3, Survive: policy.Region, Regions: mainland}, five, "s2+n1 n1+n2 n2+s2", true},
		{"too few for three copies", policy.Policy{Copies: 3, Survive: policy.Region, Regions: mainland}, "s1:south n1:north o:overseas", "", false},
		{"another zone of the region", policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"south"}}, five, "s2", true},
		{"the region's own zones first", policy.Policy{Copies: 2, Survive: policy.Zone}, five, "s2 n1 n2 o", true},
		{"no other zone", policy.Policy{Copies: 2, Survive: policy.Zone, Regions: []string{"south"}}, "s1:south/x s2:south/x", "s2", false},
		{"four", policy.Policy{Copies: 4, Survive: policy.Region}, five, "s2+n1+o n1+o+n2 n2+o+s2", true},
	} {
		all := peersIn(c.peers)
		chooser := chooser{self: all[0], distance: func(string) int { return 0 }, order: func(Peer) float64 { return 0 }}
		sets, spread := partnerSets(chooser, c.rule, all, maxSets)
		var got []string // a set's order, but for its first, is nothing to go by
		for _, set := range sets {
			got = append(got, strings.Join(slices.Sorted(slices.Values(ids(set))), "+"))
		}
		want := strings.Fields(c.want)
		for i := range want {
			parts := strings.Split(want[i], "+")
			slices.Sort(parts)
			want[i] = strings.Join(parts, "+")
		}
		want = slices.Compact(want)
		if !slices.Equal(got, want) || spread != c.spread {
			t.Errorf("%s: %q, %v; expected %q, %v", c.what, names(sets), spread, want, c.spread)
		}
	}
}

// TestWeightsOfSets: mail that goes to two other nodes at once follows the weights too.
func TestWeightsOfSets(t *testing.T) {
	weights := map[string]uint32{"a": 5, "b": 5, "c": 5, "d": 10, "e": 5}
	var peers []Peer
	for id, w := range weights {
		peers = append(peers, Peer{ID: id, Region: "r", Weight: w})
	}
	s := shares{lead: make(map[turn][]string)}
	s.reset(peers)
	sets := [][]string{{"a", "b"}, {"b", "c"}, {"c", "d"}, {"d", "a"}, {"d", "b"}, {"e", "d"}, {"a", "e"}}
	taken := make(map[string]float64)
	for range 20_000 {
		at := slices.IndexFunc(s.standingsOf(turn{}, sets), func(st standing) bool { return st.lead })
		for _, node := range sets[at] {
			s.count(node, 40<<10)
			taken[node] += 1.0 / 40_000
		}
	}
	for id, w := range weights {
		if want := float64(w) / 30; math.Abs(taken[id]-want) > 0.02 {
			t.Errorf("%s has %.3f of the mail, expected %.3f", id, taken[id], want)
		}
	}
}

// TestThreeCopies: a volume with three copies takes mail, loses one of their nodes, and has three again on the nodes that are left.
func TestThreeCopies(t *testing.T) {
	g := newGroup(t, small([]place{{id: "a", region: "south", plain: true}, {id: "b", region: "north"}, {id: "c", region: "sea"}, {id: "d", region: "sea"}})...)
	rule := policy.Policy{Copies: 3, Survive: policy.Region}
	g.dir.mu.Lock()
	g.dir.asked = []policy.Policy{rule}
	g.dir.mu.Unlock()
	var refs []volume.Ref
	put := func(seed uint64) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		b := g.at("a").blob(message(seed, 30_000))
		defer b.Close()
		to := Place{Home: "south", Policy: rule}
		if early := g.at("a").m.PutEarly(ctx, to, volume.KindMessage, nil, b); early != nil {
			t.Error("entered early: a third copy may lag")
		}
		var ref volume.Ref
		eventually(t, "a message is stored", time.Minute, func() (err error) { // a machine at its limits takes seconds to open volumes
			ref, err = g.at("a").m.Put(ctx, to, volume.KindMessage, nil, b)
			return err
		})
		if e, _ := g.dir.entry(ref.Volume); len(e.Copies) != 3 || policy.Of(e.Policy).Key() != rule.Key() {
			t.Fatalf("%+v", e)
		}
		refs = append(refs, ref)
	}
	for seed := range uint64(10) {
		put(seed)
	}
	g.at("c").kill()
	g.set("c", 10, true)
	put(10)
	eventually(t, "three whole copies without the node that is lost", 30*time.Second, func() error {
		whole := g.holders()
		for _, ref := range refs[:10] {
			e, _ := g.dir.entry(ref.Volume)
			if e.State == Sealed && (e.Holds("c") || len(e.Copies) != 3 || whole[e.ID] < 3) {
				return fmt.Errorf("volume %s is on %v, %d whole", e.ID, e.Copies, whole[e.ID])
			}
		}
		return nil
	})
	for seed, ref := range refs {
		if err := g.at("d").verify(ref, uint64(seed)); err != nil {
			t.Error(err)
		}
	}
}
