package index

import (
	"encoding/binary"
	"errors"
	"math"
)

// An account may give others rights on its mailboxes (RFC 4314). What is given is kept with the mailbox, by its id: it follows the mailbox through a rename and a move
// of the account, and ends with it. Users are accounts by their number, which is never given twice, so that nobody inherits from an account that had his address.
//
// The other side has a note for each account that may share something with it (Sharer), so that it need not ask all. A note is no right.

// Rights are what a user may do with a mailbox (RFC 4314 section 2.1): a set of Right… bits.
type Rights uint16

// Rights, in the order in which they are written.
const (
	RightLookup     Rights = 1 << iota // l
	RightRead                          // r
	RightSeen                          // s
	RightWrite                         // w: flags but \Seen and \Deleted
	RightInsert                        // i
	RightPost                          // p
	RightCreate                        // k: mailboxes below
	RightDeleteBox                     // x
	RightDelete                        // t: the flag \Deleted
	RightExpunge                       // e
	RightAdminister                    // a

	RightsAll = RightAdminister<<1 - 1
)

// RightLetters has the letters of rights, in their order.
const RightLetters = "lrswipkxtea"

// Has says whether all of some rights are there.
func (r Rights) Has(some Rights) bool { return r&some == some }

// Limits of sharing.
const (
	MaxGrants        = 100  // of a mailbox
	MaxAccountGrants = 5000 // of all mailboxes of an account together
	MaxSharers       = 200  // accounts that share something with one
	MaxAddressBytes  = 320
)

// Grant is what a user may do with a mailbox of another account.
type Grant struct {
	Mailbox uint32 `cbor:"1,keyasint"`
	User    uint64 `cbor:"2,keyasint"`
	Rights  Rights `cbor:"3,keyasint"`
	Address string `cbor:"4,keyasint,omitempty"` // of the user when he got them
}

// Sharer is an account that may share something with the one that it is noted in.
type Sharer struct {
	Owner   uint64 `cbor:"1,keyasint"`
	Address string `cbor:"2,keyasint"`
	Seq     uint64 `cbor:"3,keyasint"` // grows with each note
}

func (k keys) grants(m mailboxKey) []byte { return k.mailbox(m, tagGrant) }

func (k keys) grant(m mailboxKey, user uint64) []byte {
	return binary.BigEndian.AppendUint64(k.grants(m), user)
}

func (k keys) sharer(account, owner uint64) []byte {
	return binary.BigEndian.AppendUint64(k.account(account, tagSharer), owner)
}

func (g *Grant) encode() []byte {
	b := binary.AppendUvarint([]byte{valueVersion}, uint64(g.Rights))
	return append(b, g.Address...)
}

func (g *Grant) decode(b []byte) error {
	p := parse(b)
	g.Rights = Rights(p.uvarint(uint64(RightsAll)))
	g.Address = string(p.take(uint64(len(p.rest))))
	return p.end()
}

func (s *Sharer) encode() []byte {
	b := binary.AppendUvarint([]byte{valueVersion}, s.Seq)
	return append(b, s.Address...)
}

func (s *Sharer) decode(b []byte) error {
	p := parse(b)
	s.Seq = p.uvarint(math.MaxUint64)
	s.Address = string(p.take(uint64(len(p.rest))))
	return p.end()
}

func (q source) rights(m mailboxKey, user uint64) (Rights, error) {
	var g Grant
	_, err := q.get(q.k.grant(m, user), g.decode)
	return g.Rights, err
}

// eachGrant calls fn for the grants of the keys with a prefix, by mailbox and user.
func (q source) eachGrant(prefix []byte, fn func(g Grant) error) error {
	return q.scanPrefix(prefix, func(key, value []byte) error {
		if len(key) != mailboxLen+8 {
			return q.corrupt(key, "length of a grant's key")
		}
		g := Grant{Mailbox: keyMailbox(key), User: binary.BigEndian.Uint64(key[mailboxLen:])}
		if err := g.decode(value); err != nil {
			return q.corrupt(key, err.Error())
		}
		return fn(g)
	})
}

// Rights are what a user may do with a mailbox of another account; none if there is no such mailbox.
func (v *View) Rights(account uint64, mailbox uint32, user uint64) (Rights, error) {
	r, err := v.q.rights(mailboxKey{account, mailbox}, user)
	return r, v.wrap("rights", err)
}

// Grants calls fn for what is given of a mailbox, by user.
func (v *View) Grants(account uint64, mailbox uint32, fn func(g Grant) error) error {
	return v.wrap("grants", v.q.eachGrant(v.q.k.grants(mailboxKey{account, mailbox}), fn))
}

// GrantsTo has what a user was given of all mailboxes of an account.
func (v *View) GrantsTo(account, user uint64) (map[uint32]Rights, error) {
	all := make(map[uint32]Rights)
	err := v.q.eachGrant(v.q.k.account(account, tagGrant), func(g Grant) error {
		if g.User == user {
			all[g.Mailbox] = g.Rights
		}
		return nil
	})
	return all, v.wrap("grants to a user", err)
}

// Sharers lists the accounts that may share something with one, by number.
func (v *View) Sharers(account uint64) (list []Sharer, err error) {
	prefix := v.q.k.account(account, tagSharer)
	err = v.q.scanPrefix(prefix, func(key, value []byte) error {
		if len(key) != len(prefix)+8 {
			return v.q.corrupt(key, "length of a sharer's key")
		}
		s := Sharer{Owner: binary.BigEndian.Uint64(key[len(prefix):])}
		if err := s.decode(value); err != nil {
			return v.q.corrupt(key, err.Error())
		}
		list = append(list, s)
		return nil
	})
	return list, v.wrap("sharers", err)
}

