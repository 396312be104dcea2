package directory

import (
	"errors"
	"fmt"
	"strings"

	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Command is one change to the directory. Exactly one field is set; numbers are fixed.
type Command struct {
	AddShards     *AddShards     `cbor:"1,keyasint,omitempty"`
	AddDomain     *Domain        `cbor:"2,keyasint,omitempty"`
	AddAccount    *AddAccount    `cbor:"3,keyasint,omitempty"`
	OpenVolume    *OpenVolume    `cbor:"4,keyasint,omitempty"`
	SealVolume    *SealVolume    `cbor:"5,keyasint,omitempty"`
	DropVolume    *DropVolume    `cbor:"6,keyasint,omitempty"`
	Compact       *Compact       `cbor:"7,keyasint,omitempty"`
	Compacted     *Compacted     `cbor:"8,keyasint,omitempty"`
	AddCheckpoint *AddCheckpoint `cbor:"9,keyasint,omitempty"`

	FreezeVolume *FreezeVolume `cbor:"20,keyasint,omitempty"`
	ThawVolume   *ThawVolume   `cbor:"21,keyasint,omitempty"`
	MoveFragment *MoveFragment `cbor:"22,keyasint,omitempty"`

	AddDictionary *AddDictionary `cbor:"30,keyasint,omitempty"`

	AddCopy    *AddCopy    `cbor:"40,keyasint,omitempty"`
	RemoveCopy *RemoveCopy `cbor:"41,keyasint,omitempty"`

	FoundTopology *FoundTopology `cbor:"50,keyasint,omitempty"`
	AddNode       *AddNode       `cbor:"51,keyasint,omitempty"`
	ChangeNode    *ChangeNode    `cbor:"52,keyasint,omitempty"`
	SetGroup      *SetGroup      `cbor:"53,keyasint,omitempty"`
	SetPlacement  *SetPlacement  `cbor:"54,keyasint,omitempty"`

	PlanRelocations   *PlanRelocations   `cbor:"60,keyasint,omitempty"`
	ClaimRelocation   *ClaimRelocation   `cbor:"61,keyasint,omitempty"`
	EndRelocation     *EndRelocation     `cbor:"62,keyasint,omitempty"`
	CancelRelocations *CancelRelocations `cbor:"63,keyasint,omitempty"`
	ShardFounded      *ShardFounded      `cbor:"64,keyasint,omitempty"`
	SetPolicy         *SetPolicy         `cbor:"76,keyasint,omitempty"`
	OpenVolumeUnder   *OpenVolumeUnder   `cbor:"77,keyasint,omitempty"`
	SetLevel          *SetLevel          `cbor:"70,keyasint,omitempty"`
	Recover           *Recover           `cbor:"73,keyasint,omitempty"`
	EnterFound        *EnterFound        `cbor:"74,keyasint,omitempty"`

	NoteRecovery *NoteRecovery `cbor:"75,keyasint,omitempty"`

	SetAccountQuota *SetAccountQuota `cbor:"80,keyasint,omitempty"`
	SetDomainQuota  *SetDomainQuota  `cbor:"81,keyasint,omitempty"`
}

// AddShards enters shards that the table lacks.
type AddShards struct {
	Shards []Shard `cbor:"1,keyasint"`
}

// AddAccount makes an account in a domain of ours; of one that exists only the password changes, and only with Reset.
type AddAccount struct {
	Address  string `cbor:"1,keyasint"`
	Home     string `cbor:"2,keyasint,omitempty"`
	Password string `cbor:"3,keyasint"`
	Reset    bool   `cbor:"4,keyasint,omitempty"`
}

// OpenVolume gives a new volume its number.
type OpenVolume struct {
	Primary string   `cbor:"1,keyasint"`
	Copies  []string `cbor:"2,keyasint"`
	Class   uint8    `cbor:"3,keyasint,omitempty"`
}

// SealVolume ends a volume at a length. The first one wins.
type SealVolume struct {
	ID     volume.ID `cbor:"1,keyasint"`
	Length int64     `cbor:"2,keyasint"`
	Last   uint64    `cbor:"3,keyasint,omitempty"` // the last record within Length; 0 if that is not known
}

// Compact gives a sealed volume's next compaction its generation. One begun before can no longer be entered.
type Compact struct {
	ID volume.ID `cbor:"1,keyasint"`
}

// Compacted makes a generation that every copy has prepared the volume's file.
type Compacted struct {
	ID         volume.ID `cbor:"1,keyasint"`
	Generation uint32    `cbor:"2,keyasint"`
	Length     int64     `cbor:"3,keyasint"` // 0 if nothing in the volume was live: then the copies go
}

// DropVolume forgets a sealed volume that holds no record.
type DropVolume struct {
	ID volume.ID `cbor:"1,keyasint"`
}

// Result is what a command gave.
type Result struct {
	Refused string         `cbor:"1,keyasint,omitempty"` // why not
	Created bool           `cbor:"2,keyasint,omitempty"`
	Account *Account       `cbor:"3,keyasint,omitempty"`
	Volume  *replica.Entry `cbor:"4,keyasint,omitempty"`

	Relocation *Relocation `cbor:"5,keyasint,omitempty"`
	Planned    uint64      `cbor:"6,keyasint,omitempty"` // accounts
}

// refused is a command that the tables do not allow.
type refused struct{ reason string }

func (r *refused) Error() string { return r.reason }

func refuse(format string, args ...any) error {
	return &refused{fmt.Sprintf(format, args...)}
}

// Machine applies commands to the directory's tables.
type Machine struct{ changes *changes } // may be nil

// Committed implements shard.Machine.
func (m Machine) Committed() {
	if m.changes != nil {
		m.changes.happen()
	}
}

// Reloaded implements shard.Machine.
func (m Machine) Reloaded() { m.Committed() }

// Apply implements shard.Machine.
func (Machine) Apply(t *index.Txn, now int64, body []byte) ([]byte, error) {
	var c Command
	if err := codec.Unmarshal(body, &c); err != nil {
		return codec.Marshal(&Result{Refused: err.Error()})
	}
	result, err := execute(t, now, &c)
	var no *refused
	if errors.As(err, &no) {
		return codec.Marshal(&Result{Refused: no.reason})
	}
	if err != nil {
		return nil, fmt.Errorf("apply a directory command: %w", err)
	}
	return codec.Marshal(result)
}

func execute(t *index.Txn, now int64, c *Command) (*Result, error) {
	switch {
	case c.AddShards != nil:
		return addShards(t, c.AddShards)
	case c.AddDomain != nil:
		return addDomain(t, c.AddDomain)
	case c.AddAccount != nil:
		return addAccount(t, c.AddAccount)
	case c.OpenVolume != nil:
		return openVolume(t, c.OpenVolume)
	case c.SealVolume != nil:
		return sealVolume(t, now, c.SealVolume)
	case c.DropVolume != nil:
		return dropVolume(t, c.DropVolume)
	case c.Compact != nil:
		return compact(t, c.Compact)
	case c.Compacted != nil:
		return compacted(t, c.Compacted)
	case c.FreezeVolume != nil:
		return freezeVolume(t, c.FreezeVolume)
	case c.ThawVolume != nil:
		return thawVolume(t, now, c.ThawVolume)
	case c.MoveFragment != nil:
		return moveFragment(t, c.MoveFragment)
	case c.AddDictionary != nil:
		return addDictionary(t, c.AddDictionary)
	case c.AddCheckpoint != nil:
		return addCheckpoint(t, c.AddCheckpoint)
	case c.AddCopy != nil:
		return addCopy(t, c.AddCopy)
	case c.RemoveCopy != nil:
		return changeCopies(t, c.RemoveCopy.ID, func(e replica.Entry) (replica.Entry, error) {
			return e.WithoutCopy(c.RemoveCopy.Node, c.RemoveCopy.Epoch)
		})
	case c.FoundTopology != nil:
		return foundTopology(t, now, c.FoundTopology)
	case c.AddNode != nil:
		return addNode(t, now, c.AddNode)
	case c.ChangeNode != nil:
		return changeNode(t, now, c.ChangeNode)
	case c.SetGroup != nil:
		return setGroup(t, c.SetGroup)
	case c.SetPlacement != nil:
		return setPlacement(t, c.SetPlacement)
	case c.SetPolicy != nil:
		return setPolicy(t, c.SetPolicy)
	case c.OpenVolumeUnder != nil:
		return openVolumeUnder(t, c.OpenVolumeUnder)
	case c.SetAccountQuota != nil, c.SetDomainQuota != nil:
		return executeQuota(t, c)
	}
	return relocate(t, now, c)
}

// relocate executes the commands about accounts that move and shards that are added.
func relocate(t *index.Txn, now int64, c *Command) (*Result, error) {
	switch {
	case c.PlanRelocations != nil:
		return planRelocations(t, now, c.PlanRelocations)
	case c.ClaimRelocation != nil:
		return claimRelocation(t, c.ClaimRelocation)
	case c.EndRelocation != nil:
		return endRelocation(t, c.EndRelocation)
	case c.CancelRelocations != nil:
		return cancelRelocations(t, c.CancelRelocations)
	case c.ShardFounded != nil:
		return shardFounded(t, c.ShardFounded)
	case c.SetLevel != nil:
		return setLevel(t, c.SetLevel)
	}
	return executeRecovery(t, now, c)
}

// executeRecovery is execute for the commands of package recovery.
func executeRecovery(t *index.Txn, now int64, c *Command) (*Result, error) {
	switch {
	case c.Recover != nil:
		return recoverFrom(t, now, c.Recover)
	case c.EnterFound != nil:
		return enterFound(t, c.EnterFound)
	case c.NoteRecovery != nil:
		return noteRecovery(t, now, c.NoteRecovery)
	}
	return nil, refuse("the command names no operation that this version knows")
}

func save(t *index.Txn, key []byte, v any) error {
	b, err := codec.Marshal(v)
	if err != nil {
		return err
	}
	return t.Put(key, b)
}

func addShards(t *index.Txn, c *AddShards) (*Result, error) {
	for _, s := range c.Shards {
		key := numberKey(shardTable, uint64(s.Number))
		if _, err := load[Shard](t, key); !errors.Is(err, errNoRecord) {
			if err != nil {
				return nil, err
			}
			continue
		}
		if err := save(t, key, &s); err != nil {
			return nil, err
		}
	}
	return &Result{}, nil
}

func addDomain(t *index.Txn, d *Domain) (*Result, error) {
	name := strings.ToLower(d.Name)
	if name == "" || len(name) > maxDomain || strings.ContainsAny(name, "@ \t\r\n/<>") {
		return nil, refuse("%q is not a domain name", d.Name)
	}
	if len(d.Home) > maxRegion {
		return nil, refuse("the home region's name has more than %d bytes", maxRegion)
	}
	key := []byte(domainTable + name)
	_, err := load[Domain](t, key)
	if err == nil {
		return &Result{}, nil
	}
	if !errors.Is(err, errNoRecord) {
		return nil, err
	}
	return &Result{Created: true}, save(t, key, &Domain{Name: name, Home: d.Home})
}

func addAccount(t *index.Txn, c *AddAccount) (*Result, error) {
	address, err := Canonical(c.Address)
	if err != nil {
		return nil, refuse("%v", err)
	}
	if len(c.Home) > maxRegion || len(c.Password) > maxPassword {
		return nil, refuse("the home region's name or the password's hash have more than %d and %d bytes", maxRegion, maxPassword)
	}
	domain, err := load[Domain](t, []byte(domainTable+DomainOf(address)))
	if errors.Is(err, errNoRecord) {
		return nil, refuse("add the domain %s first", DomainOf(address))
	}
	if err != nil {
		return nil, err
	}
	key := []byte(accountTable + address)
	a, err := load[Account](t, key)
	switch {
	case err == nil && !c.Reset:
		return &Result{Account: &a}, nil
	case err == nil:
		a.Password = c.Password
		return &Result{Account: &a}, save(t, key, &a)
	case !errors.Is(err, errNoRecord):
		return nil, err
	}
	a = Account{Address: address, Home: c.Home, Password: c.Password}
	if a.Home == "" {
		a.Home = domain.Home
	}
	totaled := domain.Quota.totaled()
	if totaled { // refused before anything is written
		domain.Quota.enter(nil, +1)
		if err := withinTotal(&domain, address, nil); err != nil {
			return nil, err
		}
	}
	if err := place(t, &a); err != nil {
		return nil, err
	}
	if totaled {
		if err := save(t, []byte(domainTable+domain.Name), &domain); err != nil {
			return nil, err
		}
	}
	return &Result{Created: true, Account: &a}, save(t, key, &a)
}

// leastFilled is the shard with the fewest accounts of a region, or of all; nil if there is none.
func leastFilled(t *index.Txn, home string) (best *Shard, err error) {
	better := func(s *Shard) bool {
		if is, bestIs := s.Home == home, best != nil && best.Home == home; is != bestIs {
			return is
		}
		return best == nil || s.Accounts < best.Accounts
	}
	for n := uint64(1); ; n++ { // shards are numbered without gaps
		s, err := load[Shard](t, numberKey(shardTable, n))
		if errors.Is(err, errNoRecord) {
			return best, nil
		}
		if err != nil {
			return nil, err
		}
		if !s.Founding && better(&s) {
			best = &s
		}
	}
}

// place gives a new account its number and the least filled shard of its home region, or of all.
func place(t *index.Txn, a *Account) error {
	best, err := leastFilled(t, a.Home)
	if err != nil {
		return err
	}
	if best == nil {
		return refuse("no mailbox shard is there yet")
	}
	best.Accounts++
	if err := save(t, numberKey(shardTable, uint64(best.Number)), best); err != nil {
		return err
	}
	n, err := nextNumber(t, func(c *counters) *uint64 { return &c.Account })
	if err != nil {
		return err
	}
	a.ID, a.Shard = n, best.Number
	return t.Put(numberKey(idTable, n), []byte(a.Address))
}

func nextNumber(t *index.Txn, which func(*counters) *uint64) (uint64, error) {
	var next uint64
	err := count(t, func(c *counters) {
		n := which(c)
		*n++
		next = *n
	})
	return next, err
}

// count changes the counters.
func count(t *index.Txn, change func(c *counters)) error {
	c, err := loadIf[counters](t, []byte(counterKey))
	if err != nil {
		return err
	}
	change(&c)
	return save(t, []byte(counterKey), &c)
}
