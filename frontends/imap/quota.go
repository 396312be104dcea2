package imap

import (
	"context"
	"errors"
	"slices"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

// QUOTA (RFC 9208). An account has one quota root, of the name "", for all its mailboxes; that of another one has its address for a name. Resources without a limit are not told.

// codeOverQuota refuses what an account has no room for (RFC 9208 section 4.3).
const codeOverQuota goimap.ResponseCode = "OVERQUOTA"

const kib = 1 << 10 // STORAGE counts in these (RFC 9208 section 5.1)

// getQuota answers GETQUOTA.
func (s *session) getQuota(*call) error {
	root, err := command.QuotaRoot(s.dec)
	if err != nil {
		return err
	}
	if root == "" {
		return s.tellQuota(s.account, root)
	}
	ctx, cancel := s.question()
	defer cancel()
	owner, err := s.rootOf(ctx, root)
	if errors.Is(err, client.ErrNoMailbox) {
		return no(goimap.ResponseCodeNonExistent, "No such quota root")
	}
	if err != nil {
		return s.answer("look the quota up", err)
	}
	return s.tellQuota(owner, owner.Address)
}

// rootOf finds the account whose quota root has a name, for those who may read a mailbox of it, whom GETQUOTAROOT tells of it. ErrNoMailbox: nobody else hears whether there is one.
func (s *session) rootOf(ctx context.Context, root string) (client.Account, error) {
	if !s.mail.Sharing() {
		return client.Account{}, client.ErrNoMailbox
	}
	owner, err := s.mail.Visit(ctx, s.account, root)
	if err != nil {
		return client.Account{}, err
	}
	all, err := s.mail.Shared(ctx, s.account)
	if err != nil {
		return client.Account{}, err
	}
	reads := func(r client.Rights) bool { return r.Has(client.RightRead) }
	for i := range all {
		if all[i].Owner.ID == owner.ID && slices.ContainsFunc(all[i].Rights, reads) {
			return owner, nil
		}
	}
	return client.Account{}, client.ErrNoMailbox
}

// getQuotaRoot answers GETQUOTAROOT. A mailbox of one's own need not exist; who may read one of another account may see how much that holds.
func (s *session) getQuotaRoot(*call) error {
	name, err := command.Mailbox(s.dec)
	if err != nil {
		return err
	}
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, name)
	root := ""
	if err == nil && !p.own() {
		root = p.account.Address
		var has client.Rights
		if has, err = s.mail.Rights(ctx, p.account, p.name); err == nil {
			err = lacking(has, client.RightRead)
		}
	}
	if err != nil {
		return s.answer("look the quota root up", err)
	}
	s.out.Raw("* QUOTAROOT ").Mailbox(p.shown).SP().String(root)
	s.out.Line("")
	return s.tellQuota(p.account, root)
}

func (s *session) tellQuota(a client.Account, root string) error {
	ctx, cancel := s.question()
	defer cancel()
	q, err := s.mail.Quota(ctx, a)
	if err != nil {
		return s.answer("look the quota up", err)
	}
	s.out.Raw("* QUOTA ").String(root)
	s.out.Raw(" (")
	if q.Bytes > 0 { // what is used is rounded up, and what may be used down
		s.out.Raw("STORAGE ").Num((q.Used.Bytes + kib - 1) / kib).SP().Num(q.Bytes / kib)
	}
	if q.Messages > 0 {
		if q.Bytes > 0 {
			s.out.SP()
		}
		s.out.Raw("MESSAGE ").Num(q.Used.Messages).SP().Num(q.Messages)
	}
	s.out.Line(")")
	return nil
}

// room refuses a message that the account has no room for before it is sent. That nobody could be asked is no reason to: the shard decides.
func (s *session) room(into *place, size int64) error {
	ctx, cancel := s.question()
	defer cancel()
	err := s.mail.Room(ctx, into.account, uint64(size))
	if over := (*client.QuotaError)(nil); errors.As(err, &over) {
		return s.answer("append", err)
	}
	return nil
}

// setQuota refuses SETQUOTA: limits are the operators' to set.
func (s *session) setQuota(*call) error {
	if err := command.SetQuota(s.dec); err != nil {
		return err
	}
	return no(goimap.ResponseCodeNoPerm, "Quotas are set by the operators")
}

// deletedStorage is the size of a mailbox's messages that are marked \Deleted, which the index does not count by itself.
func (s *session) deletedStorage(a client.Account, m *client.Mailbox) (size uint64, err error) {
	if m.Deleted == 0 {
		return 0, nil
	}
	ctx, cancel := s.question()
	defer cancel()
	marked, err := s.mail.Flagged(ctx, a, m.ID, index.FlagDeleted)
	if err == nil {
		err = s.mail.Messages(ctx, a, m.ID, marked, index.WantFlags, func(m *client.Message) error {
			size += m.Size
			return nil
		})
	}
	return size, err
}
