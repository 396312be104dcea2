package imap

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// folder is a name that LIST or LSUB may show.
type folder struct {
	client.Mailbox
	owner      client.Account // of one that exists
	rights     client.Rights
	exists     bool
	subscribed bool
	children   bool // has existing ones
	subChild   bool // has subscribed ones, at any depth
}

// key is which mailbox it is, of one that exists.
func (f *folder) key() openMailbox { return openMailbox{f.owner.ID, f.ID} }

// listing is a response to LIST or LSUB.
type listing struct {
	name     string
	attrs    []goimap.MailboxAttr
	subChild bool   // matched for a subscribed child (RFC 5258)
	oldName  string // that it had, "" if that is not told (RFC 5465)
}

// tellList answers with a name.
func (s *session) tellList(kind string, l *listing) {
	s.out.Raw("* ").Raw(kind).Raw(" (")
	for i, a := range l.attrs {
		if i > 0 {
			s.out.SP()
		}
		s.out.Raw(string(a))
	}
	s.out.Raw(`) "/" `).Mailbox(l.name)
	if l.subChild {
		s.out.Raw(` (CHILDINFO ("SUBSCRIBED"))`)
	}
	if l.oldName != "" {
		s.out.Raw(` ("OLDNAME" (`).Mailbox(l.oldName).Raw("))")
	}
	s.out.Line("")
}

// list answers LIST, LIST-EXTENDED with STATUS (RFC 5258, RFC 5819), and LSUB.
func (s *session) list(c *call) error {
	parse, lsub := command.ParseList, c.name == "LSUB"
	if lsub {
		parse = command.ParseLsub
	}
	l, err := parse(s.dec)
	if err != nil {
		return err
	}
	if !l.Extended && l.Patterns[0] == "" { // only the delimiter is asked for (RFC 9051 section 6.3.9)
		s.tellList(c.name, &listing{attrs: []goimap.MailboxAttr{goimap.MailboxAttrNoSelect}})
		return nil
	}
	m, err := newMatcher(l.Reference, l.Patterns)
	if err != nil {
		return err
	}
	all, err := s.folders(m)
	if err != nil {
		return err
	}
	if slices.Contains(l.Status, command.StatusModSeq) {
		s.wantModSeqs()
	}
	var annotated map[uint32]bool
	if len(l.Metadata) > 0 {
		if annotated, err = s.annotated(); err != nil {
			return err
		}
	}
	if lsub || l.Options.SelectRecursiveMatch {
		hideMatched(all, m)
	}
	for _, f := range all {
		if !m.match(f.Name) {
			continue
		}
		var shown *listing
		if lsub {
			shown = f.lsub()
		} else {
			shown = f.list(l)
		}
		if shown == nil {
			continue
		}
		s.tellList(c.name, shown)
		if l.MyRights && f.exists {
			s.tellMyRights(f.Name, f.rights)
		}
		if len(l.Status) > 0 && f.exists && !f.NoSelect && f.rights.Has(client.RightRead) {
			if err := s.tellStatus(f.owner, &f.Mailbox, l.Status); err != nil && !errors.Is(err, client.ErrNoMailbox) {
				return s.answer("status of "+f.Name, err)
			}
		}
		if len(l.Metadata) > 0 && f.exists {
			if err := s.listMetadata(f, l.Metadata, f.owner.Guest != 0 || annotated[f.ID]); err != nil {
				return err
			}
		}
	}
	return s.out.Err()
}

// folders are all names that the account has, with those of other accounts if m may match some.
func (s *session) folders(m *matcher) ([]*folder, error) {
	ctx, cancel := s.question()
	defer cancel()
	var others []*folder
	var err error
	if m.reaches(othersPrefix) {
		others, _, err = s.sharedFolders(ctx)
	}
	var all []*folder
	if err == nil {
		all, err = s.foldersWith(ctx, others)
	}
	return all, s.answer("list mailboxes", err)
}

// foldersWith are the user's own folders and others.
func (s *session) foldersWith(ctx context.Context, others []*folder) ([]*folder, error) {
	boxes, err := s.mail.Mailboxes(ctx, s.account)
	if err != nil {
		return nil, err
	}
	subs, err := s.mail.Subscriptions(ctx, s.account)
	if err != nil {
		return nil, err
	}
	for _, m := range boxes {
		others = append(others, &folder{Mailbox: m, owner: s.account, rights: client.RightsAll, exists: true})
	}
	return tree(others, subs), nil
}

// lsub is a folder's response to LSUB, nil when it was not selected.
func (f *folder) lsub() *listing {
	if !f.subscribed && !f.subChild {
		return nil
	}
	l := &listing{name: f.Name}
	if !f.subscribed || !f.exists || f.NoSelect {
		l.attrs = append(l.attrs, goimap.MailboxAttrNoSelect)
	}
	return l
}

