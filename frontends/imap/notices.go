package imap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// look tells what happened to other mailboxes, if a wake-up says that something did. A look that is not due yet is left to t.
func (s *session) look(t *teller) error {
	n := s.notify
	if n == nil || n.wakes == nil || !n.wakes.pending.Load() {
		return nil
	}
	if wait := time.Until(n.next); wait > 0 {
		time.AfterFunc(wait, t.poke)
		return nil
	}
	n.wakes.pending.Store(false)
	n.next = time.Now().Add(lookEvery)
	ctx, cancel := context.WithTimeout(s.ctx, updateTimeout)
	defer cancel()
	all, err := s.lookAt(ctx, n)
	var notes map[noteKey]uint64
	if err == nil {
		notes, err = s.notesFor(n, all)
	}
	if err != nil {
		n.wakes.pending.Store(true)
		s.log.Warn("IMAP session could not learn of changes of mailboxes", "error", err)
		return client.ErrUnavailable
	}
	s.tellNotes(n, all, notes)
	s.tellOthers(n, all)
	return s.out.Err()
}

// lookAt asks how all mailboxes are, in its turn.
func (s *session) lookAt(ctx context.Context, n *notification) ([]*folder, error) {
	done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.lookWith(ctx, n)
}

// notices are the responses that one look gives rise to.
type notices struct {
	n      *notification
	now    map[string]*folder
	ids    map[openMailbox]*folder
	status []*folder
	items  [][]command.StatusItem
	names  []string          // of LIST
	old    map[string]string // names before, of those that were renamed; "" of others
}

// tellOthers tells how mailboxes differ from what the client knows of them.
func (s *session) tellOthers(n *notification, all []*folder) {
	out := &notices{n: n, now: make(map[string]*folder, len(all)), ids: make(map[openMailbox]*folder, len(all)), old: make(map[string]string)}
	for _, f := range all {
		if out.now[f.Name] = f; f.exists {
			out.ids[f.key()] = f
		}
	}
	out.gone()
	for _, f := range all {
		events := n.events(f.Name, f.subscribed)
		if was, ok := n.known[f.key()]; f.exists && ok {
			if !s.has(f) && f.rights.Has(client.RightRead) {
				out.figures(f, was, events, s.condstore)
			}
		} else if f.exists && events&command.EventName != 0 {
			out.affected(f.Name)
		}
		if f.subscribed != n.subs[f.Name] && events&command.EventSubscription != 0 {
			out.list(f.Name, "")
		}
	}
	out.unsubscribed()
	if !n.learn(all) || len(out.names)+len(out.status) > maxNotices {
		s.overflow()
		return
	}
	for _, name := range out.names {
		s.tellList("LIST", out.listing(name))
	}
	for i, f := range out.status {
		s.tellStatus(f.owner, &f.Mailbox, out.items[i])
	}
}

// gone finds mailboxes that are deleted or have another name.
func (o *notices) gone() {
	for _, id := range slices.SortedFunc(maps.Keys(o.n.known), openMailbox.compare) {
		was := o.n.known[id]
		wanted := o.n.events(was.name, o.n.subs[was.name])&command.EventName != 0
		f := o.ids[id]
		switch {
		case f == nil && wanted && (o.now[was.name] == nil || !o.now[was.name].exists):
			o.affected(was.name)
		case f != nil && f.Name != was.name && !o.withParent(was.name, f.Name) && (wanted || o.n.events(f.Name, f.subscribed)&command.EventName != 0):
			o.list(f.Name, was.name)
		}
	}
}

// withParent says whether a mailbox only has another name because its parent has (RFC 5465 section 5.4).
func (o *notices) withParent(was, now string) bool {
	i, j := strings.LastIndexByte(was, delimiter), strings.LastIndexByte(now, delimiter)
	if i < 0 || j < 0 || was[i:] != now[j:] {
		return false
	}
	for id, k := range o.n.known {
		if k.name == was[:i] {
			f := o.ids[id]
			return f != nil && f.Name == now[:j]
		}
	}
	return false
}

