package directory

import (
	"context"
	"errors"

	"hongyan/engine/index"
)

// Limits of moves.
const (
	MaxPlanned = 500     // accounts in one command
	MaxMoves   = 100_000 // that wait or are under way
)

// Relocation is an account that is to be in another shard; package relocate sees to it.
type Relocation struct {
	Account uint64 `cbor:"1,keyasint" json:"account"`
	Address string `cbor:"2,keyasint" json:"address"`
	From    uint32 `cbor:"3,keyasint" json:"from"`
	To      uint32 `cbor:"4,keyasint" json:"to"`
	Home    string `cbor:"5,keyasint" json:"home"` // that it gets
	Since   int64  `cbor:"6,keyasint" json:"since"`
	Fence   uint64 `cbor:"7,keyasint,omitempty" json:"fence,omitempty"`    // of who works on it; 0: nobody yet
	Moved   bool   `cbor:"8,keyasint,omitempty" json:"moved,omitempty"`    // the account is there; what is left behind goes
	Cancel  bool   `cbor:"9,keyasint,omitempty" json:"canceled,omitempty"` // it is to stay where it was
}

// PlanRelocations has accounts move to a shard, or with Shard 0 to the least filled ones of a region. Those that are there already only get
// the home region, and those that move stay on their way.
type PlanRelocations struct {
	Addresses []string `cbor:"1,keyasint"`
	Shard     uint32   `cbor:"2,keyasint,omitempty"`
	Home      string   `cbor:"3,keyasint,omitempty"` // "": that of the shard
}

// ClaimRelocation gives who takes up a relocation its fence.
type ClaimRelocation struct {
	Account uint64 `cbor:"1,keyasint"`
}

// EndRelocation enters that the account has moved, or with Done that nothing is left to do for it.
type EndRelocation struct {
	Account uint64 `cbor:"1,keyasint"`
	Fence   uint64 `cbor:"2,keyasint"`
	Done    bool   `cbor:"3,keyasint,omitempty"`
}

// CancelRelocations has accounts stay that have not moved yet.
type CancelRelocations struct {
	Addresses []string `cbor:"1,keyasint"`
}

// ShardFounded ends Shard.Founding.
type ShardFounded struct {
	Shard uint32 `cbor:"1,keyasint"`
}

func relocationKey(account uint64) []byte { return numberKey(relocationTable, account) }

func planRelocations(t *index.Txn, now int64, c *PlanRelocations) (*Result, error) {
	if len(c.Addresses) == 0 || len(c.Addresses) > MaxPlanned || len(c.Home) > maxRegion {
		return nil, refuse("%d accounts in one command: expected 1 to %d", len(c.Addresses), MaxPlanned)
	}
	if (c.Shard == 0) == (c.Home == "") {
		return nil, refuse("expected a shard or a home region")
	}
	known, err := loadIf[counters](t, []byte(counterKey))
	if err != nil {
		return nil, err
	}
	if known.Waiting+uint64(len(c.Addresses)) > MaxMoves {
		return nil, refuse("%d accounts are about to move already, at most %d may", known.Waiting, MaxMoves)
	}
	if err := plannable(t, c); err != nil { // all of it, or nothing
		return nil, err
	}
	result := &Result{}
	for _, address := range c.Addresses {
		planned, err := planRelocation(t, now, address, c)
		if err != nil {
			return nil, err
		}
		if planned {
			result.Planned++
		}
	}
	return result, nil
}

func plannable(t *index.Txn, c *PlanRelocations) error {
	for _, address := range c.Addresses {
		address, err := Canonical(address)
		if err != nil {
			return refuse("%v", err)
		}
		_, err = load[Account](t, []byte(accountTable+address))
		if errors.Is(err, errNoRecord) {
			return refuse("there is no account %s", address)
		}
		if err != nil {
			return err
		}
	}
	if c.Shard != 0 {
		to, err := load[Shard](t, numberKey(shardTable, uint64(c.Shard)))
		if errors.Is(err, errNoRecord) || err == nil && to.Founding {
			return refuse("there is no shard %d, or it is being made", c.Shard)
		}
		return err
	}
	best, err := leastFilled(t, c.Home)
	if err == nil && (best == nil || best.Home != c.Home) {
		err = refuse("no shard is at home in %q: `hongyan admin shard add` makes one", c.Home)
	}
	return err
}

