package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// Sharing of folders between accounts (RFC 4314). What an account gives stands in its own shard, and that alone decides. So that a user finds what he was given without
// asking all accounts, his account has a note of each owner:
//
//  1. Share notes the owner in the user's account.
//  2. It gives the rights, in the owner's account.
//  3. It notes the owner again. Nothing is acknowledged before.
//  4. Shared asks every owner that is noted. One who shares nothing is forgotten, if the last note is still the one that was read before he was asked.
//
// So a right that was acknowledged has its note: the note of step 3 is there until a step 4 that read it, or a later one, and so asked after step 2, finds that there is no right any more. Without
// step 3, a step 4 could read the note, ask before step 2, and forget the note behind it; without step 1, a node that ends between the others would leave a right that nobody finds.
// A note without a right costs one question.

type (
	// Rights are what a user may do with a folder, a set of Right… bits.
	Rights = index.Rights
	// Grant is what a user may do with a folder of another account.
	Grant = index.Grant
)

// What sharing is bounded by, and the rights.
const (
	RightsAll    = index.RightsAll
	RightLetters = index.RightLetters

	RightLookup     = index.RightLookup
	RightRead       = index.RightRead
	RightSeen       = index.RightSeen
	RightInsert     = index.RightInsert
	RightCreate     = index.RightCreate
	RightDeleteBox  = index.RightDeleteBox
	RightDelete     = index.RightDelete
	RightExpunge    = index.RightExpunge
	RightAdminister = index.RightAdminister
)

// How owners are asked what they share: so many at once, each first for what is acknowledged by now, then for what some replica knows.
const (
	sharersAtOnce = 8
	sharerFresh   = 2 * time.Second
	sharerAny     = time.Second
)

// Changing says whether rights let messages of a folder be changed at all; else it is open read-only.
func Changing(r Rights) bool { return mailbox.Changing(r) }

// FlagScope says which flags a user may change.
type FlagScope = index.FlagScope

// ScopeOf are the flags that rights allow to change.
func ScopeOf(r Rights) FlagScope { return mailbox.ScopeOf(r) }

// rightsIn are those that an answer speaks of: of the owner all.
func rightsIn(a Account, f *mailbox.Frame) Rights {
	if a.Guest == 0 {
		return RightsAll
	}
	if len(f.Grants) == 1 {
		return f.Grants[0].Rights
	}
	return 0
}

// Visit finds the account of an address for another one that wants to do something there. ErrNoMailbox: there is no such account, or it is his own.
func (c *Client) Visit(ctx context.Context, guest Account, address string) (Account, error) {
	a, err := c.Resolve(ctx, address)
	switch {
	case errors.Is(err, ErrUnavailable):
		return Account{}, err
	case err != nil, a.ID == guest.ID:
		return Account{}, ErrNoMailbox
	}
	a.Guest = guest.ID
	return a, nil
}

// Rights are what a may do with a folder: the owner everything. Strong.
func (c *Client) Rights(ctx context.Context, a Account, name string) (Rights, error) {
	if a.Guest == 0 {
		_, err := c.Status(ctx, a, name)
		return RightsAll, err
	}
	f, err := c.one(ctx, &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QueryRights, Name: name}, true)
	if err != nil {
		return 0, err
	}
	return rightsIn(a, f), nil
}

// Grants lists who was given what of a folder, without accounts that do not exist any more. Strong.
func (c *Client) Grants(ctx context.Context, a Account, name string) ([]Grant, error) {
	if a.Guest == 0 { // it may be an account that nobody has used yet
		if _, err := c.Status(ctx, a, name); err != nil {
			return nil, err
		}
	}
	f, err := c.one(ctx, &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QueryGrants, Name: name}, true)
	if err != nil {
		return nil, err
	}
	var list []Grant
	for _, g := range f.Grants {
		user, err := c.Resolve(ctx, g.Address)
		switch {
		case errors.Is(err, ErrUnavailable):
			return nil, err
		case err == nil && user.ID == g.User:
			list = append(list, g)
		}
	}
	return list, nil
}

// Share sets, adds or removes rights of a user on a folder. Private annotations of one who may have none there any more go with the right: they count against the owner's limits, and nobody else
// could remove them. If that fails the rights are as asked, and Share may be tried again. ErrLimit: too many users have some, or too many owners share something with him.
func (c *Client) Share(ctx context.Context, a Account, name string, user Account, op FlagOp, r Rights) error {
	if user.ID == a.ID {
		return fmt.Errorf("%w: the owner has all rights", ErrInvalidName)
	}
	gives := op != index.OpRemove && r != 0
	if gives {
		if _, err := c.Grants(ctx, a, name); err != nil { // else step 1 would be for nothing
			return err
		}
		err := c.noteSharer(ctx, user, a)
		if errors.Is(err, ErrLimit) { // some may share nothing any more
			if _, err = c.Shared(ctx, user); err == nil {
				err = c.noteSharer(ctx, user, a)
			}
		}
		if err != nil {
			return err
		}
	}
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Grant: &mailbox.Grant{
		Account: a.ID, Mailbox: name, User: user.ID, Address: user.Address, Op: uint8(op), Rights: r,
	}})
	if err == nil && gives {
		err = c.noteSharer(ctx, user, a)
	}
	if err == nil && op != index.OpAdd {
		err = c.dropNotes(ctx, a.owned(), name, user)
	}
	return err
}

