package imap

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// NOTIFY (RFC 5465): a client is told of events while no command is under way, also of mailboxes that it has not open. The open one has IDLE's wake-ups and tells
// what IDLE would. Of the others one watch of the account, and of each that shares something with it, tells that something changed; then all mailboxes' figures are asked for, which is one question however
// much happened, and compared with those before. So events that follow each other closely are told as one.
const (
	maxWatched = 2000                   // mailboxes that a session may be told of
	maxNotices = 1000                   // responses to one look, and new messages whose data are told at once
	lookEvery  = 500 * time.Millisecond // between looks of a session at the account's mailboxes
)

const (
	codeOverflow  goimap.ResponseCode = "NOTIFICATIONOVERFLOW"
	messageEvents                     = command.EventNew | command.EventExpunge | command.EventFlags
)

// notification is what a client wants to be told of. The session's mutex guards it.
type notification struct {
	selected command.Events // of the open mailbox
	delayed  bool           // EXPUNGE waits for a command that allows it
	items    []command.Item // to tell of new messages there
	others   []command.EventGroup

	wakes   *wakes            // of the account, and of those that share something with it; nil if there are no others
	watched map[uint64]func() // by account, to end it
	next    time.Time         // when the next look is due at the earliest
	known   map[openMailbox]noticed
	subs    map[string]bool
	notes   map[noteKey]uint64 // annotations with their Seq; nil if none are asked for
}

// noticed is a mailbox as the client knows it.
type noticed struct {
	name                                   string
	messages, unseen, uidNext, uidValidity uint32
	modseq                                 uint64
}

func noticedOf(m *client.Mailbox) noticed {
	return noticed{name: m.Name, messages: m.Messages, unseen: m.Unseen, uidNext: m.UIDNext, uidValidity: m.UIDValidity, modseq: m.HighestModSeq}
}

// notifyCommand answers NOTIFY. What happened in the open mailbox up to now is told before its OK.
func (s *session) notifyCommand(*call) error {
	asked, err := command.ParseNotify(s.dec)
	if err != nil {
		return err
	}
	n := newNotification(asked)
	if len(n.others) > 0 {
		n.wakes = new(wakes)
		all, err := s.watchAll(n)
		if err == nil && !n.learn(all) {
			err = no(codeOverflow, "Too many mailboxes to tell of")
		}
		if err == nil {
			n.notes, err = s.notesFor(n, all)
			err = s.answer("list annotations", err)
		}
		if err != nil {
			n.unwatch()
			return err
		}
		if asked.Status {
			s.tellFigures(n, all)
		}
	}
	s.unnotify()
	s.notify = n
	if s.sel != nil {
		s.sel.stale = true
	}
	return nil
}

func newNotification(asked *command.Notify) *notification {
	n := new(notification)
	for _, g := range asked.Groups {
		if g.Filter <= command.FilterDelayed {
			n.selected, n.items, n.delayed = g.Events, g.Items, g.Filter == command.FilterDelayed
			continue
		}
		if g.Events == 0 {
			continue
		}
		for i := range g.Names {
			g.Names[i] = canonicalName(g.Names[i])
		}
		n.others = append(n.others, g)
	}
	return n
}

// watchAll begins to watch for changes, and asks for all mailboxes behind that, so that nothing in between is missed.
func (s *session) watchAll(n *notification) (all []*folder, err error) {
	ctx, cancel := s.question()
	defer cancel()
	all, err = s.lookWith(ctx, n)
	return all, s.answer("list mailboxes", err)
}

// lookWith asks for the mailboxes of the account and what others share with it, all of which are watched before they are asked about. Who turns up that was
// not watched is asked once more.
func (s *session) lookWith(ctx context.Context, n *notification) ([]*folder, error) {
	n.watch(s, s.account)
	for {
		others, owners, err := s.sharedFolders(ctx)
		if err != nil {
			return nil, err
		}
		fresh := false
		for _, a := range owners {
			fresh = n.watch(s, a) || fresh
		}
		if fresh {
			continue
		}
		n.unwatchBut(append(owners, s.account))
		return s.foldersWith(ctx, others)
	}
}

// watch watches an account, and says whether it was not watched.
func (n *notification) watch(s *session, a client.Account) bool {
	if n.watched[a.ID] != nil {
		return false
	}
	if n.watched == nil {
		n.watched = make(map[uint64]func())
	}
	n.watched[a.ID] = s.mail.WatchFunc(a, 0, n.wakes.wake)
	return true
}

