package mailbox

import (
	"errors"
	"fmt"

	"hongyan/engine/index"
)

// Access by others than the owner (RFC 4314). A command or query about an account says on whose behalf it is, if that is not the owner, and the owner's shard
// looks up what he may do, in the same state that the command changes or the query reads. So nothing is done or shown by rights that were taken away before,
// wherever his session is, and who asks needs to know nothing of the account.
//
// Who lacks a right is told so if he may know of the mailbox (l), else that there is no such mailbox.

// As is a command on behalf of another account than the one that it is about.
type As struct {
	User uint64   `cbor:"1,keyasint"`
	Do   *Command `cbor:"2,keyasint"`
}

// Grant gives a user rights on a folder or takes some; without any left he has no entry.
type Grant struct {
	Account uint64       `cbor:"1,keyasint"`
	Mailbox string       `cbor:"2,keyasint"`
	User    uint64       `cbor:"3,keyasint"`
	Address string       `cbor:"4,keyasint,omitempty"` // his
	Op      uint8        `cbor:"5,keyasint,omitempty"` // an index.FlagOp: the rights are set, added or removed
	Rights  index.Rights `cbor:"6,keyasint,omitempty"`
}

// Sharer notes in an account that another one is about to share something with it, or forgets that.
type Sharer struct {
	Account uint64 `cbor:"1,keyasint"`
	Owner   uint64 `cbor:"2,keyasint"`
	Address string `cbor:"3,keyasint,omitempty"` // the owner's
	Forget  uint64 `cbor:"4,keyasint,omitempty"` // sequence of the note that is to go, if it is the last; 0: note
}

// errNoRight refuses who may know of a mailbox what he may not do with it.
var errNoRight = errors.New("no right to do this with the mailbox")

// anyOf are the rights of which RFC 5464 section 3.3 wants one beside l for annotations.
const anyOf = index.RightRead | index.RightSeen | index.RightWrite | index.RightInsert | index.RightPost

// toChange are the rights that allow to change a mailbox's messages: without any, it is open read-only (RFC 4314 section 5.2).
const toChange = index.RightInsert | index.RightExpunge | index.RightSeen | index.RightDelete | index.RightWrite

// Changing says whether rights let messages of a mailbox be changed.
func Changing(r index.Rights) bool { return r&toChange != 0 }

// lacking refuses somebody with some rights who would need others.
func lacking(has index.Rights) error {
	if has.Has(index.RightLookup) {
		return errNoRight
	}
	return index.ErrNoMailbox
}

func demand(has, all index.Rights) error {
	if has.Has(all) {
		return nil
	}
	return lacking(has)
}

// demandAny is demand of one right at least.
func demandAny(has, some index.Rights) error {
	if has&some != 0 {
		return nil
	}
	return lacking(has)
}

// Noting says whether rights let somebody have annotations on a mailbox (RFC 5464 section 3.3).
func Noting(r index.Rights) bool { return demandNotes(r) == nil }

// ScopeOf are the flags that rights allow to change.
func ScopeOf(r index.Rights) index.FlagScope {
	var s index.FlagScope
	if r.Has(index.RightSeen) {
		s.System |= index.FlagSeen
	}
	if r.Has(index.RightDelete) {
		s.System |= index.FlagDeleted
	}
	if r.Has(index.RightWrite) {
		s.System |= index.AllFlags().System &^ (index.FlagSeen | index.FlagDeleted)
		s.Keywords = true
	}
	return s
}

// guest is somebody who acts in another's account.
type guest struct {
	t             *index.Txn
	account, user uint64
}

func (g *guest) on(mailbox uint32) (index.Rights, error) {
	return g.t.Rights(g.account, mailbox, g.user)
}

// named are the rights on a mailbox by its name.
func (g *guest) named(name string) (index.Rights, error) {
	box, err := g.t.MailboxByName(g.account, name)
	if err != nil {
		return 0, err
	}
	return g.on(box.ID)
}