// list is a folder's response to LIST, nil when it was not selected.
func (f *folder) list(asked *command.List) *listing {
	o, l := &asked.Options, &listing{name: f.Name}
	switch {
	case o.SelectSubscribed:
		l.subChild = o.SelectRecursiveMatch && f.subChild
		if !f.subscribed && !l.subChild {
			return nil
		}
	case !f.exists && !f.children:
		return nil // a subscription without a mailbox
	}
	use := useAttrs(f.Mailbox)
	if o.SelectSpecialUse && len(use) == 0 {
		return nil
	}
	switch {
	case !f.exists && asked.Extended: // who knows this form knows what it implies
		l.attrs = append(l.attrs, goimap.MailboxAttrNonExistent)
	case !f.exists:
		l.attrs = append(l.attrs, goimap.MailboxAttrNonExistent, goimap.MailboxAttrNoSelect)
	case f.NoSelect:
		l.attrs = append(l.attrs, goimap.MailboxAttrNoSelect)
	}
	if f.children {
		l.attrs = append(l.attrs, goimap.MailboxAttrHasChildren)
	} else {
		l.attrs = append(l.attrs, goimap.MailboxAttrHasNoChildren)
	}
	if f.subscribed && (o.SelectSubscribed || o.ReturnSubscribed) {
		l.attrs = append(l.attrs, goimap.MailboxAttrSubscribed)
	}
	l.attrs = append(l.attrs, use...)
	return l
}

// tree joins mailboxes and subscriptions with the parents that they have only by name, sorted, INBOX first.
func tree(boxes []*folder, subs []string) []*folder {
	all := make(map[string]*folder, len(boxes)+len(subs))
	get := func(name string) *folder {
		f := all[name]
		if f == nil {
			f = &folder{Mailbox: client.Mailbox{Name: name}}
			all[name] = f
		}
		return f
	}
	for _, f := range boxes {
		all[f.Name] = f
	}
	for _, name := range subs {
		get(name).subscribed = true
	}
	for _, f := range listed(all) {
		markParents(f, get)
	}
	out := listed(all)
	sort.Slice(out, func(i, j int) bool {
		if a, b := out[i].Name == "INBOX", out[j].Name == "INBOX"; a != b {
			return a
		}
		return out[i].Name < out[j].Name
	})
	return out
}

func listed(all map[string]*folder) []*folder {
	out := make([]*folder, 0, len(all))
	for _, f := range all {
		out = append(out, f)
	}
	return out
}

// markParents tells a folder's parents, which get makes where they are missing, what they have below them.
func markParents(f *folder, get func(string) *folder) {
	for name := f.Name; ; {
		i := strings.LastIndexByte(name, delimiter)
		if i <= 0 {
			return
		}
		name = name[:i]
		parent := get(name)
		parent.children = parent.children || f.exists
		parent.subChild = parent.subChild || f.subscribed
	}
}

// hideMatched leaves the mark of subscribed children on those parents alone that have one which is not listed
// itself: RFC 3501 section 6.3.9 and RFC 5258 section 3.5 want a parent in its children's place, as for "%", not beside them.
func hideMatched(all []*folder, m *matcher) {
	byName := make(map[string]*folder, len(all))
	for _, f := range all {
		f.subChild = false
		byName[f.Name] = f
	}
	for _, f := range all {
		if f.subscribed && !m.match(f.Name) {
			markParents(f, func(name string) *folder { return byName[name] })
		}
	}
}

// matcher is a LIST's patterns.
type matcher struct {
	exact, inbox []*pattern
	literal      []string // what names must begin with that the patterns match
}

func newMatcher(ref string, patterns []string) (*matcher, error) {
	m := new(matcher)
	for _, text := range patterns {
		if text = ref + text; len(text) > maxPatternLength {
			return nil, no(goimap.ResponseCodeLimit, "Pattern too long")
		}
		literal, _, _ := strings.Cut(strings.ReplaceAll(text, "%", "*"), "*")
		m.literal = append(m.literal, literal)
		m.exact = append(m.exact, compile(canonicalName(text), false))
		m.inbox = append(m.inbox, compile(text, true))
	}
	return m, nil
}

// reaches says whether there may be names below a prefix that match, or whose parents do.
func (m *matcher) reaches(prefix string) bool {
	return slices.ContainsFunc(m.literal, func(l string) bool {
		return strings.HasPrefix(prefix, l) || strings.HasPrefix(l, prefix)
	})
}

func (m *matcher) match(name string) bool {
	list := m.exact
	if name == "INBOX" {
		list = m.inbox
	}
	for _, p := range list {
		if p.match(name) {
			return true
		}
	}
	return false
}
