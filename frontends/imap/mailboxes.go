package imap

import (
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
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

// Create makes a mailbox.
func (s *session) Create(name string, o *goimap.CreateOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	use := ""
	switch {
	case len(o.SpecialUse) > 1:
		return no(codeUseAttr, "A mailbox has one special use")
	case len(o.SpecialUse) == 1:
		if use = specialUse(string(o.SpecialUse[0])); use == "" {
			return no(codeUseAttr, "Special use not supported")
		}
	}
	ctx, cancel := s.question()
	defer cancel()
	name = newName(name)
	_, err := s.mail.CreateMailbox(ctx, s.account, name, use)
	return s.answer("create mailbox "+name, err)
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
	if use := m.SpecialUse; len(use) > 1 && use[0] == '\\' && isAtom(use[1:]) {
		return []goimap.MailboxAttr{goimap.MailboxAttr(use)}
	}
	return nil
}

// Delete removes a mailbox. If it is the one that is open, that is closed.
func (s *session) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = canonicalName(name)
	if name == "INBOX" {
		return no(goimap.ResponseCodeCannot, "INBOX cannot be deleted")
	}
	ctx, cancel := s.question()
	defer cancel()
	if err := s.mail.DeleteMailbox(ctx, s.account, name); err != nil {
		return s.answer("delete mailbox "+name, err)
	}
	if s.sel == nil || s.sel.name != name {
		return nil
	}
	s.deselect()
	return s.c.say("* OK [CLOSED] The selected mailbox was deleted\r\n")
}

// Rename renames a mailbox with its children.
func (s *session) Rename(from, to string, _ *goimap.RenameOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := s.question()
	defer cancel()
	from, to = canonicalName(from), newName(to)
	if err := s.mail.RenameMailbox(ctx, s.account, from, to); err != nil {
		return s.answer("rename mailbox "+from, err)
	}
	if s.sel != nil && from != "INBOX" { // of INBOX the messages move, and updates tell
		if rest, ok := strings.CutPrefix(s.sel.name, from); ok && (rest == "" || rest[0] == delimiter) {
			s.sel.name = to + rest
		}
	}
	return nil
}

// Subscribe adds a name to those that LSUB lists; it need not exist (RFC 3501 section 6.3.6).
func (s *session) Subscribe(name string) error { return s.subscribe(name, true) }

// Unsubscribe takes it out.
func (s *session) Unsubscribe(name string) error { return s.subscribe(name, false) }

func (s *session) subscribe(name string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := s.question()
	defer cancel()
	name = newName(name)
	return s.answer("subscribe to "+name, s.mail.Subscribe(ctx, s.account, name, on))
}

// Status answers STATUS.
func (s *session) Status(name string, o *goimap.StatusOptions) (*goimap.StatusData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.DeletedStorage || o.HighestModSeq {
		return nil, bad("Unknown STATUS data item")
	}
	ctx, cancel := s.question()
	defer cancel()
	name = canonicalName(name)
	m, err := s.mail.Status(ctx, s.account, name)
	if err == nil && m.NoSelect {
		err = client.ErrNoMailbox
	}
	if err != nil {
		return nil, s.answer("status of "+name, err)
	}
	return s.statusData(m), nil
}

// statusData has every item that can be asked for: the library reads what the client wants of it.
func (s *session) statusData(m client.Mailbox) *goimap.StatusData {
	size, limit, recent := int64(m.Size), s.AppendLimit(), uint32(0)
	return &goimap.StatusData{
		Mailbox: m.Name, NumMessages: &m.Messages, NumRecent: &recent, NumUnseen: &m.Unseen, NumDeleted: &m.Deleted,
		UIDNext: goimap.UID(m.UIDNext), UIDValidity: m.UIDValidity, Size: &size, AppendLimit: &limit,
	}
}

// Namespace is one personal namespace, without prefix (RFC 2342).
func (s *session) Namespace() (*goimap.NamespaceData, error) {
	return &goimap.NamespaceData{Personal: []goimap.NamespaceDescriptor{{Prefix: "", Delim: delimiter}}}, nil
}

// AppendLimit is the largest message that APPEND takes (RFC 7889).
func (s *session) AppendLimit() uint32 {
	return uint32(min(s.mail.MaxMessage(), 1<<32-1))
}