func (g *guest) demand(name string, all index.Rights) error {
	has, err := g.named(name)
	if err == nil {
		err = demand(has, all)
	}
	return err
}

func (g *guest) demandOn(mailbox uint32, all index.Rights) error {
	has, err := g.on(mailbox)
	if err == nil {
		err = demand(has, all)
	}
	return err
}

// below says whether a mailbox of a name may be made.
func (g *guest) below(name string) error {
	parent, err := g.t.Parent(g.account, name)
	if err != nil && !errors.Is(err, index.ErrNoMailbox) {
		return err
	}
	has, err := g.on(parent.ID) // of none, none
	if err == nil && !has.Has(index.RightCreate) {
		err = errNoRight // whether there is a mailbox of the name or not
	}
	return err
}

// scope are the flags that messages which enter a mailbox may have.
func (g *guest) scope(name string) (index.FlagScope, error) {
	has, err := g.named(name)
	if err == nil {
		err = demand(has, index.RightInsert)
	}
	return ScopeOf(has), err
}

// enterAs leaves of a message's flags those in a scope.
func enterAs(scope index.FlagScope, m *Message) {
	f := scope.Limit(index.Flags{System: m.System, Keywords: m.Keywords})
	m.System, m.Keywords = f.System, f.Keywords
}

// guestCommand executes a command on behalf of another account, as far as RFC 4314 section 4 lets it.
func (m *Machine) guestCommand(t *index.Txn, now int64, as *As) (*Result, error) {
	g, c := &guest{t: t, user: as.User}, as.Do
	err := g.reach(c)
	if err != nil {
		return nil, err
	}
	var scope index.FlagScope // of what enters a mailbox
	switch {
	case c.Store != nil:
		return g.store(m, c.Store)
	case c.Copy != nil:
		return g.copy(m, now, c.Copy)
	case c.Expunge != nil:
		err = g.demandOn(c.Expunge.Mailbox, index.RightExpunge)
	case c.AppendAll != nil:
		if scope, err = g.scope(c.AppendAll.Mailbox); err == nil {
			for i := range c.AppendAll.List {
				enterAs(scope, &c.AppendAll.List[i].Message)
			}
		}
	case c.Replace != nil:
		if scope, err = g.scope(c.Replace.Mailbox); err == nil {
			enterAs(scope, &c.Replace.Message)
			err = g.demandOn(c.Replace.From, index.RightRead|index.RightDelete|index.RightExpunge)
		}
	case c.Create != nil:
		err = g.below(c.Create.Name)
	case c.Delete != nil:
		err = g.demand(c.Delete.Name, index.RightDeleteBox)
	case c.Rename != nil:
		err = g.rename(c.Rename)
	case c.Annotate != nil:
		err = g.annotate(c.Annotate)
	case c.Grant != nil:
		err = g.demand(c.Grant.Mailbox, index.RightAdminister)
	}
	if err != nil {
		return nil, err
	}
	return m.execute(t, now, c)
}

// reach finds the account that a command is about. Commands that are nobody's but the owner's are invalid.
func (g *guest) reach(c *Command) error {
	switch {
	case c == nil:
		return fmt.Errorf("%w: nothing to do", errInvalid)
	case c.Store != nil:
		g.account = c.Store.Account
	case c.Copy != nil:
		g.account = c.Copy.Account
	case c.Expunge != nil:
		g.account = c.Expunge.Account
	case c.AppendAll != nil:
		g.account = c.AppendAll.Account
	case c.Replace != nil:
		g.account = c.Replace.Account
	case c.Create != nil:
		g.account = c.Create.Account
	case c.Delete != nil:
		g.account = c.Delete.Account
	case c.Rename != nil:
		g.account = c.Rename.Account
	case c.Annotate != nil:
		g.account = c.Annotate.Account
	case c.Grant != nil:
		g.account = c.Grant.Account
	default:
		return fmt.Errorf("%w: it is the owner's alone", errInvalid)
	}
	return g.t.Changeable(g.account)
}

