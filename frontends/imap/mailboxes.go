package imap

import (
	"context"
	"slices"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/wire"
)

const delimiter = '/'

// codeUseAttr refuses special uses at CREATE (RFC 6154 section 3).
const codeUseAttr goimap.ResponseCode = "USEATTR"

// canonicalName writes INBOX, which is the same in any case (RFC 9051 section 5.1), in capitals, also as a parent.
func canonicalName(name string) string {
	first, rest, nested := strings.Cut(name, string(delimiter))
	if !strings.EqualFold(first, "INBOX") {
		return name
	}
	if !nested {
		return "INBOX"
	}
	return "INBOX" + string(delimiter) + rest
}

// newName is canonicalName for a mailbox to be made: a delimiter at the end only announces children
// (RFC 9051 section 6.3.4).
func newName(name string) string {
	return canonicalName(strings.TrimSuffix(name, string(delimiter)))
}

// create makes a mailbox.
func (s *session) create(c *call) error {
	name, uses, err := command.Create(s.dec)
	if err != nil {
		return err
	}
	use := ""
	switch {
	case len(uses) > 1:
		return no(codeUseAttr, "A mailbox has one special use")
	case len(uses) == 1:
		if use = specialUse(string(uses[0])); use == "" {
			return no(codeUseAttr, "Special use not supported")
		}
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, newName(name))
	if err == nil && use != "" && !p.own() {
		err = no(codeUseAttr, "A mailbox of another account gets no special use")
	}
	var made client.Mailbox
	if err == nil {
		made, err = s.mail.CreateMailbox(ctx, p.account, p.name, use)
	}
	if err != nil {
		return s.answer("create mailbox "+name, err)
	}
	made = seen(p.account, made)
	s.notify.made(p.account, &made)
	c.code = "MAILBOXID (" + mailboxID(p.account, &made) + ")"
	return nil
}