func planRelocation(t *index.Txn, now int64, address string, c *PlanRelocations) (bool, error) {
	address, err := Canonical(address)
	if err != nil {
		return false, err
	}
	a, err := load[Account](t, []byte(accountTable+address))
	if err != nil {
		return false, err
	}
	if _, err := load[Relocation](t, relocationKey(a.ID)); !errors.Is(err, errNoRecord) {
		return false, err
	}
	to, home, err := destination(t, &a, c)
	if err != nil {
		return false, err
	}
	if to.Number == a.Shard {
		if a.Home == home {
			return false, nil
		}
		a.Home = home
		return false, save(t, []byte(accountTable+address), &a)
	}
	to.Accounts++
	if err := save(t, numberKey(shardTable, uint64(to.Number)), &to); err != nil {
		return false, err
	}
	if err := count(t, func(c *counters) { c.Waiting++ }); err != nil {
		return false, err
	}
	return true, save(t, relocationKey(a.ID), &Relocation{Account: a.ID, Address: address, From: a.Shard, To: to.Number, Home: home, Since: now})
}

// destination is where a command wants an account. One that is in a shard of the region stays there.
func destination(t *index.Txn, a *Account, c *PlanRelocations) (to Shard, home string, err error) {
	if c.Shard == 0 {
		now, err := loadIf[Shard](t, numberKey(shardTable, uint64(a.Shard)))
		if err != nil || now.Home == c.Home {
			return now, c.Home, err
		}
		best, err := leastFilled(t, c.Home)
		if err != nil {
			return Shard{}, "", err
		}
		return *best, c.Home, nil
	}
	to, err = load[Shard](t, numberKey(shardTable, uint64(c.Shard)))
	return to, to.Home, err
}

func claimRelocation(t *index.Txn, c *ClaimRelocation) (*Result, error) {
	r, err := load[Relocation](t, relocationKey(c.Account))
	if errors.Is(err, errNoRecord) {
		return nil, refuse("account %d does not move", c.Account)
	}
	if err != nil {
		return nil, err
	}
	if r.Fence, err = nextNumber(t, func(c *counters) *uint64 { return &c.Fence }); err != nil {
		return nil, err
	}
	return &Result{Relocation: &r}, save(t, relocationKey(c.Account), &r)
}

func endRelocation(t *index.Txn, c *EndRelocation) (*Result, error) {
	r, err := load[Relocation](t, relocationKey(c.Account))
	if errors.Is(err, errNoRecord) {
		return &Result{}, nil // a repetition
	}
	if err != nil {
		return nil, err
	}
	if r.Fence != c.Fence {
		return nil, refuse("somebody else works on the move of account %d now", c.Account)
	}
	leaves := r.From
	switch {
	case !c.Done && r.Moved:
		return &Result{}, nil
	case !c.Done:
		r.Moved = true
		if err := moveAccount(t, &r); err != nil {
			return nil, err
		}
		if err := save(t, relocationKey(c.Account), &r); err != nil {
			return nil, err
		}
	default:
		if !r.Moved {
			leaves = r.To // where its place was kept
		}
		if err := t.Delete(relocationKey(c.Account)); err != nil {
			return nil, err
		}
		if err := count(t, func(c *counters) { c.Waiting-- }); err != nil || r.Moved {
			return &Result{}, err
		}
	}
	s, err := loadIf[Shard](t, numberKey(shardTable, uint64(leaves)))
	if err != nil || s.Number == 0 {
		return &Result{}, err
	}
	s.Accounts -= min(s.Accounts, 1)
	return &Result{}, save(t, numberKey(shardTable, uint64(leaves)), &s)
}

// moveAccount enters the account's new place. What it leaves behind is dropped only later, and whoever counts what is live asks for
// the number of such moves before and after (package collect).
func moveAccount(t *index.Txn, r *Relocation) error {
	key := []byte(accountTable + r.Address)
	a, err := load[Account](t, key)
	if errors.Is(err, errNoRecord) {
		return refuse("there is no account %s", r.Address)
	}
	if err != nil {
		return err
	}
	a.Shard, a.Home = r.To, r.Home
	if err := save(t, key, &a); err != nil {
		return err
	}
	return count(t, func(c *counters) { c.Moved++ })
}