// unwatchBut ends the watches of all accounts but some.
func (n *notification) unwatchBut(list []client.Account) {
	for id, end := range n.watched {
		if !slices.ContainsFunc(list, func(a client.Account) bool { return a.ID == id }) {
			end()
			delete(n.watched, id)
		}
	}
}

func (n *notification) unwatch() { n.unwatchBut(nil) }

// unnotify ends what NOTIFY asked for.
func (s *session) unnotify() {
	if s.notify != nil {
		s.notify.unwatch()
		s.notify = nil
	}
}

// overflow tells a client that too much happens; it is as if it had said NOTIFY NONE (RFC 5465 section 5.8).
func (s *session) overflow() {
	s.unnotify()
	s.notify = new(notification)
	s.out.Raw("* OK [").Raw(string(codeOverflow)).Line("] Too much happens to tell of it")
}

// wanted are the events of the open mailbox that the client is told of. Without NOTIFY these are all.
func (s *session) wanted() command.Events {
	if s.notify == nil {
		return messageEvents
	}
	return s.notify.selected
}

// events are those that the client wants to hear of a mailbox that is not open.
func (n *notification) events(name string, subscribed bool) (events command.Events) {
	for i := range n.others {
		if g := &n.others[i]; covers(g, name, subscribed) {
			events |= g.Events
		}
	}
	return events
}

func covers(g *command.EventGroup, name string, subscribed bool) bool {
	switch g.Filter {
	case command.FilterSubscribed:
		return subscribed
	case command.FilterMailboxes:
		return slices.Contains(g.Names, name)
	case command.FilterSubtree:
		return slices.ContainsFunc(g.Names, func(top string) bool {
			rest, below := strings.CutPrefix(name, top)
			return below && (rest == "" || rest[0] == delimiter)
		})
	}
	_, _, others := foreign(name)
	return !others
}

// learn notes how the mailboxes are that the client wants to hear of; false if these are too many.
func (n *notification) learn(all []*folder) bool {
	n.known, n.subs = make(map[openMailbox]noticed), make(map[string]bool)
	for _, f := range all {
		if f.subscribed {
			n.subs[f.Name] = true
		}
		if f.exists && n.events(f.Name, f.subscribed) != 0 {
			n.known[f.key()] = noticedOf(&f.Mailbox)
		}
	}
	return len(n.known) <= maxWatched && len(n.subs) <= maxWatched
}

// notesFor are the annotations that there are, if the client wants to hear of them.
func (s *session) notesFor(n *notification, all []*folder) (map[noteKey]uint64, error) {
	wanted := func(g command.EventGroup) bool {
		return g.Events&(command.EventMailboxMetadata|command.EventServerMetadata) != 0
	}
	if !slices.ContainsFunc(n.others, wanted) || !s.mail.Sharing() {
		return nil, nil
	}
	ctx, cancel := s.question()
	defer cancel()
	accounts, now := map[uint64]client.Account{s.account.ID: s.account}, make(map[noteKey]uint64)
	for _, f := range all {
		if f.exists {
			accounts[f.owner.ID] = f.owner
		}
	}
	for id, a := range accounts {
		list, err := s.mail.Notes(ctx, a)
		if err != nil && !errors.Is(err, client.ErrNoMailbox) {
			return nil, err
		}
		for i := range list {
			if n := &list[i]; n.User == s.owner(n.Name) {
				now[noteKey{openMailbox{id, n.Mailbox}, n.Name}] = n.Seq
			}
		}
	}
	return now, nil
}

// has says whether a mailbox is the open one.
func (s *session) has(f *folder) bool {
	return s.sel != nil && s.sel.id == f.ID && s.sel.account.ID == f.owner.ID
}

// tellFigures tells how the mailboxes are whose messages' events are wanted (RFC 5465 section 3.1).
func (s *session) tellFigures(n *notification, all []*folder) {
	for _, f := range all {
		events := n.events(f.Name, f.subscribed)
		if !f.exists || f.NoSelect || events&messageEvents == 0 || s.has(f) || !f.rights.Has(client.RightRead) {
			continue
		}
		items := []command.StatusItem{command.StatusMessages, command.StatusUIDNext, command.StatusUIDValidity}
		if events&command.EventFlags != 0 {
			items = append(items, command.StatusModSeq)
		}
		s.tellStatus(f.owner, &f.Mailbox, items)
	}
}
