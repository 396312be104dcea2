package imap

import (
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// replace appends a message to some mailbox and removes one of the open mailbox in the same step (RFC 8508). If that one is gone, nothing is done: whoever edited the
// draft meanwhile has made another.
func (s *session) replace(c *call) error {
	set, name, err := command.Replace(s.dec, c.uid)
	if err != nil {
		return err
	}
	sel, old, err := s.replaced(set)
	if err != nil {
		return err
	}
	to, err := s.targetOf(name)
	switch {
	case err != nil:
		return err
	case to.account.ID != sel.account.ID:
		return no(goimap.ResponseCodeCannot, "A message and what replaces it are in mailboxes of one account")
	}
	m, more, err := s.take(nil) // there is the old one's
	if err != nil {
		return err
	}
	defer s.closeDraft(m.draft)
	if more {
		return bad("REPLACE takes one message")
	}
	ctx, cancel := s.storing(m.size)
	defer cancel()
	validity, uid, err := s.mail.Replace(ctx, to.account, sel.id, old, to.name, m.draft, m.flags, m.date)
	if errors.Is(err, client.ErrNoMessage) {
		return expungeIssued()
	}
	if err != nil {
		return s.answerInto("replace a message by one in "+to.shown, err)
	}
	s.appended(1, m.size)
	s.added(to, uidsFrom(uid, 1))
	s.out.Raw("* OK [APPENDUID ").Num(uint64(validity)).SP().Num(uint64(uid)).Line("] Replacement message ready") // section 4.3: before EXPUNGE
	sel.view.vanish(roaring.BitmapOf(old))
	c.highest = true
	return s.tellGone(&sel.view)
}

// replaced is the UID of the message that is to go.
func (s *session) replaced(set goimap.NumSet) (*selected, uint32, error) {
	sel, err := s.writable()
	if err != nil {
		return nil, 0, err
	}
	if err := sel.may(client.RightDelete | client.RightExpunge); err != nil {
		return nil, 0, err
	}
	uids, lost, err := sel.resolve(set)
	switch {
	case err != nil:
		return nil, 0, err
	case lost, uids.IsEmpty():
		return nil, 0, expungeIssued()
	case !s.mail.Sharing():
		return nil, 0, no(goimap.ResponseCodeUnavailable, "Messages can be replaced when all servers are updated")
	}
	return sel, uids.Minimum(), nil
}
