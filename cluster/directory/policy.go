package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// What domains ask of where bytes lie, and that the tables keep to it: no entry of a volume names a node where its policy allows none.

// maxPolicies bounds how many different ones domains have together, besides the default: every node keeps volumes open for each.
const maxPolicies = 16

// SetPolicy changes what is given of a domain's policy. It is refused if the nodes that take mail now could not hold it.
type SetPolicy struct {
	Domain  string    `cbor:"1,keyasint"`
	Home    *string   `cbor:"2,keyasint,omitempty"` // of accounts that are made from now on
	Copies  uint8     `cbor:"3,keyasint,omitempty"`
	Survive string    `cbor:"4,keyasint,omitempty"`
	Regions *[]string `cbor:"5,keyasint,omitempty"` // none: any
}

// OpenVolumeUnder is OpenVolume under another policy than the default.
type OpenVolumeUnder struct {
	Primary string        `cbor:"1,keyasint"`
	Copies  []string      `cbor:"2,keyasint"`
	Class   uint8         `cbor:"3,keyasint,omitempty"`
	Policy  policy.Policy `cbor:"4,keyasint"`
}

// usedPolicy is one that domains have.
type usedPolicy struct {
	Policy  policy.Policy `cbor:"1,keyasint"`
	Domains uint64        `cbor:"2,keyasint"`
}

func setPolicy(t *index.Txn, c *SetPolicy) (*Result, error) {
	key := []byte(domainTable + strings.ToLower(c.Domain))
	d, err := load[Domain](t, key)
	if errors.Is(err, errNoRecord) {
		return nil, refuse("%s is no domain of this cluster", c.Domain)
	}
	if err != nil {
		return nil, err
	}
	former := policy.Of(d.Policy)
	next := former
	if c.Copies != 0 {
		next.Copies = c.Copies
	}
	if c.Survive != "" {
		next.Survive = c.Survive
	}
	if c.Regions != nil {
		next.Regions = *c.Regions
	}
	if next, err = next.Normal(); err != nil {
		return nil, refuse("policy of %s: %v", d.Name, err)
	}
	if c.Home != nil {
		d.Home = *c.Home
	}
	if err := possible(t, &d, next); err != nil {
		return nil, err
	}
	if err := countPolicies(t, former, next); err != nil {
		return nil, err
	}
	d.Policy = next.Stored()
	return &Result{}, save(t, key, &d)
}

// possible refuses what the nodes of today could not hold.
func possible(t *index.Txn, d *Domain, p policy.Policy) error {
	nodes, err := scan[Node](t, nodeTable)
	if err != nil {
		return err
	}
	var places []policy.Place
	known := make(map[string]bool)
	for _, n := range nodes {
		if n.Stores() && !n.Leaving() && n.Weight > 0 {
			places = append(places, policy.Place{Region: n.Region, Zone: n.Zone})
			known[n.Region] = true
		}
	}
	switch err := p.Feasible(places); {
	case err != nil:
		return refuse("policy of %s: %v", d.Name, err)
	case d.Home != "" && !p.Allows(d.Home):
		return refuse("policy of %s: its home region %s is not among those where bytes may lie (%s): give another home with it", d.Name, d.Home, strings.Join(p.Regions, ", "))
	case d.Home != "" && len(known) > 0 && !known[d.Home] && p.Key() != "":
		return refuse("policy of %s: no node that takes mail is in its home region %s", d.Name, d.Home)
	}
	return nil
}

// countPolicies keeps the table of those that are in use.
func countPolicies(t *index.Txn, former, next policy.Policy) error {
	if former.Key() == next.Key() {
		return nil
	}
	if key := next.Key(); key != "" {
		u, err := loadIf[usedPolicy](t, []byte(policyTable+key))
		if err != nil {
			return err
		}
		if u.Domains == 0 {
			used, err := scan[usedPolicy](t, policyTable)
			if err != nil {
				return err
			}
			if len(used) >= maxPolicies {
				return refuse("domains have %d different policies already, which is the most: take one of those, such as %s", len(used), used[0].Policy)
			}
		}
		if err := save(t, []byte(policyTable+key), &usedPolicy{Policy: next, Domains: u.Domains + 1}); err != nil {
			return err
		}
	}
	key := former.Key()
	if key == "" {
		return nil
	}
	u, err := loadIf[usedPolicy](t, []byte(policyTable+key))
	if err != nil {
		return err
	}
	if u.Domains <= 1 {
		return t.Delete([]byte(policyTable + key))
	}
	u.Domains--
	return save(t, []byte(policyTable+key), &u)
}

func openVolumeUnder(t *index.Txn, c *OpenVolumeUnder) (*Result, error) {
	p, err := c.Policy.Normal()
	if err != nil {
		return nil, refuse("%v", err)
	}
	if c.Primary == "" || len(c.Copies) != int(p.Copies) || c.Copies[0] != c.Primary {
		return nil, refuse("a volume under %s needs as many nodes, its primary %q first: got %q", p, c.Primary, c.Copies)
	}
	n, err := nextNumber(t, func(c *counters) *uint64 { return &c.Volume })
	if err != nil {
		return nil, err
	}
	e := newEntry(n, c.Primary, c.Copies, c.Class)
	e.Policy = p.Stored()
	if err := mayLie(t, &e, c.Copies...); err != nil {
		return nil, err
	}
	return &Result{Created: true, Volume: &e}, save(t, numberKey(volumeTable, n), &e)
}

