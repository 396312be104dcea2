// Package directory is the shard that every region has: domains, accounts and the volume table.
//
// Its state machine is deterministic, like a mailbox shard's, and keeps its tables as generic records of the
// index. Every storage node has a replica, so look-ups are local; what was not found is asked again after a
// read index, since a stale "no such user" would lose mail.
//
// Keys, each followed by what it names; numbers are big endian, so that tables are listed in order:
//
//	d/DOMAIN    Domain
//	a/ADDRESS   Account, the address in canonical form
//	i/ID        address of the account
//	s/SHARD     Shard
//	v/VOLUME    replica.Entry
//	c/SHARD     Checkpoints
//	z/NUMBER    Dictionary
//	h/NODE      Node
//	g/SHARD     placement.Group
//	q/KEY       a policy that domains have
//	r/SHARD     RecoveryNote
//	p           whether placement is paused
//	o/ACCOUNT   Relocation
//	l           the cluster's feature level
//	n           counters
package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"hongyan/cluster/policy"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// Limits of what is entered.
const (
	maxAddress  = 320 // RFC 3696 erratum 1690: 64 + 1 + 255
	maxDomain   = 255
	maxRegion   = 255
	maxPassword = 1024
)

// ErrInvalidAddress is wrapped by Canonical.
var ErrInvalidAddress = errors.New("invalid address")

// Domain is a mail domain that is ours.
type Domain struct {
	Name string `cbor:"1,keyasint"`
	Home string `cbor:"2,keyasint"` // home region of accounts that have none of their own
	// Policy says where the bytes of its mail may lie; nil is the default.
	Policy *policy.Policy `cbor:"3,keyasint,omitempty"`
	Quota  *Quota         `cbor:"4,keyasint,omitempty"`
}

// Account is a mailbox owner with the credentials.
type Account struct {
	ID       uint64 `cbor:"1,keyasint"`
	Address  string `cbor:"2,keyasint"`
	Shard    uint32 `cbor:"3,keyasint"`
	Home     string `cbor:"4,keyasint"`
	Password string `cbor:"5,keyasint"` // PHC string, Argon2id
	// Limits of its own; nil are those of its domain.
	Limits *index.Limits `cbor:"6,keyasint,omitempty"`
}

// Shard is a mailbox shard as the directory counts it.
type Shard struct {
	Number   uint32 `cbor:"1,keyasint"`
	Home     string `cbor:"2,keyasint"`
	Accounts uint64 `cbor:"3,keyasint"`           // with those that are on their way to it
	Founding bool   `cbor:"4,keyasint,omitempty"` // its group has no leader yet
}

// counters hand out numbers that are never used again.
type counters struct {
	Account uint64 `cbor:"1,keyasint"`
	Volume  uint64 `cbor:"2,keyasint"`
	Noise   uint64 `cbor:"3,keyasint,omitempty"` // counts AddCheckpoint

	Dictionary uint64 `cbor:"4,keyasint,omitempty"`
	Topology   uint64 `cbor:"5,keyasint,omitempty"` // counts changes of nodes and groups

	Fence   uint64 `cbor:"6,keyasint,omitempty"` // of relocations
	Moved   uint64 `cbor:"7,keyasint,omitempty"` // counts accounts that have moved
	Waiting uint64 `cbor:"8,keyasint,omitempty"` // how many relocations there are
}

// Prefixes of the tables.
const (
	domainTable  = "d/"
	accountTable = "a/"
	idTable      = "i/"
	shardTable   = "s/"
	volumeTable  = "v/"

	checkpointTable = "c/"
	dictionaryTable = "z/"

	nodeTable  = "h/"
	groupTable = "g/"
	movingKey  = "p"
	levelKey   = "l"

	relocationTable = "o/"
	policyTable     = "q/"

	recoveryTable = "r/"

	counterKey = "n"
)

func numberKey(table string, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(table), n)
}

// Canonical gives an address in the form that keys have: lower case, without angle brackets. Local parts
// are compared regardless of case, as all large mail systems do.
func Canonical(address string) (string, error) {
	a := strings.ToLower(strings.TrimSpace(address))
	local, domain, ok := cutLast(a)
	switch {
	case !ok || local == "" || domain == "":
		return "", fmt.Errorf("%w: %q has no local part or no domain", ErrInvalidAddress, address)
	case len(a) > maxAddress || len(domain) > maxDomain:
		return "", fmt.Errorf("%w: longer than %d bytes", ErrInvalidAddress, maxAddress)
	case strings.ContainsAny(a, " \t\r\n\x00<>"):
		return "", fmt.Errorf("%w: %q has spaces, controls or brackets", ErrInvalidAddress, address)
	}
	return a, nil
}

// cutLast splits an address at its last @.
func cutLast(a string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(a, '@')
	if at < 0 {
		return "", "", false
	}
	return a[:at], a[at+1:], true
}

// DomainOf is the part after the @ of a canonical address.
func DomainOf(address string) string {
	_, domain, _ := cutLast(address)
	return domain
}

// getter is what a Txn and a View share.
type getter interface {
	Get(key []byte) (value []byte, ok bool, err error)
}

// errNoRecord is wrapped when a key is absent.
var errNoRecord = errors.New("no such entry")

// loadIf is load of a record that may be absent: then it is a T's zero value.
func loadIf[T any](g getter, key []byte) (T, error) {
	v, err := load[T](g, key)
	if errors.Is(err, errNoRecord) {
		err = nil
	}
	return v, err
}

// load reads a record into a T.
func load[T any](g getter, key []byte) (T, error) {
	var v T
	b, ok, err := g.Get(key)
	if err != nil {
		return v, fmt.Errorf("directory entry %q: %w", key, err)
	}
	if !ok {
		return v, fmt.Errorf("directory entry %q: %w", key, errNoRecord)
	}
	if err := codec.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("directory entry %q: %w", key, err)
	}
	return v, nil
}

// scanner is what a Txn and a View share.
type scanner interface {
	Scan(prefix []byte, fn func(key, value []byte) error) error
}

// each calls fn for every record of a table, in order. fn must not write to v.
func each[T any](v scanner, table string, fn func(item *T) error) error {
	return v.Scan([]byte(table), func(key, value []byte) error {
		item := new(T)
		if err := codec.Unmarshal(value, item); err != nil {
			return fmt.Errorf("directory entry %q: %w", key, err)
		}
		return fn(item)
	})
}

// scan reads a whole table.
func scan[T any](v scanner, table string) (out []T, err error) {
	err = each(v, table, func(item *T) error {
		out = append(out, *item)
		return nil
	})
	return out, err
}
