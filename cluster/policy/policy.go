// Package policy is what a domain asks of the places where the bytes of its mail lie: how many copies, what may fail without the last
// of them, and the regions that they may be in at all (data residency). Index entries are no bytes in this sense: they lie where a shard's replicas are.
//
// It is a value with rules, and keeps nothing. A volume is opened under one policy and keeps it for life; whoever chooses a node for bytes of the volume,
// or enters one in the directory, asks that policy (Allows). Regions and the number of copies are strict: mail that cannot have them is refused
// for the time being. That the copies are spread is wished: while the nodes for it are down, copies on different nodes nearer to each other will do.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hongyan/engine/codec"
)

// What copies survive the loss of.
const (
	Zone   = "zone"
	Region = "region"
)

// Limits of a policy.
const (
	LeastCopies = 2
	MostCopies  = 4
	MaxRegions  = 16
	MaxNames    = 1024 // bytes of all regions' names: the policy stands in the header of volumes
)

// Policy is one in its normal form: that of Normal.
type Policy struct {
	Copies  uint8    `cbor:"1,keyasint" json:"copies"`
	Survive string   `cbor:"2,keyasint" json:"survive"`           // Zone or Region
	Regions []string `cbor:"3,keyasint,omitempty" json:"regions"` // where bytes may lie, in order; none: anywhere
}

// Default is that of a domain which asks for nothing.
func Default() Policy { return Policy{Copies: LeastCopies, Survive: Region} }

// Of is the policy that an absent one stands for.
func Of(p *Policy) Policy {
	if p == nil {
		return Default()
	}
	return *p
}

// Stored is what records have: nil for the default.
func (p Policy) Stored() *Policy {
	if p.Key() == "" {
		return nil
	}
	return &p
}

// Normal fills in what is absent, sorts the regions, and says what no policy may be.
func (p Policy) Normal() (Policy, error) {
	p.Copies = cmp.Or(p.Copies, LeastCopies)
	p.Survive = cmp.Or(p.Survive, Region)
	p.Regions = slices.Compact(slices.Sorted(slices.Values(p.Regions)))
	if len(p.Regions) == 0 {
		p.Regions = nil
	}
	bytes := 0
	for _, r := range p.Regions {
		bytes += len(r)
	}
	switch {
	case p.Copies < LeastCopies || p.Copies > MostCopies:
		return p, fmt.Errorf("%d copies: expected %d to %d", p.Copies, LeastCopies, MostCopies)
	case p.Survive != Zone && p.Survive != Region:
		return p, fmt.Errorf("survive %q: expected %s or %s", p.Survive, Zone, Region)
	case len(p.Regions) > MaxRegions || bytes > MaxNames:
		return p, fmt.Errorf("%d regions with names of %d bytes: expected at most %d, and %d bytes", len(p.Regions), bytes, MaxRegions, MaxNames)
	case slices.Contains(p.Regions, ""):
		return p, errors.New("a region without a name")
	}
	return p, nil
}

// Key is the same for policies that ask the same, and empty for the default one: volumes are shared by key.
func (p Policy) Key() string {
	if p.Copies == LeastCopies && p.Survive == Region && len(p.Regions) == 0 {
		return ""
	}
	return fmt.Sprintf("%d\x00%s\x00%s", p.Copies, p.Survive, strings.Join(p.Regions, "\x00"))
}

// String is for people.
func (p Policy) String() string {
	return fmt.Sprintf("%d copies, survive %s, %s", p.Copies, p.Survive, p.where())
}

func (p Policy) where() string {
	if len(p.Regions) == 0 {
		return "in any region"
	}
	return "in " + strings.Join(p.Regions, ", ")
}

// Allows says whether bytes may lie in a region.
func (p Policy) Allows(region string) bool {
	return len(p.Regions) == 0 || slices.Contains(p.Regions, region)
}

// Place is where a node is.
type Place struct{ Region, Zone string }

// Fails names what fails together with a place: its region, or its zone if that is what copies are to survive.
func (p Policy) Fails(at Place) string {
	if p.Survive == Zone {
		return at.Region + "\x00" + at.Zone
	}
	return at.Region
}

// Survives says whether copies in these places outlive the loss of any one zone or region.
func (p Policy) Survives(places []Place) bool {
	for _, at := range places {
		if p.Fails(at) != p.Fails(places[0]) {
			return true
		}
	}
	return false
}

// Feasible says why nodes in these places, one each, cannot hold what the policy asks for, and what they could. The default is always feasible.
func (p Policy) Feasible(nodes []Place) error {
	if p.Key() == "" {
		return nil
	}
	all := make(map[string]int)
	for _, at := range nodes {
		all[at.Region]++
	}
	for _, r := range p.Regions {
		if all[r] == 0 {
			return fmt.Errorf("no node that takes mail is in region %q; there are nodes in %s", r, counts(all))
		}
	}
	fit := slices.DeleteFunc(slices.Clone(nodes), func(at Place) bool { return !p.Allows(at.Region) })
	here, others := make(map[string]int), maps.Clone(all)
	for _, at := range fit {
		here[at.Region]++
		delete(others, at.Region)
	}
	if len(fit) < int(p.Copies) {
		possible := "let more nodes join"
		if len(fit) >= LeastCopies {
			possible = fmt.Sprintf("at most %d copies", len(fit))
		}
		if len(others) > 0 {
			possible += ", or more regions: " + counts(others)
		}
		return fmt.Errorf("%d copies %s want as many nodes that take mail, and there are %d (%s); possible: %s", p.Copies, p.where(), len(fit), counts(here), possible)
	}
	if p.Survives(fit) {
		return nil
	}
	if p.Survive == Zone {
		return fmt.Errorf("all nodes %s that take mail are in one zone, %q: to survive its loss, give them zones, or allow more regions", p.where(), fit[0].Zone)
	}
	possible := "survive zone"
	if len(others) > 0 {
		possible += ", or more regions: " + counts(others)
	}
	return fmt.Errorf("all nodes %s that take mail are in one region, %s, whose loss no copy would survive; possible: %s", p.where(), fit[0].Region, possible)
}

func counts(nodes map[string]int) string {
	var out []string
	for _, r := range slices.Sorted(maps.Keys(nodes)) {
		out = append(out, fmt.Sprintf("%s %d", r, nodes[r]))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// Encode gives the policy for a volume's header: nothing for the default.
func (p Policy) Encode() ([]byte, error) {
	if p.Key() == "" {
		return nil, nil
	}
	return codec.Marshal(&p)
}

// Decode reads what Encode gave.
func Decode(b []byte) (Policy, error) {
	if len(b) == 0 {
		return Default(), nil
	}
	var p Policy
	if err := codec.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	p, err := p.Normal()
	if err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}