// mayLie refuses nodes where bytes of the volume may not be.
func mayLie(t *index.Txn, e *replica.Entry, nodes ...string) error {
	p := policy.Of(e.Policy)
	if len(p.Regions) == 0 {
		return nil
	}
	for _, id := range nodes {
		n, err := load[Node](t, []byte(nodeTable+id))
		if errors.Is(err, errNoRecord) {
			return refuse("volume %d (%s): %q is no node of the cluster", e.ID, p, id)
		}
		if err != nil {
			return err
		}
		if !p.Allows(n.Region) {
			return refuse("volume %d (%s) may not lie on %s in %s", e.ID, p, id, n.Region)
		}
	}
	return nil
}

// SetPolicy changes a domain's policy; see the command.
func (s *Service) SetPolicy(ctx context.Context, c SetPolicy) error {
	if c.Home != nil {
		if err := s.mayBeHome(*c.Home); err != nil {
			return fmt.Errorf("policy of %s: %w", c.Domain, err)
		}
	}
	_, err := s.propose(ctx, &Command{SetPolicy: &c})
	return err
}

// mayBeHome refuses a region where no node keeps mail, as this node knows them. It is asked here and not by the command, which earlier programs take as it is.
func (s *Service) mayBeHome(region string) error {
	if region == "" {
		return nil
	}
	t := s.Known()
	if s.Own() {
		var err error
		if t, err = s.Topology(); err != nil {
			return err
		}
	}
	var regions []string
	for _, n := range t.Nodes {
		if n.Stores() && !slices.Contains(regions, n.Region) {
			regions = append(regions, n.Region)
		}
	}
	if !slices.Contains(regions, region) {
		return wire.Errorf(wire.Invalid, "no node that keeps mail is in the home region %.*q: expected one of %s", maxRegion, region, strings.Join(regions, ", "))
	}
	return nil
}

// Policies implements replica.Directory.
func (s *Service) Policies(context.Context) ([]policy.Policy, error) {
	used, err := list[usedPolicy](s, policyTable)
	if err != nil {
		return nil, err
	}
	out := make([]policy.Policy, len(used))
	for i, u := range used {
		out[i] = u.Policy
	}
	return out, nil
}

// Domains lists the domains that are ours with all that was acknowledged before the call.
func (s *Service) Domains(ctx context.Context) ([]Domain, error) {
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	return list[Domain](s, domainTable)
}

// MethodDomain asks a node with a replica for a domain.
const MethodDomain = "directory.domain"

// DomainRequest names it.
type DomainRequest struct {
	Name  string `cbor:"1,keyasint"`
	Fresh bool   `cbor:"2,keyasint,omitempty"` // with all that was acknowledged before
}

// DomainResponse has it if it is ours.
type DomainResponse struct {
	Domain *Domain `cbor:"1,keyasint,omitempty"`
}

// Policy gives that of a domain, the default of one that is not ours. A node with a replica reads that: it hears of a change when that is applied
// here, and after a start asks once for what it missed. Others ask such a node, and go by what it said for half a second.
func (s *Service) Policy(ctx context.Context, domain string) (policy.Policy, error) {
	if s.Own() {
		resp, err := s.serveDomain(ctx, "", &DomainRequest{Name: domain})
		if err != nil || resp.Domain == nil {
			return policy.Default(), err
		}
		return policy.Of(resp.Domain.Policy), nil
	}
	if kept, ok := s.domains.get(domain); ok {
		return policy.Of(kept.Policy), nil
	}
	resp, err := s.domain(ctx, domain, false)
	if err != nil {
		return policy.Policy{}, err
	}
	var d Domain
	if resp.Domain != nil {
		d = *resp.Domain
	}
	s.domains.put(domain, d)
	return policy.Of(d.Policy), nil
}

// domain asks this node's replica for a domain, or the nearest node that has one.
func (s *Service) domain(ctx context.Context, name string, fresh bool) (*DomainResponse, error) {
	req := &DomainRequest{Name: name, Fresh: fresh}
	if s.Own() {
		return s.serveDomain(ctx, "", req)
	}
	return askReplica[DomainResponse](ctx, s, MethodDomain, req)
}

func (s *Service) serveDomain(ctx context.Context, _ string, req *DomainRequest) (resp *DomainResponse, err error) {
	if req.Fresh || !s.upToDate.Load() {
		if err := s.CatchUp(ctx); err != nil {
			return nil, err
		}
		s.upToDate.Store(true)
	}
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	d, err := load[Domain](v, []byte(domainTable+req.Name))
	if errors.Is(err, errNoRecord) {
		return &DomainResponse{}, nil
	}
	return &DomainResponse{Domain: &d}, err
}

// serveDomains registers what others ask.
func (s *Service) serveDomains() { transport.HandleUnary(s.net, MethodDomain, s.serveDomain) }
