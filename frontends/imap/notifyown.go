package imap

import (
	"bytes"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

// What a client did itself is not told to it by NOTIFY (RFC 5465 section 5). Of mailboxes' names it knows; what it did to messages and annotations is looked up,
// since others may have been at them as well: only where nothing else happened is there nothing to tell.

// added is of messages that the client put into a mailbox.
func (s *session) added(p place, uids *roaring.Bitmap) {
	if s.sel != nil && s.sel.name == p.shown {
		s.sel.mine.Or(uids)
	}
	id, was, ok := s.notify.watches(p.shown)
	if !ok || uids.IsEmpty() {
		return
	}
	ctx, cancel := s.question()
	defer cancel()
	ch, err := s.mail.Changes(ctx, p.account, id.folder, was.modseq)
	if err != nil || ch.More || !ch.Vanished.IsEmpty() || uint64(len(ch.Changed)) != uids.GetCardinality() {
		return
	}
	for _, c := range ch.Changed {
		if !uids.Contains(c.UID) || c.ModSeq != ch.HighestModSeq {
			return // more than this one change
		}
		if c.Flags.System&index.FlagSeen == 0 {
			was.unseen++
		}
	}
	was.messages += uint32(len(ch.Changed))
	was.uidNext, was.modseq = ch.UIDNext, ch.HighestModSeq
	s.notify.known[id] = was
}

// uidsFrom is count UIDs that follow each other.
func uidsFrom(first uint32, count int) *roaring.Bitmap {
	uids := roaring.New()
	uids.AddRange(uint64(first), uint64(first)+uint64(count))
	return uids
}

// annotated is of annotations that the client set.
func (n *notification) annotated(s *session, p place, set []client.Annotation) {
	id, _, ok := n.watches(p.shown)
	if n == nil || n.notes == nil || !ok && p.shown != "" {
		return
	}
	if !ok {
		id.account = p.account.ID // the server's own
	}
	ctx, cancel := s.question()
	defer cancel()
	list, err := s.mail.Annotations(ctx, p.account, p.name)
	if err != nil {
		return
	}
	for i := range set {
		mine, key := &set[i], noteKey{id, set[i].Name}
		at := slices.IndexFunc(list, func(a client.Annotation) bool { return a.User == mine.User && a.Name == mine.Name })
		switch {
		case at < 0 && mine.Value == nil:
			delete(n.notes, key)
		case at >= 0 && mine.Value != nil && bytes.Equal(list[at].Value, mine.Value):
			n.notes[key] = list[at].Seq
		}
	}
}

// watches finds a mailbox that the client may be told of.
func (n *notification) watches(name string) (id openMailbox, as noticed, ok bool) {
	if n == nil {
		return openMailbox{}, noticed{}, false
	}
	for id, m := range n.known {
		if m.name == name {
			return id, m, true
		}
	}
	return openMailbox{}, noticed{}, false
}

func (n *notification) made(a client.Account, m *client.Mailbox) {
	if n != nil && n.known != nil {
		n.known[openMailbox{a.ID, m.ID}] = noticedOf(m)
	}
}

func (n *notification) deleted(name string) {
	if n == nil {
		return
	}
	for id, was := range n.known {
		if was.name == name {
			delete(n.known, id)
		}
	}
}

func (n *notification) renamed(from, to string) {
	if n == nil {
		return
	}
	for id, was := range n.known {
		if rest, ok := strings.CutPrefix(was.name, from); ok && (rest == "" || rest[0] == delimiter) {
			was.name = to + rest
			n.known[id] = was
		}
	}
}

func (n *notification) subscribed(name string, on bool) {
	switch {
	case n == nil || n.subs == nil:
	case on:
		n.subs[name] = true
	default:
		delete(n.subs, name)
	}
}