// store changes those flags that the guest may change, if there is one that he wanted to.
func (g *guest) store(m *Machine, c *Store) (*Result, error) {
	has, err := g.on(c.Mailbox)
	if err != nil {
		return nil, err
	}
	scope, asked := ScopeOf(has), index.Flags{System: c.System, Keywords: c.Keywords}
	if some := scope.Limit(asked); some.System == 0 && len(some.Keywords) == 0 {
		clears := index.FlagOp(c.Op) == index.OpSet && asked.System == 0 && len(asked.Keywords) == 0
		if !clears || scope == (index.FlagScope{}) {
			return nil, lacking(has)
		}
	}
	return m.storeIn(g.t, c, scope)
}

// copy copies or moves, and takes from the copies the flags that the guest could not have given them.
func (g *guest) copy(m *Machine, now int64, c *Copy) (*Result, error) {
	scope, err := g.scope(c.To)
	if err != nil {
		return nil, err
	}
	from := index.RightRead
	if c.Move {
		from |= index.RightDelete | index.RightExpunge
	}
	if err := g.demandOn(c.Mailbox, from); err != nil {
		return nil, err
	}
	return m.copyIn(g.t, now, c, scope)
}

func (g *guest) rename(c *Rename) error {
	box, err := g.t.MailboxByName(g.account, c.From)
	if err != nil {
		return err
	}
	if err := g.demandOn(box.ID, index.RightDeleteBox); err != nil {
		return err
	}
	if box.Name == Inbox { // its messages would be moved
		return errNoRight
	}
	return g.below(c.To)
}

func (g *guest) annotate(c *Annotate) error {
	for i := range c.List {
		if u := c.List[i].User; u != 0 && u != g.user {
			return fmt.Errorf("%w: an annotation of somebody else", errInvalid)
		}
	}
	has, err := g.named(c.Mailbox)
	if err == nil {
		err = demandNotes(has)
	}
	return err
}

// demandNotes is what annotations need (RFC 5464 section 3.3).
func demandNotes(has index.Rights) error {
	err := demand(has, index.RightLookup)
	if err == nil {
		err = demandAny(has, anyOf)
	}
	return err
}

// grant changes what a user may do with a folder.
func (m *Machine) grant(t *index.Txn, now int64, c *Grant) (*Result, error) {
	if err := m.ensure(t, c.Account, now); err != nil {
		return nil, err
	}
	box, err := t.MailboxByName(c.Account, c.Mailbox)
	if err != nil {
		return nil, err
	}
	has, err := t.Rights(c.Account, box.ID, c.User)
	if err != nil {
		return nil, err
	}
	switch index.FlagOp(c.Op) {
	case index.OpSet:
		has = c.Rights
	case index.OpAdd:
		has |= c.Rights
	case index.OpRemove:
		has &^= c.Rights
	default:
		return nil, fmt.Errorf("%w: operation %d on rights", errInvalid, c.Op)
	}
	if err := t.Grant(c.Account, index.Grant{Mailbox: box.ID, User: c.User, Rights: has, Address: c.Address}); err != nil {
		return nil, err
	}
	m.note(c.Account, box.ID)
	return &Result{}, nil
}

func (m *Machine) sharer(t *index.Txn, now int64, c *Sharer) (*Result, error) {
	if err := m.ensure(t, c.Account, now); err != nil {
		return nil, err
	}
	if c.Forget != 0 {
		done, err := t.ForgetSharer(c.Account, c.Owner, c.Forget)
		return &Result{Done: done}, err
	}
	if err := t.NoteSharer(c.Account, index.Sharer{Owner: c.Owner, Address: c.Address}); err != nil {
		return nil, err
	}
	m.note(c.Account, 0)
	return &Result{Done: true}, nil
}
