package directory

import (
	"context"
	"errors"
	"math/bits"
	"strings"

	"hongyan/cluster/feature"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// Limits of what accounts hold. An account has its own or follows its domain's default; shards are told with each command (mailbox.Terms).
//
// A domain's total is allotted: the limits of its accounts together may not exceed it. So it holds exactly and at any moment, though the accounts are in many shards
// and nobody asks the others: what each may hold at most is within the total. The price is that what one account leaves unused no other can have.
// While a domain has a total it keeps the sum of what accounts have of their own and the number of those that follow the default, so that a change costs no look
// at its accounts; only the command that gives it its first total reads them.

// maxQuota bounds limits, in bytes or messages: sums stay far from overflow, and clients read them as 63 bits (RFC 9208 section 5.1).
const maxQuota = 1 << 60

// Quota is what a domain says of the limits of its accounts.
type Quota struct {
	Default   index.Limits `cbor:"1,keyasint"`
	Total     index.Limits `cbor:"2,keyasint"`           // 0 is none
	Permanent bool         `cbor:"3,keyasint,omitempty"` // mail over quota is refused for good

	// While there is a total:
	Own       index.Limits `cbor:"4,keyasint"` // the sum of accounts' own limits
	Followers uint64       `cbor:"5,keyasint,omitempty"`
}

// totaled says whether the quota has a total of anything, so that accounts are counted.
func (q *Quota) totaled() bool { return q != nil && q.Total != index.Limits{} }

// Allotted is what the accounts of a domain with a total may hold together. It saturates.
func (q *Quota) Allotted() index.Limits {
	return index.Limits{
		Bytes:    allotted(q.Own.Bytes, q.Default.Bytes, q.Followers),
		Messages: allotted(q.Own.Messages, q.Default.Messages, q.Followers),
	}
}

func allotted(own, each, followers uint64) uint64 {
	high, sum := bits.Mul64(each, followers)
	sum, carry := bits.Add64(sum, own, 0)
	if high != 0 || carry != 0 {
		return 1<<64 - 1
	}
	return sum
}

// ChangeLimits changes what is given of limits: nil stays as it is, 0 is none.
type ChangeLimits struct {
	Bytes    *uint64 `cbor:"1,keyasint,omitempty"`
	Messages *uint64 `cbor:"2,keyasint,omitempty"`
}

func (c *ChangeLimits) of(l index.Limits) (index.Limits, error) {
	for _, v := range []struct{ from, to *uint64 }{{c.Bytes, &l.Bytes}, {c.Messages, &l.Messages}} {
		if v.from == nil {
			continue
		}
		if *v.from > maxQuota {
			return l, refuse("a quota of %d: at most %d can be given", *v.from, uint64(maxQuota))
		}
		*v.to = *v.from
	}
	return l, nil
}

// SetAccountQuota gives an account limits of its own, what is not given being as it was, or has it follow its domain's default.
type SetAccountQuota struct {
	Address string       `cbor:"1,keyasint"`
	Limits  ChangeLimits `cbor:"2,keyasint"`
	Follow  bool         `cbor:"3,keyasint,omitempty"`
}

// SetDomainQuota changes what is given of a domain's quota.
type SetDomainQuota struct {
	Domain    string       `cbor:"1,keyasint"`
	Default   ChangeLimits `cbor:"2,keyasint"`
	Total     ChangeLimits `cbor:"3,keyasint"`
	Permanent *bool        `cbor:"4,keyasint,omitempty"`
}

// executeQuota is execute for the commands of quotas.
func executeQuota(t *index.Txn, c *Command) (*Result, error) {
	if c.SetAccountQuota != nil {
		return setAccountQuota(t, c.SetAccountQuota)
	}
	return setDomainQuota(t, c.SetDomainQuota)
}

func setAccountQuota(t *index.Txn, c *SetAccountQuota) (*Result, error) {
	address, err := Canonical(c.Address)
	if err != nil {
		return nil, refuse("%v", err)
	}
	a, err := load[Account](t, []byte(accountTable+address))
	if errors.Is(err, errNoRecord) {
		return nil, refuse("there is no account %s", address)
	}
	if err != nil {
		return nil, err
	}
	d, err := load[Domain](t, []byte(domainTable+DomainOf(address)))
	if err != nil {
		return nil, err
	}
	before := a.Limits
	if a.Limits = nil; !c.Follow {
		next, err := c.Limits.of(effective(before, d.Quota))
		if err != nil {
			return nil, err
		}
		a.Limits = &next
	}
	if d.Quota.totaled() {
		d.Quota.enter(before, -1)
		d.Quota.enter(a.Limits, +1)
		if err := withinTotal(&d, address, a.Limits); err != nil {
			return nil, err
		}
		if err := save(t, []byte(domainTable+d.Name), &d); err != nil {
			return nil, err
		}
	}
	return &Result{}, save(t, []byte(accountTable+address), &a)
}

// effective limits of an account with limits of its own, or nil, in a domain.
func effective(own *index.Limits, q *Quota) index.Limits {
	switch {
	case own != nil:
		return *own
	case q != nil:
		return q.Default
	}
	return index.Limits{}
}

// enter counts an account with limits of its own, or nil, in or out.
func (q *Quota) enter(own *index.Limits, by int) {
	sign := uint64(by) // modulo 2^64
	if own == nil {
		q.Followers += sign
		return
	}
	q.Own.Bytes += sign * own.Bytes
	q.Own.Messages += sign * own.Messages
}

// withinTotal refuses what is not within a domain's total: its accounts' limits, of which that of one address, unless it is "", are its own, or nil.
func withinTotal(d *Domain, address string, own *index.Limits) error {
	q := d.Quota
	has, sum := effective(own, q), q.Allotted()
	for _, r := range []struct {
		what            string
		has, sum, total uint64
	}{{"bytes", has.Bytes, sum.Bytes, q.Total.Bytes}, {"messages", has.Messages, sum.Messages, q.Total.Messages}} {
		switch {
		case r.total == 0:
		case r.has == 0 && address != "":
			return refuse("%s has a total quota of %d %s, so that %s needs a limit of %s, its own or the domain's default", d.Name, r.total, r.what, address, r.what)
		case r.sum > r.total:
			return refuse("the accounts of %s would have %d %s together, and its total quota is %d: raise that, or lower limits of accounts", d.Name, r.sum, r.what, r.total)
		}
	}
	return nil
}

func setDomainQuota(t *index.Txn, c *SetDomainQuota) (*Result, error) {
	d, err := load[Domain](t, []byte(domainTable+strings.ToLower(c.Domain)))
	if errors.Is(err, errNoRecord) {
		return nil, refuse("%s is no domain of this cluster", c.Domain)
	}
	if err != nil {
		return nil, err
	}
	q := Quota{}
	if d.Quota != nil {
		q = *d.Quota
	}
	counted := q.totaled()
	if q.Default, err = c.Default.of(q.Default); err != nil {
		return nil, err
	}
	if q.Total, err = c.Total.of(q.Total); err != nil {
		return nil, err
	}
	if c.Permanent != nil {
		q.Permanent = *c.Permanent
	}
	d.Quota = &q
	if !q.totaled() {
		q.Own, q.Followers = index.Limits{}, 0
		return &Result{}, save(t, []byte(domainTable+d.Name), &d)
	}
	if !counted {
		q.Own, q.Followers = index.Limits{}, 0
	}
	if !counted || c.Total != (ChangeLimits{}) || c.Default != (ChangeLimits{}) {
		if err := q.survey(t, &d, !counted); err != nil {
			return nil, err
		}
	}
	if err := withinTotal(&d, "", nil); err != nil {
		return nil, err
	}
	return &Result{}, save(t, []byte(domainTable+d.Name), &d)
}

// survey looks whether every account of a domain has the limits that the total wants, and counts them if they are not counted yet.
func (q *Quota) survey(t *index.Txn, d *Domain, count bool) error {
	return each(t, accountTable, func(a *Account) error {
		if DomainOf(a.Address) != d.Name {
			return nil
		}
		has := effective(a.Limits, q)
		if q.Total.Bytes > 0 && has.Bytes == 0 || q.Total.Messages > 0 && has.Messages == 0 {
			return refuse("%s would have no limit: with a total quota of its domain it needs one, its own or the domain's default", a.Address)
		}
		if count {
			q.enter(a.Limits, +1)
		}
		return nil
	})
}

// SetAccountQuota changes an account's limits; see the command. This node goes by them when it returns, others a moment later.
func (s *Service) SetAccountQuota(ctx context.Context, c SetAccountQuota) error {
	return s.proposeHere(ctx, &Command{SetAccountQuota: &c})
}

// proposeHere is propose that also waits for this node's replica, if it has one.
func (s *Service) proposeHere(ctx context.Context, c *Command) error {
	_, err := s.propose(ctx, c)
	if err == nil && s.Own() {
		err = s.CatchUp(ctx)
	}
	return err
}

// SetDomainQuota changes a domain's quota; see the command, and SetAccountQuota.
func (s *Service) SetDomainQuota(ctx context.Context, c SetDomainQuota) error {
	return s.proposeHere(ctx, &Command{SetDomainQuota: &c})
}

// Limited are the limits of an account that are in force.
type Limited struct {
	Limits    index.Limits `cbor:"1,keyasint"`
	Own       bool         `cbor:"2,keyasint,omitempty"` // they are not its domain's
	Permanent bool         `cbor:"3,keyasint,omitempty"` // mail over them is refused for good
}

// Limits are those of an account, as this node's replica of the directory has them, or as another node had them half a second ago at most.
func (s *Service) Limits(ctx context.Context, address string) (Limited, error) {
	if s.Level() < feature.Sharing {
		return Limited{}, nil
	}
	if s.Own() {
		resp, err := s.serveLookup(ctx, "", &LookupRequest{Address: address})
		return resp.limited(), err
	}
	if kept, ok := s.limits.get(address); ok {
		return kept, nil
	}
	resp, err := askReplica[LookupResponse](ctx, s, MethodLookup, &LookupRequest{Address: address})
	if err != nil {
		return Limited{}, err
	}
	l := resp.limited()
	s.limits.put(address, l)
	return l, nil
}

// LimitsNow is Limits with all that was acknowledged before the call.
func (s *Service) LimitsNow(ctx context.Context, address string) (Limited, error) {
	resp, err := s.ask(ctx, &LookupRequest{Address: address, Fresh: true})
	return resp.limited(), err
}

func (r *LookupResponse) limited() Limited {
	if r == nil || r.Limits == nil {
		return Limited{}
	}
	return *r.Limits
}

// QuotaOf reads a domain's quota with all that was acknowledged before. wire.ErrInvalid if it is no domain of ours.
func (s *Service) QuotaOf(ctx context.Context, domain string) (Quota, error) {
	domain = strings.ToLower(domain)
	resp, err := s.domain(ctx, domain, true)
	switch {
	case err != nil:
		return Quota{}, err
	case resp.Domain == nil:
		return Quota{}, wire.Errorf(wire.Invalid, "%s is no domain of this cluster", domain)
	case resp.Domain.Quota == nil:
		return Quota{}, nil
	}
	return *resp.Domain.Quota, nil
}
