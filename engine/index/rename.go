package index

import "strings"

// RenameMailbox renames a mailbox with its children and makes the new name's missing parents. Renaming INBOX moves its messages to a new
// mailbox and leaves it empty, its children in place (RFC 9051 section 6.3.6).
func (t *Txn) RenameMailbox(account uint64, from, to string, now int64) error {
	return t.settle("rename mailbox", t.renameMailbox(account, from, to, now))
}

func (t *Txn) renameMailbox(account uint64, from, to string, now int64) error {
	a, from, err := t.accountAndName(account, from)
	if err != nil {
		return err
	}
	if to, err = canonicalName(to); err != nil {
		return err
	}
	mb, err := t.byName(account, from)
	if err != nil {
		return err
	}
	if mb == nil {
		return ErrNoMailbox
	}
	if taken, err := t.byName(account, to); err != nil {
		return err
	} else if taken != nil {
		return ErrExists
	}
	if from == inbox {
		return t.renameInbox(mb, to, now)
	}
	if strings.HasPrefix(to, from+separator) {
		return ErrInvalidName
	}
	moves, err := t.planRename(account, from, to)
	if err != nil {
		return err
	}
	missing, err := t.missingParents(account, to)
	if err != nil {
		return err
	}
	if err := a.room(len(missing), now); err != nil {
		return err
	}
	if err := t.addParents(account, a, missing, now); err != nil {
		return err
	}
	for _, move := range moves {
		if err := t.moveName(move.mailbox, move.to); err != nil {
			return err
		}
	}
	return nil
}

type nameMove struct {
	mailbox *mailboxState
	to      string
}

// planRename checks the new name of a mailbox and of all its children.
func (t *Txn) planRename(account uint64, from, to string) ([]nameMove, error) {
	children, err := t.names(account, from+separator, MaxMailboxes)
	if err != nil {
		return nil, err
	}
	moves := make([]nameMove, 0, len(children)+1)
	for _, old := range append([]string{from}, children...) {
		name, err := canonicalName(to + old[len(from):])
		if err != nil {
			return nil, err
		}
		mb, err := t.byName(account, old)
		if err != nil {
			return nil, err
		}
		moves = append(moves, nameMove{mb, name})
	}
	return moves, nil
}

func (t *Txn) moveName(mb *mailboxState, to string) error {
	if err := t.remove(t.k.name(mb.key.account, tagName, mb.meta.Name)); err != nil {
		return err
	}
	mb.meta.Name = to
	mb.dirty = true
	return t.put(t.k.name(mb.key.account, tagName, to), encodeID(mb.key.id))
}

func (t *Txn) renameInbox(in *mailboxState, to string, now int64) error {
	uids, err := t.selection(in, nil)
	if err != nil {
		return err
	}
	picked, err := t.pick(in, uids)
	if err != nil {
		return err
	}
	// From here on nothing is refused: a new mailbox takes all that INBOX holds.
	made, err := t.createMailbox(in.key.account, to, "", now)
	if err != nil {
		return err
	}
	dst, err := t.mailbox(mailboxKey{in.key.account, made.ID})
	if err != nil {
		return err
	}
	if _, err := t.place(in, dst, picked); err != nil {
		return err
	}
	if err := t.copyAnnotations(in.key.account, in.key.id, made.ID); err != nil { // RFC 5464 section 4.1
		return err
	}
	return t.erase(in, picked)
}

// Subscribe sets or clears a subscription, which needs no mailbox of that name (RFC 9051 section 6.3.7).
func (t *Txn) Subscribe(account uint64, name string, on bool) error {
	_, name, err := t.accountAndName(account, name)
	if err == nil {
		err = t.subscribe(account, name, on)
	}
	return t.settle("subscribe", err)
}

func (t *Txn) subscribe(account uint64, name string, on bool) error {
	a, err := t.account(account)
	if err != nil {
		return err
	}
	key := t.k.name(account, tagSubscribe, name)
	was, err := t.q.has(key)
	if err != nil || was == on {
		return err
	}
	a.dirty = true
	if !on {
		a.subscriptions--
		return t.remove(key)
	}
	if a.subscriptions == MaxSubscriptions {
		return &LimitError{What: "subscriptions in an account", Limit: MaxSubscriptions}
	}
	a.subscriptions++
	return t.put(key, presence())
}