// unsubscribed finds names that were subscribed, and that nothing else speaks of any more.
func (o *notices) unsubscribed() {
	for _, name := range slices.Sorted(maps.Keys(o.n.subs)) {
		if o.now[name] == nil && o.n.events(name, true)&command.EventSubscription != 0 {
			o.list(name, "")
		}
	}
}

// affected is of a mailbox that was made or deleted, which is an event of its parent too.
func (o *notices) affected(name string) {
	o.list(name, "")
	if i := strings.LastIndexByte(name, delimiter); i > 0 && o.n.events(name[:i], o.n.subs[name[:i]])&command.EventName != 0 {
		o.list(name[:i], "")
	}
}

func (o *notices) list(name, old string) {
	before, there := o.old[name]
	if !there {
		o.names = append(o.names, name)
	}
	if before == "" {
		o.old[name] = old
	}
}

// listing is the response about a name, also about one that is not there, which may be subscribed.
func (o *notices) listing(name string) *listing {
	l := &listing{name: name, attrs: []goimap.MailboxAttr{goimap.MailboxAttrNonExistent}}
	if f := o.now[name]; f != nil && (f.exists || f.children) {
		l = f.list(&command.List{Extended: true, Options: goimap.ListOptions{ReturnSubscribed: true}})
	} else if f != nil && f.subscribed {
		l.attrs = append(l.attrs, goimap.MailboxAttrSubscribed)
	}
	l.oldName = o.old[name]
	return l
}

// tellNotes names annotations that have changed (RFC 5465 sections 5.6 and 5.7). Those of a mailbox that is gone went with it.
func (s *session) tellNotes(n *notification, all []*folder, now map[noteKey]uint64) {
	changed := changedNotes(n.notes, now)
	n.notes = now
	tell := func(mailbox string, names []string) {
		s.out.Raw("* METADATA ").Mailbox(mailbox)
		for _, name := range slices.Sorted(slices.Values(names)) {
			s.out.SP()
			s.tellEntry(name)
		}
		s.out.Line("")
	}
	if names := changed[openMailbox{account: s.account.ID}]; len(names) > 0 && slices.ContainsFunc(n.others, func(g command.EventGroup) bool { return g.Events&command.EventServerMetadata != 0 }) {
		tell("", names)
	}
	for _, f := range all {
		if names := changed[f.key()]; f.exists && len(names) > 0 && n.events(f.Name, f.subscribed)&command.EventMailboxMetadata != 0 {
			tell(f.Name, names)
		}
	}
}

// figures finds out which of a mailbox's figures are to be told (RFC 5465 section 5).
func (o *notices) figures(f *folder, was noticed, events command.Events, condstore bool) {
	now := noticedOf(&f.Mailbox)
	if events&messageEvents == 0 || f.NoSelect || now.modseq == was.modseq && now.uidValidity == was.uidValidity {
		return
	}
	var items []command.StatusItem
	if now.messages != was.messages || now.uidNext != was.uidNext || now.uidValidity != was.uidValidity {
		items = append(items, command.StatusMessages, command.StatusUIDNext)
	} else if events&command.EventFlags == 0 {
		return
	}
	if now.unseen != was.unseen && events&command.EventFlags != 0 {
		items = append(items, command.StatusUnseen)
	}
	if condstore {
		items = append(items, command.StatusModSeq)
	}
	if condstore || now.uidValidity != was.uidValidity {
		items = append(items, command.StatusUIDValidity)
	}
	if len(items) > 0 {
		o.status, o.items = append(o.status, f), append(o.items, items)
	}
}

// tellNew tells what the client asked for of new messages in the open mailbox.
func (s *session) tellNew(sel *selected) error {
	fresh := sel.untold
	if fresh == nil || s.notify == nil || len(s.notify.items) == 0 {
		sel.untold = nil
		return nil
	}
	if fresh.GetCardinality() > maxNotices {
		sel.untold = nil
		s.overflow()
		return nil
	}
	err := s.tellData(sel, s.notify.items, fresh)
	if errors.Is(err, client.ErrUnavailable) && s.ctx.Err() == nil && s.out.Err() == nil {
		return client.ErrUnavailable // told when the mailbox can be asked again
	}
	sel.untold = nil
	return err
}