// specialUse is the usual spelling of a use that a mailbox can be given (RFC 6154 section 2); those that stand
// for views of other mailboxes, like \All, cannot.
func specialUse(attr string) string {
	for _, use := range []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`} {
		if strings.EqualFold(attr, use) {
			return use
		}
	}
	return ""
}

// useAttrs are a mailbox's special use as an attribute.
func useAttrs(m client.Mailbox) []goimap.MailboxAttr {
	if use := m.SpecialUse; len(use) > 1 && use[0] == '\\' && wire.IsAtom(use[1:]) {
		return []goimap.MailboxAttr{goimap.MailboxAttr(use)}
	}
	return nil
}

// delete removes a mailbox. If it is the one that is open, that is closed.
func (s *session) delete(*call) error {
	name, err := command.Mailbox(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, name)
	if err == nil && p.shown == "INBOX" {
		return no(goimap.ResponseCodeCannot, "INBOX cannot be deleted")
	}
	if err == nil {
		err = s.mail.DeleteMailbox(ctx, p.account, p.name)
	}
	if err != nil {
		return s.answer("delete mailbox "+name, err)
	}
	s.notify.deleted(p.shown)
	if s.sel != nil && s.sel.name == p.shown {
		s.forget()
		s.out.Line("* OK [CLOSED] The selected mailbox was deleted")
	}
	return nil
}

// rename renames a mailbox with its children.
func (s *session) rename(*call) error {
	from, to, err := command.Rename(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	old, err := s.placeOf(ctx, from)
	var now place
	if err == nil {
		now, err = s.placeOf(ctx, newName(to))
	}
	switch {
	case err == nil && old.account.ID != now.account.ID:
		err = no(goimap.ResponseCodeCannot, "A mailbox stays in its account; copy its messages")
	case err == nil:
		err = s.mail.RenameMailbox(ctx, old.account, old.name, now.name)
	}
	if err != nil {
		return s.answer("rename mailbox "+from, err)
	}
	s.notify.renamed(old.shown, now.shown)
	if s.sel != nil && old.shown != "INBOX" { // of INBOX the messages move, and updates tell
		if rest, ok := strings.CutPrefix(s.sel.name, old.shown); ok && (rest == "" || rest[0] == delimiter) {
			s.sel.name = now.shown + rest
		}
	}
	return nil
}

// subscribe adds a name to those that LSUB lists, or takes it out; it need not exist (RFC 3501 section 6.3.6), unless it is in another account: then the user has to know
// of it to subscribe. Subscriptions are the user's own.
func (s *session) subscribe(c *call) error {
	name, err := command.Mailbox(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	name = newName(name)
	on := c.name == "SUBSCRIBE"
	if _, _, ok := foreign(name); ok {
		if name, err = s.subscribable(ctx, name, on); err != nil {
			return s.answer("subscribe to "+name, err)
		}
	}
	if err := s.mail.Subscribe(ctx, s.account, name, on); err != nil {
		return s.answer("subscribe to "+name, err)
	}
	s.notify.subscribed(name, on)
	return nil
}

// subscribable is the name under which a mailbox of another account is subscribed. A subscription can be ended whatever has become of that.
func (s *session) subscribable(ctx context.Context, name string, on bool) (string, error) {
	if !on {
		address, rest, _ := foreign(name)
		return shownAs(client.Account{Address: address, Guest: s.account.ID}, canonicalName(rest)), nil
	}
	p, err := s.placeOf(ctx, name)
	if err != nil || p.own() {
		return p.shown, err
	}
	has, err := s.mail.Rights(ctx, p.account, p.name)
	if err == nil {
		err = lacking(has, client.RightLookup)
	}
	return p.shown, err
}

// status answers STATUS.
func (s *session) status(*call) error {
	name, items, err := command.Status(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, name)
	var m client.Mailbox
	if err == nil {
		m, err = s.mail.Status(ctx, p.account, p.name)
	}
	if err == nil && m.NoSelect {
		err = client.ErrNoMailbox
	}
	if err != nil {
		return s.answer("status of "+name, err)
	}
	if slices.Contains(items, command.StatusModSeq) {
		s.wantModSeqs()
	}
	m = seen(p.account, m)
	return s.answer("status of "+name, s.tellStatus(p.account, &m, items))
}

// tellStatus answers with the figures of a mailbox of an account that were asked for.
func (s *session) tellStatus(a client.Account, m *client.Mailbox, items []command.StatusItem) (err error) {
	var deleted uint64
	if slices.Contains(items, command.StatusDeletedStorage) {
		if deleted, err = s.deletedStorage(a, m); err != nil {
			return err
		}
	}
	s.out.Raw("* STATUS ").Mailbox(m.Name).Raw(" (")
	for i, item := range items {
		if i > 0 {
			s.out.SP()
		}
		s.out.Raw(string(item)).SP()
		switch item {
		case command.StatusMailboxID:
			s.out.Raw("(").Raw(mailboxID(a, m)).Raw(")")
		case command.StatusDeletedStorage:
			s.out.Num(deleted)
		default:
			s.out.Num(s.figure(a, m, item))
		}
	}
	s.out.Line(")")
	return nil
}

func (s *session) figure(a client.Account, m *client.Mailbox, item command.StatusItem) uint64 {
	switch item {
	case command.StatusMessages:
		return uint64(m.Messages)
	case command.StatusUIDNext:
		return uint64(m.UIDNext)
	case command.StatusUIDValidity:
		return uint64(m.UIDValidity)
	case command.StatusUnseen:
		return uint64(m.Unseen)
	case command.StatusDeleted:
		return uint64(m.Deleted)
	case command.StatusSize:
		return m.Size
	case command.StatusModSeq:
		return highest(m)
	case command.StatusAppendLimit:
		return uint64(s.appendLimit())
	}
	return uint64(s.recentCount(a, m)) // RECENT
}

// namespace is one personal namespace, without prefix, and that of other users (RFC 2342).
func (s *session) namespace(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	if s.mail.Sharing() {
		s.out.Line(`* NAMESPACE (("" "/")) (("` + othersPrefix + `" "/")) NIL`)
	} else {
		s.out.Line(`* NAMESPACE (("" "/")) NIL NIL`)
	}
	return nil
}

// appendLimit is the largest message that APPEND takes (RFC 7889).
func (s *session) appendLimit() uint32 {
	return uint32(min(s.mail.MaxMessage(), 1<<32-1))
}
