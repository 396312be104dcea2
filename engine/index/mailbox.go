package index

import (
	"errors"
	"math"
)

// EnsureAccount makes the account with its default mailboxes, subscribed, if it does not exist.
func (t *Txn) EnsureAccount(account uint64, now int64) error {
	return t.settle("ensure account", t.ensureAccount(account, now))
}

func (t *Txn) ensureAccount(account uint64, now int64) error {
	if t.err != nil {
		return t.err
	}
	a, err := t.account(account)
	if err != nil || a.exists {
		return err
	}
	a.exists, a.dirty, a.nextMailbox = true, true, 1
	for _, mb := range defaultMailboxes() {
		if _, err := t.addMailbox(account, a, mb, now); err != nil {
			return err
		}
		if err := t.subscribe(account, mb.Name, true); err != nil {
			return err
		}
	}
	return nil
}

// CreateMailbox makes a mailbox and those of its parents that do not exist. A name that only has children becomes a mailbox.
func (t *Txn) CreateMailbox(account uint64, name, specialUse string, now int64) (Mailbox, error) {
	mb, err := t.createMailbox(account, name, specialUse, now)
	return mb, t.settle("create mailbox", err)
}

func (t *Txn) createMailbox(account uint64, name, specialUse string, now int64) (Mailbox, error) {
	a, name, err := t.accountAndName(account, name)
	if err != nil {
		return Mailbox{}, err
	}
	if err := checkSpecialUse(specialUse); err != nil {
		return Mailbox{}, err
	}
	old, err := t.byName(account, name)
	if err != nil {
		return Mailbox{}, err
	}
	if old != nil && !old.meta.NoSelect {
		return Mailbox{}, ErrExists
	}
	missing, err := t.missingParents(account, name)
	if err != nil {
		return Mailbox{}, err
	}
	if err := a.room(len(missing)+1, now); err != nil {
		return Mailbox{}, err
	}
	if err := t.addParents(account, a, missing, now); err != nil {
		return Mailbox{}, err
	}
	if old != nil {
		if err := t.dropMailbox(a, old); err != nil {
			return Mailbox{}, err
		}
	}
	mb, err := t.addMailbox(account, a, Mailbox{Name: name, SpecialUse: specialUse}, now)
	if err != nil {
		return Mailbox{}, err
	}
	made := mb.meta
	made.Subscribed, err = t.q.has(t.k.name(account, tagSubscribe, name))
	return made, err
}

// Mailbox is one mailbox by id, as this Txn sees it, without its keywords and subscription.
func (t *Txn) Mailbox(account uint64, id uint32) (Mailbox, error) {
	if t.err != nil {
		return Mailbox{}, t.err
	}
	mb, err := t.mailbox(mailboxKey{account, id})
	if err == nil && !mb.exists {
		err = ErrNoMailbox
	}
	if err != nil {
		return Mailbox{}, t.settle("mailbox", err)
	}
	return mb.meta, nil
}

// MailboxByName is one mailbox by its name, as this Txn sees it, without its keywords and subscription.
func (t *Txn) MailboxByName(account uint64, name string) (Mailbox, error) {
	_, name, err := t.accountAndName(account, name)
	if err != nil {
		return Mailbox{}, t.settle("mailbox by name", err)
	}
	mb, err := t.byName(account, name)
	if err == nil && mb == nil {
		err = ErrNoMailbox
	}
	if err != nil {
		return Mailbox{}, t.settle("mailbox by name", err)
	}
	return mb.meta, nil
}

// MailboxLike is the mailbox that the detail of an address means (RFC 5233): the one of that name, else the first whose name differs in the
// case of ASCII letters only, for addresses lose theirs on the way. ErrNoMailbox if there is none that holds messages. Strangers choose details, so only the
// first likeNames names of an account are compared.
func (t *Txn) MailboxLike(account uint64, detail string) (Mailbox, error) {
	box, err := t.MailboxByName(account, detail)
	switch {
	case err == nil && !box.NoSelect:
		return box, nil
	case err != nil && !errors.Is(err, ErrNoMailbox) && !errors.Is(err, ErrInvalidName):
		return Mailbox{}, err
	}
	like, err := t.like(account, detail)
	return like, t.settle("mailbox by an address's detail", err)
}

const likeNames = 1000

func (t *Txn) like(account uint64, detail string) (Mailbox, error) {
	names, err := t.names(account, "", likeNames)
	if err != nil {
		return Mailbox{}, err
	}
	detail = foldASCII(detail)
	for _, name := range names {
		if len(name) != len(detail) || foldASCII(name) != detail {
			continue
		}
		mb, err := t.byName(account, name)
		if err != nil {
			return Mailbox{}, err
		}
		if !mb.meta.NoSelect {
			return mb.meta, nil
		}
	}
	return Mailbox{}, ErrNoMailbox
}

// accountAndName checks what every command on names needs.
func (t *Txn) accountAndName(account uint64, name string) (*accountState, string, error) {
	if t.err != nil {
		return nil, "", t.err
	}
	a, err := t.account(account)
	if err != nil {
		return nil, "", err
	}
	if !a.exists {
		return nil, "", ErrNoAccount
	}
	name, err = canonicalName(name)
	return a, name, err
}