// dropNotes removes the private annotations of a user on a folder of owner, if he may not have any there. It is done in the owner's name, since nobody else may.
func (c *Client) dropNotes(ctx context.Context, owner Account, name string, user Account) error {
	asked := owner
	asked.Guest = user.ID
	has, err := c.Rights(ctx, asked, name)
	if err != nil && !errors.Is(err, ErrNoMailbox) && !errors.Is(err, ErrNoRight) || mailbox.Noting(has) {
		return err
	}
	all, err := c.Annotations(ctx, owner, name)
	var his []Annotation
	for _, n := range all {
		if n.User == user.ID {
			his = append(his, Annotation{User: n.User, Name: n.Name})
		}
	}
	for some := range slices.Chunk(his, MaxAnnotationsAtOnce) {
		if err == nil {
			err = c.Annotate(ctx, owner, name, some)
		}
	}
	if errors.Is(err, ErrNoMailbox) { // they went with the folder
		return nil
	}
	return err
}

// noteSharer is step 1, and step 3.
func (c *Client) noteSharer(ctx context.Context, user, owner Account) error {
	_, err := c.changeAccount(ctx, user, &mailbox.Command{Sharer: &mailbox.Sharer{Account: user.ID, Owner: owner.ID, Address: owner.Address}})
	return err
}

// Shared is what an owner shares with a user.
type Shared struct {
	Owner   Account   // with the user as Guest
	Folders []Mailbox // that he may know of
	Rights  []Rights  // on each
}

// sharers are the accounts that may share something with one. Strong.
func (c *Client) sharers(ctx context.Context, a Account) ([]index.Sharer, error) {
	f, err := c.one(ctx, &mailbox.Query{Shard: a.Shard, Account: a.ID, Kind: mailbox.QuerySharers}, true)
	if err != nil {
		return nil, err
	}
	return f.Sharers, nil
}

// Shared lists what others share with an account, by owner as they came. Strong where an owner's shard can be asked now; else what some replica knows, and if
// none does the owner is left out: what others share must not keep a user from his own mail.
func (c *Client) Shared(ctx context.Context, a Account) ([]Shared, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	notes, err := c.sharers(ctx, a)
	if err != nil {
		return nil, err
	}
	all := make([]Shared, len(notes))
	slots := make(chan struct{}, sharersAtOnce)
	var work sync.WaitGroup
	for i := range notes {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			all[i] = c.sharedBy(ctx, a, notes[i])
		})
	}
	work.Wait()
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	return all, nil
}

// sharedBy is step 4 for one owner. Of an address that is another account's now, nothing is shared.
func (c *Client) sharedBy(ctx context.Context, a Account, note index.Sharer) (s Shared) {
	owner, err := c.Visit(ctx, a, note.Address)
	if err == nil && owner.ID != note.Owner {
		err = ErrNoMailbox
	}
	nothing := errors.Is(err, ErrNoMailbox)
	if err == nil {
		s.Owner = owner
		if err = c.foldersFor(ctx, &s, true, sharerFresh); errors.Is(err, ErrUnavailable) {
			err = c.foldersFor(ctx, &s, false, sharerAny)
		} else {
			nothing = err == nil && len(s.Folders) == 0
		}
	}
	if nothing {
		_, err = c.changeAccount(ctx, a, &mailbox.Command{Sharer: &mailbox.Sharer{Account: a.ID, Owner: note.Owner, Forget: note.Seq}})
	}
	if err != nil {
		c.cfg.Log.Warn("what an account shares could not be asked", "account", note.Address, "user", a.ID, "err", err)
	}
	return s
}

// foldersFor asks which folders of the owner its guest may know of, with his rights.
func (c *Client) foldersFor(ctx context.Context, s *Shared, strong bool, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	q := &mailbox.Query{Shard: s.Owner.Shard, Account: s.Owner.ID, User: s.Owner.Guest, Kind: mailbox.QueryMailboxes}
	return c.ask(ctx, q, strong, func(f *mailbox.Frame, first bool) error {
		if first {
			s.Folders, s.Rights = nil, nil
		}
		if len(f.Grants) != len(f.Mailboxes) {
			return unavailable(errors.New("a replica does not say what may be done with folders"))
		}
		s.Folders = append(s.Folders, f.Mailboxes...)
		for _, g := range f.Grants {
			s.Rights = append(s.Rights, g.Rights)
		}
		return nil
	})
}
