package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// What look-ups tell apart.
var (
	ErrNoAccount = errors.New("no such account")
	ErrNotLocal  = errors.New("domain is not local")
)

// errNoResult is a result without what the command is for: a newer node's, or one that was too long to be remembered.
var errNoResult = wire.Errorf(wire.Unavailable, "the directory's answer lacks the result")

// MethodLookup asks a node with a replica for an account.
const MethodLookup = "directory.lookup"

// lookupTimeout bounds the wait for a fresh answer.
const lookupTimeout = 3 * time.Second

// LookupRequest asks for an account. Fresh: an account that was acknowledged before must be found.
type LookupRequest struct {
	Address string `cbor:"1,keyasint"`
	Fresh   bool   `cbor:"2,keyasint,omitempty"`
	Base    bool   `cbor:"3,keyasint,omitempty"` // if there is none, the account of the address without its detail is meant
}

// LookupResponse has the account if it was found.
type LookupResponse struct {
	Account *Account `cbor:"1,keyasint,omitempty"`
	Local   bool     `cbor:"2,keyasint,omitempty"` // the domain is ours
	Limits  *Limited `cbor:"3,keyasint,omitempty"`
}

// Service answers questions about the directory and changes it.
type Service struct {
	router *shard.Router
	net    *transport.Net
	store  *index.Shard // nil on a node without a replica
	group  func() (*shard.Group, bool)
	speaks func() (who *shard.Group, ok bool) // the group, if it runs and is filled

	changes  *changes // of this node's replica
	domains  answers[Domain]
	limits   answers[Limited]
	upToDate atomic.Bool // this node's replica has had all that was there at the first question about a domain

	// Known is the last topology that this node knows without a replica; to be set before the network serves.
	Known func() *Topology
}

// NewService registers the look-up method. store is nil on a node without a replica.
func NewService(router *shard.Router, host *shard.Host, net *transport.Net, store *index.Shard) *Service {
	s := &Service{router: router, net: net, store: store, changes: newChanges(), Known: func() *Topology { return new(Topology) }}
	s.group = func() (*shard.Group, bool) { return host.Group(placement.DirectoryShard) }
	s.speaks = func() (*shard.Group, bool) {
		g, runs := s.group()
		return g, runs && g.Filled()
	}
	transport.HandleUnary(net, MethodTopology, s.serveTopology)
	if store != nil {
		transport.HandleUnary(net, MethodLookup, s.serveLookup)
		s.serveDomains()
		transport.HandleUnary(net, MethodDictionaries, s.serveDictionaries)
		transport.HandleUnary(net, MethodHoldings, s.serveHoldings)
	}
	return s
}

func (s *Service) propose(ctx context.Context, c *Command) (*Result, error) {
	return s.proposeBy(ctx, s.router, c)
}

// Proposer is a shard.Router, or one that has several commands share a log entry.
type Proposer interface {
	ProposeLevel(ctx context.Context, number uint32, level feature.Level, body []byte, class shard.Class) (result []byte, at uint64, err error)
}

func (s *Service) proposeBy(ctx context.Context, by Proposer, c *Command) (*Result, error) {
	body, err := codec.Marshal(c)
	if err != nil {
		return nil, err
	}
	level, err := c.needs(body)
	if err == nil {
		err = s.mayPropose(c, level)
	}
	if err != nil {
		return nil, err
	}
	b, _, err := by.ProposeLevel(ctx, placement.DirectoryShard, level, body, shard.ForPeople)
	if err != nil {
		return nil, fmt.Errorf("change the directory: %w", err)
	}
	r := new(Result)
	if err := codec.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("result of a directory command: %w", err)
	}
	if r.Refused != "" {
		return nil, wire.Errorf(wire.Invalid, "%s", r.Refused)
	}
	return r, nil
}

// AddShards enters the mailbox shards of a layout.
func (s *Service) AddShards(ctx context.Context, groups []placement.Group) error {
	c := &AddShards{}
	for _, g := range groups {
		if g.Shard != placement.DirectoryShard {
			c.Shards = append(c.Shards, Shard{Number: g.Shard, Home: g.Home})
		}
	}
	_, err := s.propose(ctx, &Command{AddShards: c})
	return err
}

