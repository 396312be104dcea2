package policy

import (
	"reflect"
	"strings"
	"testing"
)

func at(words string) (out []Place) {
	for _, w := range strings.Fields(words) {
		region, zone, _ := strings.Cut(w, "/")
		out = append(out, Place{region, zone})
	}
	return out
}

func TestFeasible(t *testing.T) {
	five := "south/1 south/2 north north overseas"
	for _, c := range []struct {
		p     Policy
		nodes string
		says  []string // of the refusal; none: feasible
	}{
		{Default(), "south", nil},
		{Policy{3, Region, nil}, five, nil},
		{Policy{2, Region, []string{"north", "south"}}, five, nil},
		{Policy{4, Region, []string{"north", "south"}}, five, nil},
		{Policy{2, Zone, []string{"south"}}, five, nil},
		{Policy{4, Region, []string{"north", "overseas"}}, five, []string{"there are 3", "north 2, overseas 1", "at most 3 copies", "south 2"}},
		{Policy{2, Region, []string{"overseas"}}, five, []string{"there are 1", "more regions: north 2, south 2"}},
		{Policy{2, Region, []string{"south"}}, five, []string{"in one region, south", "survive zone", "north 2, overseas 1"}},
		{Policy{2, Zone, []string{"north"}}, five, []string{"one zone", "give them zones"}},
		{Policy{2, Region, []string{"moon", "south"}}, five, []string{`"moon"`, "north 2, overseas 1, south 2"}},
		{Policy{3, Region, nil}, "south north", []string{"in any region", "there are 2", "at most 2 copies"}},
		{Policy{3, Region, nil}, "south", []string{"let more nodes join"}},
	} {
		err := c.p.Feasible(at(c.nodes))
		if (err == nil) != (c.says == nil) {
			t.Errorf("%v on %q: %v", c.p, c.nodes, err)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%v on %q says %q, without %q", c.p, c.nodes, err, s)
			}
		}
	}
}

func TestNormal(t *testing.T) {
	got, err := Policy{Regions: []string{"b", "a", "b"}}.Normal()
	if want := (Policy{2, Region, []string{"a", "b"}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []Policy{{Copies: 1}, {Copies: 5}, {Survive: "planet"}, {Regions: []string{""}}, {Regions: []string{strings.Repeat("x", MaxNames+1)}}} {
		if _, err := bad.Normal(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestKey: policies that ask the same have one key, others have not, and the default has none.
func TestKey(t *testing.T) {
	keys := make(map[string]Policy)
	for _, p := range []Policy{Default(), {3, Region, nil}, {2, Zone, nil}, {2, Region, []string{"a"}}, {2, Region, []string{"a", "b"}}, {2, Region, []string{"ab"}}} {
		if other, twice := keys[p.Key()]; twice {
			t.Errorf("%v and %v have one key", p, other)
		}
		keys[p.Key()] = p
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Decode(b); err != nil || again.Key() != p.Key() || (p.Key() == "") != (len(b) == 0) || (p.Stored() == nil) != (len(b) == 0) {
			t.Errorf("%v comes back as %v, %v", p, again, err)
		}
	}
	if Default().Key() != "" || Of(nil).Key() != "" {
		t.Error("the default has a key")
	}
}

func TestSurvives(t *testing.T) {
	for _, c := range []struct {
		survive, places string
		want            bool
	}{
		{Region, "south north", true}, {Region, "south/1 south/2", false}, {Zone, "south/1 south/2", true}, {Zone, "south south", false},
		{Zone, "south north", true}, {Region, "south south north", true},
	} {
		if got := (Policy{2, c.survive, nil}).Survives(at(c.places)); got != c.want {
			t.Errorf("%s of %q: %v", c.survive, c.places, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, p := range []Policy{{3, Region, nil}, {2, Zone, []string{"a", "b"}}} {
		b, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Decode(b); err == nil {
			if again, err := p.Normal(); err != nil || again.Key() != p.Key() {
				t.Errorf("%+v is not in its normal form: %v", p, err)
			}
		}
	})
}