// Rights is View.Rights as this Txn sees it.
func (t *Txn) Rights(account uint64, mailbox uint32, user uint64) (Rights, error) {
	if t.err != nil {
		return 0, t.err
	}
	r, err := t.q.rights(mailboxKey{account, mailbox}, user)
	return r, t.settle("rights", err)
}

// Grant gives a user rights on a mailbox in place of those that he had, or takes them with none. ErrInvalidName: unknown rights, an address that cannot be, or
// the account itself, which has all; *LimitError: too many users.
func (t *Txn) Grant(account uint64, g Grant) error {
	return t.settle("grant", t.grant(account, g))
}

func (t *Txn) grant(account uint64, g Grant) error {
	if t.err != nil {
		return t.err
	}
	mb, err := t.mailbox(mailboxKey{account, g.Mailbox})
	switch {
	case err != nil:
		return err
	case !mb.exists:
		return ErrNoMailbox
	case g.User == 0, g.User == account, g.Rights&^RightsAll != 0, len(g.Address) > MaxAddressBytes:
		return ErrInvalidName
	}
	key := t.k.grant(mb.key, g.User)
	if g.Rights == 0 {
		return t.remove(key)
	}
	there, err := t.q.get(key, new(Grant).decode)
	if err == nil && !there {
		err = t.roomForGrants(mb.key, 1)
	}
	if err != nil {
		return err
	}
	return t.put(key, g.encode())
}

// roomForGrants says whether a number of grants may be added to those of a mailbox.
func (t *Txn) roomForGrants(m mailboxKey, n int) error {
	here, all := n, n
	prefix := t.k.account(m.account, tagGrant)
	it, err := t.b.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() { // keys alone: values are not read
		if all++; len(it.Key()) >= mailboxLen && keyMailbox(it.Key()) == m.id {
			here++
		}
	}
	if err := it.Close(); err != nil {
		return err
	}
	switch {
	case here > MaxGrants:
		return &LimitError{What: "users with rights on a mailbox", Limit: MaxGrants}
	case all > MaxAccountGrants:
		return &LimitError{What: "grants in an account", Limit: MaxAccountGrants}
	}
	return nil
}

// grantsOf are those of a mailbox.
func (t *Txn) grantsOf(m mailboxKey) (list []Grant, err error) {
	err = t.q.eachGrant(t.k.grants(m), func(g Grant) error {
		list = append(list, g)
		return nil
	})
	return list, err
}

// takeOver gives a new mailbox the grants of another one, as far as the account has room.
func (t *Txn) takeOver(to mailboxKey, list []Grant) error {
	if len(list) == 0 {
		return nil
	}
	var full *LimitError
	if err := t.roomForGrants(to, len(list)); errors.As(err, &full) {
		return nil
	} else if err != nil {
		return err
	}
	for i := range list {
		if err := t.put(t.k.grant(to, list[i].User), list[i].encode()); err != nil {
			return err
		}
	}
	return nil
}

// inherit gives a new mailbox its parent's grants (RFC 4314 section 3, of CREATE).
func (t *Txn) inherit(to mailboxKey, name string) error {
	above := parents(name)
	if len(above) == 0 {
		return nil
	}
	id, ok, err := t.q.mailboxID(to.account, above[len(above)-1])
	if err != nil || !ok {
		return err
	}
	list, err := t.grantsOf(mailboxKey{to.account, id})
	if err != nil {
		return err
	}
	return t.takeOver(to, list)
}

// Parent is the nearest mailbox above a name, as this Txn sees it; ErrNoMailbox if there is none.
func (t *Txn) Parent(account uint64, name string) (Mailbox, error) {
	_, name, err := t.accountAndName(account, name)
	if err != nil {
		return Mailbox{}, t.settle("parent", err)
	}
	for above := parents(name); len(above) > 0; above = above[:len(above)-1] {
		mb, err := t.byName(account, above[len(above)-1])
		if err != nil {
			return Mailbox{}, t.settle("parent", err)
		}
		if mb != nil {
			return mb.meta, nil
		}
	}
	return Mailbox{}, t.settle("parent", ErrNoMailbox)
}

// NoteSharer notes that another account is about to share something with one, again if it is noted. *LimitError: it is one too many.
func (t *Txn) NoteSharer(account uint64, s Sharer) error {
	return t.settle("note a sharer", t.noteSharer(account, s))
}

func (t *Txn) noteSharer(account uint64, s Sharer) error {
	if t.err != nil {
		return t.err
	}
	if s.Owner == 0 || s.Owner == account || s.Address == "" || len(s.Address) > MaxAddressBytes {
		return ErrInvalidName
	}
	key := t.k.sharer(account, s.Owner)
	there, err := t.q.get(key, new(Sharer).decode)
	if err != nil {
		return err
	}
	if !there {
		n := 0
		if err := t.q.scanPrefix(t.k.account(account, tagSharer), func(_, _ []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n >= MaxSharers {
			return &LimitError{What: "accounts that share something with one", Limit: MaxSharers}
		}
	}
	s.Seq = max(t.index, 1)
	return t.put(key, s.encode())
}

// ForgetSharer forgets an owner, if the last note of him is still that with a sequence.
func (t *Txn) ForgetSharer(account, owner, seq uint64) (done bool, err error) {
	if t.err != nil {
		return false, t.err
	}
	var is Sharer
	key := t.k.sharer(account, owner)
	there, err := t.q.get(key, is.decode)
	if err == nil && there && is.Seq == seq {
		done, err = true, t.remove(key)
	}
	return done, t.settle("forget a sharer", err)
}
