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
	exists     bool
	subscribed bool
	children   bool // has existing ones
	subChild   bool // has subscribed ones, at any depth
}

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
	all, err := s.folders()
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
		if len(l.Status) > 0 && f.exists && !f.NoSelect {
			if err := s.tellStatus(&f.Mailbox, l.Status); err != nil && !errors.Is(err, client.ErrNoMailbox) {
				return s.answer("status of "+f.Name, err)
			}
		}
		if len(l.Metadata) > 0 && f.exists {
			if err := s.listMetadata(f.Name, l.Metadata, annotated[f.ID]); err != nil {
				return err
			}
		}
	}
	return s.out.Err()
}

// folders are all names that the account has.
func (s *session) folders() ([]*folder, error) {
	ctx, cancel := s.question()
	defer cancel()
	all, err := s.allFolders(ctx)
	return all, s.answer("list mailboxes", err)
}

func (s *session) allFolders(ctx context.Context) ([]*folder, error) {
	boxes, err := s.mail.Mailboxes(ctx, s.account)
	if err != nil {
		return nil, err
	}
	subs, err := s.mail.Subscriptions(ctx, s.account)
	if err != nil {
		return nil, err
	}
	return tree(boxes, subs), nil
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
func tree(boxes []client.Mailbox, subs []string) []*folder {
	all := make(map[string]*folder, len(boxes)+len(subs))
	get := func(name string) *folder {
		f := all[name]
		if f == nil {
			f = &folder{Mailbox: client.Mailbox{Name: name}}
			all[name] = f
		}
		return f
	}
	for i := range boxes {
		f := get(boxes[i].Name)
		f.Mailbox, f.exists = boxes[i], true
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
type matcher struct{ exact, inbox []*pattern }

func newMatcher(ref string, patterns []string) (*matcher, error) {
	m := new(matcher)
	for _, text := range patterns {
		if text = ref + text; len(text) > maxPatternLength {
			return nil, no(goimap.ResponseCodeLimit, "Pattern too long")
		}
		m.exact = append(m.exact, compile(canonicalName(text), false))
		m.inbox = append(m.inbox, compile(text, true))
	}
	return m, nil
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