func cancelRelocations(t *index.Txn, c *CancelRelocations) (*Result, error) {
	if len(c.Addresses) == 0 || len(c.Addresses) > MaxPlanned {
		return nil, refuse("%d accounts in one command: expected 1 to %d", len(c.Addresses), MaxPlanned)
	}
	result := &Result{}
	for _, address := range c.Addresses {
		address, err := Canonical(address)
		if err != nil {
			return nil, refuse("%v", err)
		}
		a, err := loadIf[Account](t, []byte(accountTable+address))
		if err != nil {
			return nil, err
		}
		r, err := load[Relocation](t, relocationKey(a.ID))
		if errors.Is(err, errNoRecord) || err == nil && (r.Moved || r.Cancel) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.Cancel = true
		result.Planned++
		if err := save(t, relocationKey(a.ID), &r); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func shardFounded(t *index.Txn, c *ShardFounded) (*Result, error) {
	key := numberKey(shardTable, uint64(c.Shard))
	s, err := loadIf[Shard](t, key)
	if err != nil || !s.Founding {
		return &Result{}, err
	}
	s.Founding = false
	if err := save(t, key, &s); err != nil {
		return nil, err
	}
	return &Result{}, touch(t)
}

// PlanRelocations has accounts move; see the command. It says of how many that is news.
func (s *Service) PlanRelocations(ctx context.Context, c PlanRelocations) (planned uint64, err error) {
	r, err := s.propose(ctx, &Command{PlanRelocations: &c})
	if err != nil {
		return 0, err
	}
	return r.Planned, nil
}

// CancelRelocations has accounts stay where they are, as far as they have not moved yet. It says of how many that is true.
func (s *Service) CancelRelocations(ctx context.Context, addresses []string) (canceled uint64, err error) {
	r, err := s.propose(ctx, &Command{CancelRelocations: &CancelRelocations{Addresses: addresses}})
	if err != nil {
		return 0, err
	}
	return r.Planned, nil
}

// ClaimRelocation takes a relocation up.
func (s *Service) ClaimRelocation(ctx context.Context, account uint64, by Proposer) (Relocation, error) {
	r, err := s.proposeBy(ctx, by, &Command{ClaimRelocation: &ClaimRelocation{Account: account}})
	if err != nil {
		return Relocation{}, err
	}
	if r.Relocation == nil {
		return Relocation{}, errNoResult
	}
	return *r.Relocation, nil
}

// EndRelocation enters how far one has come; see the command.
func (s *Service) EndRelocation(ctx context.Context, c EndRelocation, by Proposer) error {
	_, err := s.proposeBy(ctx, by, &Command{EndRelocation: &c})
	return err
}

// ShardFounded enters that a new shard has a leader.
func (s *Service) ShardFounded(ctx context.Context, number uint32) error {
	_, err := s.propose(ctx, &Command{ShardFounded: &ShardFounded{Shard: number}})
	return err
}

// Relocations lists the accounts that move, by number.
func (s *Service) Relocations() ([]Relocation, error) { return list[Relocation](s, relocationTable) }

// errEnough ends a scan.
var errEnough = errors.New("enough")

// Relocation is one of them, or nothing.
func (s *Service) Relocation(account uint64) (Relocation, error) {
	return record[Relocation](s, relocationKey(account))
}

// FirstRelocations lists some of them: at most limit of those that skip does not want. First come those that somebody has worked on, whose account may be frozen,
// then those that are called off; the others only if they may begin.
func (s *Service) FirstRelocations(limit int, skip func(account uint64) bool, begin bool) ([]Relocation, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	first, err := firstRelocations(v, limit, skip, begin)
	return first, errors.Join(err, v.Close())
}

func firstRelocations(v *index.View, limit int, skip func(account uint64) bool, begin bool) (first []Relocation, err error) {
	var canceled, rest []Relocation
	err = each(v, relocationTable, func(r *Relocation) error {
		switch {
		case skip(r.Account):
		case r.Fence > 0:
			first = append(first, *r)
		case r.Cancel:
			if len(canceled) < limit {
				canceled = append(canceled, *r)
			}
		case begin && len(rest) < limit:
			rest = append(rest, *r)
		}
		if len(first) == limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for _, list := range [][]Relocation{canceled, rest} {
		first = append(first, list[:min(len(list), limit-len(first))]...)
	}
	return first, nil
}

// Moved counts the accounts that have ever moved, with all that was acknowledged before the call.
func (s *Service) Moved(ctx context.Context) (uint64, error) {
	if err := s.CatchUp(ctx); err != nil {
		return 0, err
	}
	c, err := record[counters](s, []byte(counterKey))
	return c.Moved, err
}

// AddressesOf lists accounts of a domain, of a shard, or of all.
func (s *Service) AddressesOf(domain string, number uint32) (out []string, err error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	err = EachAccount(v, func(a *Account) error {
		if (domain == "" || DomainOf(a.Address) == domain) && (number == 0 || a.Shard == number) {
			out = append(out, a.Address)
		}
		return nil
	})
	return out, err
}

// Founding lists the shards whose groups have no leader yet.
func (s *Service) Founding() (numbers []uint32, err error) {
	shards, err := s.Shards()
	for _, sh := range shards {
		if sh.Founding {
			numbers = append(numbers, sh.Number)
		}
	}
	return numbers, err
}
