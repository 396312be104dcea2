package imap

import (
	"context"
	"errors"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

// Access control lists (RFC 4314). Users are named by the addresses of their accounts; an account's owner has all rights on its mailboxes, which nobody can take.

// atACL finds the mailbox that a command about rights names, if all servers know of rights.
func (s *session) atACL(ctx context.Context, name string) (place, error) {
	if !s.mail.Sharing() {
		return place{}, no(goimap.ResponseCodeUnavailable, "Mailboxes can be shared when all servers are updated")
	}
	return s.placeOf(ctx, name)
}

// userOf finds the account that an identifier means.
func (s *session) userOf(ctx context.Context, identifier string) (client.Account, error) {
	if id := strings.ToLower(identifier); id == "" || id == "anyone" || id == "anonymous" || strings.ContainsRune("-$", rune(id[0])) {
		return client.Account{}, no(goimap.ResponseCodeCannot, "Rights are given to accounts only, each by its address: not to anyone, nor to groups, nor with a minus")
	}
	a, err := s.mail.Resolve(ctx, identifier)
	if err != nil && !errors.Is(err, client.ErrUnavailable) {
		err = no(goimap.ResponseCodeCannot, "No account has this address")
	}
	return a, err
}

// setACL answers SETACL.
func (s *session) setACL(*call) error {
	asked, err := command.ParseSetACL(s.dec)
	if err != nil {
		return err
	}
	return s.share(asked)
}

// deleteACL answers DELETEACL, also for a user who has no rights.
func (s *session) deleteACL(*call) error {
	name, identifier, err := command.Identified(s.dec)
	if err != nil {
		return err
	}
	return s.share(&command.SetACL{Mailbox: name, Identifier: identifier, Op: index.OpSet})
}

func (s *session) share(asked *command.SetACL) error {
	ctx, cancel := s.question()
	defer cancel()
	doing := "share " + asked.Mailbox
	p, err := s.atACL(ctx, asked.Mailbox)
	if err != nil {
		return s.answer(doing, err)
	}
	has, err := s.mail.Rights(ctx, p.account, p.name)
	if err == nil {
		err = lacking(has, client.RightAdminister) // before anything is said of the user
	}
	if err != nil {
		return s.answer(doing, err)
	}
	user, err := s.userOf(ctx, asked.Identifier)
	if err != nil {
		return s.answer(doing, err)
	}
	if user.ID == p.account.ID {
		if asked.Op == index.OpAdd || asked.Op == index.OpSet && asked.Rights == client.RightsAll || asked.Rights == 0 && asked.Op == index.OpRemove {
			return nil
		}
		return no(goimap.ResponseCodeCannot, "The owner of a mailbox has all rights")
	}
	err = s.mail.Share(ctx, p.account, p.name, user, asked.Op, asked.Rights)
	if errors.Is(err, client.ErrLimit) {
		return no(goimap.ResponseCodeLimit, "Too many users have rights here, or too many accounts share something with this one")
	}
	return s.answer(doing, err)
}

// getACL answers GETACL, with the owner first.
func (s *session) getACL(*call) error {
	name, err := command.Mailbox(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.atACL(ctx, name)
	var list []client.Grant
	if err == nil {
		list, err = s.mail.Grants(ctx, p.account, p.name)
	}
	if err != nil {
		return s.answer("list rights on "+name, err)
	}
	s.out.Raw("* ACL ").Mailbox(p.shown)
	s.tellGrant(p.account.Address, client.RightsAll)
	for _, g := range list {
		s.tellGrant(g.Address, g.Rights)
	}
	return s.out.Line("").Err()
}

func (s *session) tellGrant(identifier string, r client.Rights) {
	s.out.SP().String(identifier)
	s.out.SP().Raw(command.Rights(r))
}

// listRights answers LISTRIGHTS: an owner always has all, others can be given each by itself. The identifier comes back as the client wrote it.
func (s *session) listRights(*call) error {
	name, identifier, err := command.Identified(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	doing := "list rights on " + name
	p, err := s.atACL(ctx, name)
	if err != nil {
		return s.answer(doing, err)
	}
	has, err := s.mail.Rights(ctx, p.account, p.name)
	if err == nil {
		err = lacking(has, client.RightAdminister)
	}
	var user client.Account
	if err == nil {
		user, err = s.userOf(ctx, identifier)
	}
	if err != nil {
		return s.answer(doing, err)
	}
	s.out.Raw("* LISTRIGHTS ").Mailbox(p.shown).SP().String(identifier)
	all := command.Rights(client.RightsAll)
	if user.ID == p.account.ID {
		return s.out.SP().Raw(all).Line("").Err()
	}
	s.out.Raw(` ""`)
	for i := range len(all) {
		s.out.SP().Raw(all[i : i+1])
	}
	return s.out.Line("").Err()
}

// myRights answers MYRIGHTS.
func (s *session) myRights(*call) error {
	name, err := command.Mailbox(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.atACL(ctx, name)
	var has client.Rights
	if err == nil {
		has, err = s.mail.Rights(ctx, p.account, p.name)
	}
	if err != nil {
		return s.answer("look up rights on "+name, err)
	}
	s.tellMyRights(p.shown, has)
	return s.out.Err()
}

func (s *session) tellMyRights(name string, r client.Rights) {
	s.out.Raw("* MYRIGHTS ").Mailbox(name).SP().Raw(command.Rights(r)).Line("")
}