// AddDomain makes a domain ours; one that is there stays as it is.
func (s *Service) AddDomain(ctx context.Context, name, home string) error {
	if !ValidDomain(name) {
		return wire.Errorf(wire.Invalid, "%q is not a domain name: expected labels of letters, digits, hyphens or underscores, with dots between them", name)
	}
	_, err := s.propose(ctx, &Command{AddDomain: &Domain{Name: name, Home: home}})
	return err
}

// AddAccount makes an account with a hashed password; see Command.
func (s *Service) AddAccount(ctx context.Context, a AddAccount) (account Account, created bool, err error) {
	if err := s.mayBeNew(ctx, a.Address); err != nil {
		return Account{}, false, err
	}
	r, err := s.propose(ctx, &Command{AddAccount: &a})
	if err != nil {
		return Account{}, false, err
	}
	if r.Account == nil {
		return Account{}, false, errNoResult
	}
	return *r.Account, r.Created, nil
}

// OpenVolume implements replica.Directory.
func (s *Service) OpenVolume(ctx context.Context, primary string, copies []string, class uint8, p policy.Policy) (replica.Entry, error) {
	if p.Key() != "" {
		return s.volume(ctx, &Command{OpenVolumeUnder: &OpenVolumeUnder{Primary: primary, Copies: copies, Class: class, Policy: p}})
	}
	return s.volume(ctx, &Command{OpenVolume: &OpenVolume{Primary: primary, Copies: copies, Class: class}})
}

// SealVolume implements replica.Directory.
func (s *Service) SealVolume(ctx context.Context, id volume.ID, length int64, last uint64) (replica.Entry, error) {
	return s.volume(ctx, &Command{SealVolume: &SealVolume{ID: id, Length: length, Last: last}})
}

func (s *Service) volume(ctx context.Context, c *Command) (replica.Entry, error) {
	r, err := s.propose(ctx, c)
	if err != nil {
		return replica.Entry{}, err
	}
	if r.Volume == nil {
		return replica.Entry{}, errNoResult
	}
	return *r.Volume, nil
}

// CompactVolume begins a compaction of a volume: the entry's Attempt is the generation that it is to make.
func (s *Service) CompactVolume(ctx context.Context, id volume.ID) (replica.Entry, error) {
	return s.volume(ctx, &Command{Compact: &Compact{ID: id}})
}

// VolumeCompacted enters the generation that every copy has prepared. It is refused once another compaction was begun.
func (s *Service) VolumeCompacted(ctx context.Context, id volume.ID, generation uint32, length int64) (replica.Entry, error) {
	return s.volume(ctx, &Command{Compacted: &Compacted{ID: id, Generation: generation, Length: length}})
}

// DropVolume implements replica.Directory.
func (s *Service) DropVolume(ctx context.Context, id volume.ID) error {
	_, err := s.propose(ctx, &Command{DropVolume: &DropVolume{ID: id}})
	return err
}

// Volumes implements replica.Directory.
func (s *Service) Volumes(context.Context) ([]replica.Entry, error) {
	return list[replica.Entry](s, volumeTable)
}

// Shards lists the mailbox shards with their numbers of accounts.
func (s *Service) Shards() ([]Shard, error) { return list[Shard](s, shardTable) }

// Addresses lists all accounts' addresses.
func (s *Service) Addresses() ([]string, error) {
	accounts, err := list[Account](s, accountTable)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(accounts))
	for i, a := range accounts {
		out[i] = a.Address
	}
	return out, nil
}

// list reads a whole table from this node's replica.
func list[T any](s *Service, table string) (out []T, err error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return scan[T](v, table)
}

// record reads one from this node's replica; one that is absent is a T's zero value.
func record[T any](s *Service, key []byte) (item T, err error) {
	v, err := s.view()
	if err != nil {
		return item, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return loadIf[T](v, key)
}

// Lookup finds an account by its address. ErrNoAccount and ErrNotLocal are given only after asking
// afresh; any other error means that nobody could be asked.
func (s *Service) Lookup(ctx context.Context, address string) (Account, error) {
	return s.lookup(ctx, &LookupRequest{}, address)
}

// Recipient is Lookup of who gets mail for an address: of user+detail (RFC 5233), if there is no such account even when asked afresh, the account user.
func (s *Service) Recipient(ctx context.Context, address string) (Account, error) {
	return s.lookup(ctx, &LookupRequest{Base: true}, address)
}

func (s *Service) lookup(ctx context.Context, req *LookupRequest, address string) (Account, error) {
	canonical, err := Canonical(address)
	if err != nil {
		return Account{}, err
	}
	req.Address = canonical
	resp, err := s.ask(ctx, req)
	if err != nil || resp.Account == nil || resp.Account.Address != canonical { // of user+detail an account of its own may be new
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		req.Fresh = true
		resp, err = s.ask(ctx, req)
	}
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("look up %s: %w", canonical, err)
	case resp.Account != nil:
		return *resp.Account, nil
	case resp.Local:
		return Account{}, ErrNoAccount
	}
	return Account{}, ErrNotLocal
}

