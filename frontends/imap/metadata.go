package imap

import (
	"bytes"
	"errors"
	"math"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/wire"
)

// Annotations (RFC 5464). Private ones are kept under the account of the user, shared ones under none. Those of the server that are shared would be everybody's: nobody may set
// them, and there are none.

// owner is whose an entry is.
func (s *session) owner(name string) uint64 {
	if strings.HasPrefix(name, "/private") {
		return s.account.ID
	}
	return 0
}

// getMetadata answers GETMETADATA. An entry that is named and is not there is NIL, unless those below it are asked for too.
func (s *session) getMetadata(c *call) error {
	asked, err := command.ParseGetMetadata(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, asked.Mailbox)
	var list []client.Annotation
	if err == nil {
		list, err = s.mail.Annotations(ctx, p.account, p.name)
	}
	if err != nil {
		return s.answer("get annotations of "+asked.Mailbox, err)
	}
	shown, values, longest := s.annotations(list, asked)
	if len(shown) > 0 {
		s.tellMetadata(p.shown, shown, values)
	}
	if longest > 0 {
		c.code = "METADATA LONGENTRIES " + decimal(uint64(longest))
	}
	return s.out.Err()
}

// annotations are those of a list that are asked for, and the length of the longest that is left out for its size.
func (s *session) annotations(list []client.Annotation, asked *command.GetMetadata) (shown []string, values map[string]*client.Annotation, longest int64) {
	values = make(map[string]*client.Annotation)
	for i := range list {
		n := &list[i]
		if n.User != s.owner(n.Name) || !within(n.Name, asked) {
			continue
		}
		if values[n.Name] = n; int64(len(n.Value)) > asked.MaxSize {
			longest = max(longest, int64(len(n.Value)))
		} else {
			shown = append(shown, n.Name)
		}
	}
	for _, e := range asked.Entries {
		if values[e] == nil && asked.Depth == 0 {
			values[e] = &client.Annotation{Name: e}
			shown = append(shown, e)
		}
	}
	return shown, values, longest
}

// annotated are the user's own mailboxes that have annotations, by their ids.
func (s *session) annotated() (map[uint32]bool, error) {
	if !s.mail.Sharing() {
		return nil, no(goimap.ResponseCodeUnavailable, "Annotations can be listed when all servers are updated")
	}
	ctx, cancel := s.question()
	defer cancel()
	list, err := s.mail.Notes(ctx, s.account)
	have := make(map[uint32]bool)
	for i := range list {
		have[list[i].Mailbox] = true
	}
	return have, s.answer("list annotations", err)
}

// listMetadata tells annotations of a mailbox that LIST showed (RFC 9590); have says whether it may have any.
func (s *session) listMetadata(f *folder, entries []string, have bool) error {
	var list []client.Annotation
	if have {
		ctx, cancel := s.question()
		defer cancel()
		var err error
		name := f.Name
		if f.owner.Guest != 0 {
			_, name, _ = foreign(name)
		}
		list, err = s.mail.Annotations(ctx, f.owner, name)
		if errors.Is(err, client.ErrNoMailbox) || errors.Is(err, client.ErrNoRight) {
			return nil // deleted meanwhile, or not for this user
		}
		if err != nil {
			return s.answer("get annotations of "+f.Name, err)
		}
	}
	shown, values, _ := s.annotations(list, &command.GetMetadata{Entries: entries, MaxSize: math.MaxInt64})
	s.tellMetadata(f.Name, shown, values)
	return s.out.Err()
}

// within says whether an entry is asked for, by its name or as one below another.
func within(name string, asked *command.GetMetadata) bool {
	for _, e := range asked.Entries {
		rest, ok := strings.CutPrefix(name, e)
		if ok && (rest == "" || rest[0] == '/' && strings.Count(rest, "/") <= asked.Depth) {
			return true
		}
	}
	return false
}

func (s *session) tellMetadata(mailbox string, names []string, values map[string]*client.Annotation) {
	out := s.out
	out.Raw("* METADATA ").Mailbox(mailbox).Raw(" (")
	for i, name := range names {
		if i > 0 {
			out.SP()
		}
		s.tellEntry(name)
		out.SP()
		switch v := values[name].Value; {
		case v == nil:
			out.Raw("NIL")
		case bytes.IndexByte(v, 0) >= 0:
			out.Binary(int64(len(v))).Raw(string(v))
		default:
			out.String(string(v))
		}
	}
	out.Line(")")
}

// tellEntry is an entry's name, mostly an atom.
func (s *session) tellEntry(name string) {
	if wire.IsAtom(name) {
		s.out.Raw(name)
	} else {
		s.out.String(name)
	}
}

// setMetadata answers SETMETADATA: all entries are set, or none.
func (s *session) setMetadata(*call) error {
	asked, err := command.ParseSetMetadata(s.dec)
	if err != nil {
		return err
	}
	if !s.mail.Sharing() {
		return no(goimap.ResponseCodeUnavailable, "Annotations can be kept when all servers are updated")
	}
	for i := range asked.Entries {
		n := &asked.Entries[i]
		if n.User = s.owner(n.Name); asked.Mailbox == "" && n.User == 0 {
			return no(goimap.ResponseCodeNoPerm, "Shared annotations of the server cannot be set")
		}
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, asked.Mailbox)
	if err == nil {
		err = s.mail.Annotate(ctx, p.account, p.name, asked.Entries)
	}
	if errors.Is(err, client.ErrLimit) {
		return no("METADATA TOOMANY", "Too many annotations")
	}
	if err == nil {
		s.notify.annotated(s, p, asked.Entries)
	}
	return s.answer("set annotations of "+asked.Mailbox, err)
}

// noteKey names an annotation.
type noteKey struct {
	mailbox openMailbox
	name    string
}

// changedNotes are the entries that differ from what the client knows, with those that are gone, by mailbox.
func changedNotes(was, now map[noteKey]uint64) map[openMailbox][]string {
	changed := make(map[openMailbox][]string)
	for k, seq := range now {
		if was[k] != seq {
			changed[k.mailbox] = append(changed[k.mailbox], k.name)
		}
	}
	for k := range was {
		if _, there := now[k]; !there {
			changed[k.mailbox] = append(changed[k.mailbox], k.name)
		}
	}
	return changed
}