// byName gives the state of the mailbox with a canonical name, nil if there is none.
func (t *Txn) byName(account uint64, name string) (*mailboxState, error) {
	id, ok, err := t.q.mailboxID(account, name)
	if err != nil || !ok {
		return nil, err
	}
	mb, err := t.mailbox(mailboxKey{account, id})
	if err != nil {
		return nil, err
	}
	if !mb.exists || mb.meta.Name != name {
		return nil, t.q.corrupt(t.k.name(account, tagName, name), "name of another mailbox or of none")
	}
	return mb, nil
}

func (t *Txn) missingParents(account uint64, name string) ([]string, error) {
	var missing []string
	for _, parent := range parents(name) {
		_, ok, err := t.q.mailboxID(account, parent)
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, parent)
		}
	}
	return missing, nil
}

// room says whether n more mailboxes may be made at time now.
func (a *accountState) room(n int, now int64) error {
	if uint64(a.mailboxes)+uint64(n) > MaxMailboxes {
		return &LimitError{What: "mailboxes in an account", Limit: MaxMailboxes}
	}
	if a.validity(now)+uint64(n)-1 > math.MaxUint32 || uint64(a.nextMailbox)+uint64(n) > math.MaxUint32 {
		return &LimitError{What: "mailboxes ever made in an account", Limit: math.MaxUint32}
	}
	return nil
}

// validity is the next UIDVALIDITY: the time in seconds, unless that was given or is beyond 32 bits.
func (a *accountState) validity(now int64) uint64 {
	if now < 0 || now > math.MaxUint32 {
		now = 0
	}
	return max(uint64(a.uidValidity)+1, uint64(now))
}

func (t *Txn) addParents(account uint64, a *accountState, names []string, now int64) error {
	for _, name := range names {
		if _, err := t.addMailbox(account, a, Mailbox{Name: name}, now); err != nil {
			return err
		}
	}
	return nil
}

// addMailbox gives mb an id and a UIDVALIDITY above all earlier ones of the account and enters it, with its parent's grants. There must be room.
func (t *Txn) addMailbox(account uint64, a *accountState, mb Mailbox, now int64) (*mailboxState, error) {
	a.uidValidity = uint32(a.validity(now))
	mb.ID, mb.UIDValidity, mb.UIDNext = a.nextMailbox, a.uidValidity, 1
	a.nextMailbox++
	a.mailboxes++
	a.dirty = true
	state := t.track(&mailboxState{key: mailboxKey{account, mb.ID}, meta: mb, exists: true, table: newKeywordTable(nil)})
	state.setOpen(new(cachedBlock))
	t.nextModSeq(state)
	if err := t.put(t.k.name(account, tagName, mb.Name), encodeID(mb.ID)); err != nil || mb.NoSelect {
		return state, err
	}
	return state, t.inherit(state.key, mb.Name)
}

// dropMailbox removes a mailbox, its messages and its name.
func (t *Txn) dropMailbox(a *accountState, mb *mailboxState) error {
	a.mailboxes--
	a.untally(mb)
	a.dirty = true
	if err := t.remove(t.k.name(mb.key.account, tagName, mb.meta.Name)); err != nil {
		return err
	}
	return t.bury(mb)
}

// DeleteMailbox removes a mailbox and its messages. Children stay; then the name stays too, for them alone (NoSelect), and
// cannot be deleted while it has any: RFC 3501 section 6.3.4, RFC 9051 section 6.3.5. INBOX cannot be deleted.
func (t *Txn) DeleteMailbox(account uint64, name string) error {
	return t.settle("delete mailbox", t.deleteMailbox(account, name))
}

func (t *Txn) deleteMailbox(account uint64, name string) error {
	a, name, err := t.accountAndName(account, name)
	if err != nil {
		return err
	}
	if name == inbox {
		return ErrInvalidName
	}
	mb, err := t.byName(account, name)
	if err != nil {
		return err
	}
	if mb == nil {
		return ErrNoMailbox
	}
	children, err := t.names(account, name+separator, 1)
	if err != nil {
		return err
	}
	if len(children) == 0 {
		return t.dropMailbox(a, mb)
	}
	if mb.meta.NoSelect {
		return ErrHasChildren
	}
	after := *a
	after.mailboxes--
	if err := after.room(1, 0); err != nil {
		return err
	}
	given, err := t.grantsOf(mb.key)
	if err != nil {
		return err
	}
	if err := t.dropMailbox(a, mb); err != nil {
		return err
	}
	left, err := t.addMailbox(account, a, Mailbox{Name: name, NoSelect: true}, 0)
	if err != nil {
		return err
	}
	return t.takeOver(left.key, given)
}

// names lists mailbox names that start with prefix, at most limit.
func (t *Txn) names(account uint64, prefix string, limit int) ([]string, error) {
	start := t.k.name(account, tagName, prefix)
	skip := len(start) - len(prefix)
	it, err := t.b.NewIter(iterBounds(start, after(start)))
	if err != nil {
		return nil, err
	}
	var out []string
	for ok := it.First(); ok && len(out) < limit; ok = it.Next() {
		out = append(out, string(it.Key()[skip:]))
	}
	return out, it.Close()
}