// Refresh looks an account up with everything acknowledged so far.
func (s *Service) Refresh(ctx context.Context, address string) (Account, error) {
	resp, err := s.ask(ctx, &LookupRequest{Address: address, Fresh: true})
	if err != nil {
		return Account{}, err
	}
	if resp.Account == nil {
		return Account{}, ErrNoAccount
	}
	return *resp.Account, nil
}

// errNoReplica answers who wants what only a node with a replica knows.
var errNoReplica = wire.Errorf(wire.Unavailable, "this node has no replica of the directory now")

// view opens one of this node's replica, if that runs and is filled: another would say that there is nothing. The same replica runs after the view was
// opened, so it was not being erased.
func (s *Service) view() (*index.View, error) {
	if !s.Own() {
		return nil, errNoReplica
	}
	before, _ := s.speaks()
	v := s.store.View()
	if now, runs := s.speaks(); !runs || now != before {
		return nil, errors.Join(errNoReplica, v.Close())
	}
	return v, nil
}

// Own says whether this node has a replica that speaks for itself.
func (s *Service) Own() bool {
	if s.store == nil {
		return false
	}
	_, speaks := s.speaks()
	return speaks
}

// ask answers from this node's replica, or at the nearest node that has one.
func (s *Service) ask(ctx context.Context, req *LookupRequest) (*LookupResponse, error) {
	if s.Own() {
		return s.serveLookup(ctx, "", req)
	}
	return askReplica[LookupResponse](ctx, s, MethodLookup, req)
}

// askReplica calls a method at one node after the other that has a replica of the directory and is up, until one answers.
func askReplica[Resp any](ctx context.Context, s *Service, method string, req any) (*Resp, error) {
	group, _ := s.router.Group(placement.DirectoryShard)
	last := error(wire.Errorf(wire.Unavailable, "no node with a replica of the directory is up"))
	for _, node := range group.Replicas() {
		if !s.net.Up(node) {
			continue
		}
		resp := new(Resp)
		if last = s.net.Call(ctx, node, method, req, resp); last == nil {
			return resp, nil
		}
	}
	return nil, last
}

func (s *Service) serveLookup(ctx context.Context, _ string, req *LookupRequest) (resp *LookupResponse, err error) {
	if req.Fresh {
		if err := s.CatchUp(ctx); err != nil {
			return nil, err
		}
	}
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	d, err := load[Domain](v, []byte(domainTable+DomainOf(req.Address)))
	if errors.Is(err, errNoRecord) {
		return &LookupResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	resp = &LookupResponse{Local: true}
	a, err := load[Account](v, []byte(accountTable+req.Address))
	if base, ok := withoutDetail(req.Address); ok && req.Base && errors.Is(err, errNoRecord) {
		a, err = load[Account](v, []byte(accountTable+base))
	}
	switch {
	case err == nil:
		resp.Account = &a
		resp.Limits = &Limited{Limits: effective(a.Limits, d.Quota), Own: a.Limits != nil, Permanent: d.Quota != nil && d.Quota.Permanent}
	case !errors.Is(err, errNoRecord):
		return nil, err
	}
	return resp, nil
}

// withoutDetail is user@domain of a canonical user+detail@domain.
func withoutDetail(address string) (base string, ok bool) {
	local, domain, _ := cutLast(address)
	user, _, ok := strings.Cut(local, "+")
	return user + "@" + domain, ok && user != ""
}

// CatchUp waits until this replica holds all that was acknowledged before the call.
func (s *Service) CatchUp(ctx context.Context) error {
	g, ok := s.group()
	if !ok {
		return wire.Errorf(wire.Unavailable, "no replica of the directory runs on this node: ask one with the role storage")
	}
	at, err := s.router.ReadIndex(ctx, placement.DirectoryShard)
	if err != nil {
		return err
	}
	return g.WaitApplied(ctx, at)
}
