package imap

import (
	"sort"
	"strings"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/cluster/client"
)

// folder is a name that LIST or LSUB may show.
type folder struct {
	client.Mailbox
	exists     bool
	subscribed bool
	children   bool // has existing ones
	subChild   bool // has subscribed ones, at any depth
}

// List answers LIST, LIST-EXTENDED with STATUS (RFC 5258, RFC 5819), and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, o *goimap.ListOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.ReturnStatus != nil && (o.ReturnStatus.DeletedStorage || o.ReturnStatus.HighestModSeq) {
		return bad("Unknown STATUS data item")
	}
	lsub := s.c.command() == "LSUB"
	if len(patterns) == 0 { // only the delimiter is asked for (RFC 9051 section 6.3.9)
		return w.WriteList(&goimap.ListData{Attrs: []goimap.MailboxAttr{goimap.MailboxAttrNoSelect}, Delim: delimiter})
	}
	m, err := newMatcher(ref, patterns)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	boxes, err := s.mail.Mailboxes(ctx, s.account)
	if err != nil {
		return s.answer("list mailboxes", err)
	}
	subs, err := s.mail.Subscriptions(ctx, s.account)
	if err != nil {
		return s.answer("list subscriptions", err)
	}
	all := tree(boxes, subs)
	if lsub {
		hideMatched(all, m)
	}
	for _, f := range all {
		if !m.match(f.Name) {
			continue
		}
		data := s.listData(f, o, lsub)
		if data == nil {
			continue
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// listData is a folder's response, nil when it was not selected.
func (s *session) listData(f *folder, o *goimap.ListOptions, lsub bool) *goimap.ListData {
	data := &goimap.ListData{Delim: delimiter, Mailbox: f.Name}
	switch {
	case lsub:
		if !f.subscribed && !f.subChild {
			return nil
		}
		if !f.subscribed || !f.exists || f.NoSelect {
			data.Attrs = append(data.Attrs, goimap.MailboxAttrNoSelect)
		}
		return data
	case o.SelectSubscribed:
		recursive := o.SelectRecursiveMatch && f.subChild
		if !f.subscribed && !recursive {
			return nil
		}
		if recursive {
			data.ChildInfo = &goimap.ListDataChildInfo{Subscribed: true}
		}
	case !f.exists && !f.children:
		return nil // a subscription without a mailbox
	}
	use := useAttrs(f.Mailbox)
	if o.SelectSpecialUse && len(use) == 0 {
		return nil
	}
	switch {
	case !f.exists:
		data.Attrs = append(data.Attrs, goimap.MailboxAttrNonExistent, goimap.MailboxAttrNoSelect)
	case f.NoSelect:
		data.Attrs = append(data.Attrs, goimap.MailboxAttrNoSelect)
	}
	if f.children {
		data.Attrs = append(data.Attrs, goimap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, goimap.MailboxAttrHasNoChildren)
	}
	if f.subscribed && (o.SelectSubscribed || o.ReturnSubscribed) {
		data.Attrs = append(data.Attrs, goimap.MailboxAttrSubscribed)
	}
	data.Attrs = append(data.Attrs, use...)
	if o.ReturnStatus != nil && f.exists && !f.NoSelect {
		data.Status = s.statusData(f.Mailbox)
	}
	return data
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

// hideMatched leaves the mark of subscribed children on those parents alone that have one which LSUB does not list
// itself: RFC 3501 section 6.3.9 wants a parent in its children's place, as for "%", not beside them.
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
	if len(patterns) > maxPatterns {
		return nil, no(goimap.ResponseCodeLimit, "Too many patterns")
	}
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
