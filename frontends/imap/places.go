package imap

import (
	"context"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

// Mailboxes of other accounts (RFC 4314) are named "Other Users/<address>/<name>", where the address is the owner's. A place is where such a name leads: what acts on a mailbox does it
// there, as the owner's guest, and the owner's shard decides what he may do. A name below othersPrefix without an address is one of the user's own.

const othersPrefix = "Other Users/"

// place is a mailbox that a command names.
type place struct {
	account client.Account // whose it is
	name    string         // there
	shown   string         // to the client
}

// own says whether it is the user's own.
func (p *place) own() bool { return p.account.Guest == 0 }

// foreign takes the name of another account's mailbox apart.
func foreign(name string) (address, rest string, ok bool) {
	rest, ok = strings.CutPrefix(name, othersPrefix)
	if !ok {
		return "", "", false
	}
	address, rest, _ = strings.Cut(rest, string(delimiter))
	return strings.ToLower(address), rest, strings.Contains(address, "@")
}

// shownAs is the name by which a client knows a mailbox of an account.
func shownAs(a client.Account, name string) string {
	if a.Guest == 0 {
		return name
	}
	return othersPrefix + a.Address + string(delimiter) + name
}

// placeOf finds where a name leads. Nothing is said of whether there is such a mailbox.
func (s *session) placeOf(ctx context.Context, name string) (place, error) {
	name = canonicalName(name)
	address, rest, ok := foreign(name)
	if !ok || !s.mail.Sharing() {
		return place{s.account, name, name}, nil
	}
	if rest == "" {
		return place{}, client.ErrNoMailbox
	}
	a, err := s.mail.Visit(ctx, s.account, address)
	rest = canonicalName(rest)
	return place{a, rest, shownAs(a, rest)}, err
}

// targetOf is placeOf for a mailbox that messages are to enter, with the answer of the command. A guest who may not do that hears so before he sends them.
func (s *session) targetOf(name string) (place, error) {
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, name)
	if err == nil && !p.own() {
		var has client.Rights
		if has, err = s.mail.Rights(ctx, p.account, p.name); err == nil {
			err = lacking(has, client.RightInsert)
		}
	}
	return p, s.answerInto("enter messages in "+name, err)
}

// lacking is how who needs some rights is refused, as the cluster would; nil if he has them.
func lacking(has, needs client.Rights) error {
	switch {
	case has.Has(needs):
		return nil
	case has.Has(client.RightLookup):
		return client.ErrNoRight
	}
	return client.ErrNoMailbox
}

// may refuses what the rights on the open mailbox do not allow.
func (sel *selected) may(needs client.Rights) error {
	if sel.rights.Has(needs) {
		return nil
	}
	return noRight()
}

// mayRead asks whether a guest may still read the open mailbox, for what is answered without a question to the cluster. It is asked about no message, so that costs nothing else.
func (s *session) mayRead(sel *selected) error {
	if sel.account.Guest == 0 {
		return nil
	}
	ctx, cancel := s.question()
	defer cancel()
	return s.mail.Messages(ctx, sel.account, sel.id, roaring.New(), index.WantFlags, func(*client.Message) error { return nil })
}

func noRight() error {
	return no(goimap.ResponseCodeNoPerm, "You have no right to do this with the mailbox")
}

// sharedFolders are the mailboxes of others that the user may know of, and all accounts that may share some.
func (s *session) sharedFolders(ctx context.Context) (list []*folder, owners []client.Account, err error) {
	if !s.mail.Sharing() {
		return nil, nil, nil
	}
	all, err := s.mail.Shared(ctx, s.account)
	for _, of := range all {
		if of.Owner.ID == 0 { // could not be asked
			continue
		}
		owners = append(owners, of.Owner)
		for i, m := range of.Folders {
			list = append(list, &folder{Mailbox: seen(of.Owner, m), owner: of.Owner, rights: of.Rights[i], exists: true})
		}
	}
	return list, owners, err
}

// seen is a mailbox as the client is shown it: the special uses of others' are not his, and none of their messages is \Recent to him.
func seen(a client.Account, m client.Mailbox) client.Mailbox {
	if m.Name = shownAs(a, m.Name); a.Guest != 0 {
		m.SpecialUse, m.Recent = "", 0
	}
	return m
}
