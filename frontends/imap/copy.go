package imap

import (
	"context"
	"errors"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/pause"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
)

// COPY and MOVE go in steps of as many messages as one command of the cluster takes, each with its own time, all of a step or none. A COPY of which a step fails takes back what the
// ones before have entered (RFC 9051 section 6.4.7). A MOVE tells of each step, so that a client knows where what was moved is whatever comes of the rest.

// takeBackPause is between attempts to undo a part of a command, as to take back what a COPY has entered.
const takeBackPause = 500 * time.Millisecond

// copy copies messages to another mailbox, all or none.
func (s *session) copy(c *call) error {
	sel, uids, to, dest, err := s.transfer(c, s.open)
	if err != nil {
		return err
	}
	if uids.IsEmpty() {
		return s.answerInto("copy to "+dest, s.there(to))
	}
	sel.stale = true
	res, err := s.copyAll(sel, uids, to)
	if err != nil {
		return s.answerInto("copy to "+dest, err)
	}
	s.added(to, roaring.BitmapOf(res.Dest...))
	c.code = copyCode(res)
	return nil
}

// transfer reads the arguments of a COPY or MOVE from the mailbox that source gives: which messages, and to where, as the client calls it in dest.
func (s *session) transfer(c *call, source func() (*selected, error)) (sel *selected, uids *roaring.Bitmap, to place, dest string, err error) {
	set, dest, err := command.Copy(s.dec, c.uid)
	if err != nil {
		return nil, nil, to, dest, err
	}
	if sel, err = source(); err != nil {
		return nil, nil, to, dest, err
	}
	uids, lost, err := sel.resolve(set)
	if err == nil && lost {
		err = expungeIssued()
	}
	if err == nil {
		to, err = s.targetOf(dest)
	}
	return sel, uids, to, dest, err
}

// copyAll copies messages; after an error none of them.
func (s *session) copyAll(sel *selected, uids *roaring.Bitmap, to place) (all client.CopyResult, err error) {
	entered := func(done client.CopyResult) error {
		if len(all.Dest) > 0 && done.UIDValidity != all.UIDValidity {
			s.takeBack(to, done)
			return no(goimap.ResponseCodeUnavailable, "The mailbox has just been replaced by another one of its name, try again")
		}
		all.UIDValidity = done.UIDValidity
		all.Source, all.Dest = append(all.Source, done.Source...), append(all.Dest, done.Dest...)
		return nil
	}
	step, carry := uint64(client.MaxCopy), func() error { return s.within(sel, uids, to, s.mail.Copy, entered) }
	if to.account.ID != sel.account.ID {
		step, carry = client.MaxBatch, func() error { return s.cross(sel, uids, to, entered) }
	}
	if uids.GetCardinality() > step {
		err = s.fits(sel, uids, to)
	}
	if err == nil {
		err = carry()
	}
	if err != nil {
		s.takeBack(to, all)
	}
	return all, err
}

// fits refuses a COPY that its account has no room for before the first of its steps, each of which decides for itself.
func (s *session) fits(sel *selected, uids *roaring.Bitmap, to place) error {
	ctx, cancel := s.question()
	defer cancel()
	q, err := s.mail.Quota(ctx, to.account)
	if err != nil || q.Limits == (client.Limits{}) {
		return err
	}
	more := client.Usage{Messages: uids.GetCardinality()}
	err = s.mail.Messages(ctx, sel.account, sel.id, uids, index.WantFlags, func(m *client.Message) error {
		more.Bytes += m.Size
		return nil
	})
	if err != nil {
		return err
	}
	if err := q.Exceeded(q.Used, more); err != nil {
		return &client.QuotaError{Reason: err.Error()}
	}
	return nil
}

// carrying is Copy or Move of a mail.
type carrying func(ctx context.Context, a client.Account, mailbox uint32, uids *roaring.Bitmap, to string) (client.CopyResult, error)

// within copies or moves messages to another mailbox of their account; step is told of each step.
func (s *session) within(sel *selected, uids *roaring.Bitmap, to place, carry carrying, step func(done client.CopyResult) error) error {
	return s.steps(uids, client.MaxCopy, func(some *roaring.Bitmap) error {
		ctx, cancel := s.question()
		defer cancel()
		var done client.CopyResult
		err := s.patiently(func() (err error) {
			done, err = carry(ctx, to.account, sel.id, some, to.name)
			return err
		})
		if err != nil {
			return err
		}
		return step(done)
	})
}

// takeBack removes what a COPY has entered that then failed.
func (s *session) takeBack(to place, done client.CopyResult) {
	err := chunks(roaring.BitmapOf(done.Dest...), changeChunk, func(some *roaring.Bitmap) error {
		return s.insist(func(ctx context.Context) error { return s.takeOut(ctx, to, done.UIDValidity, some) })
	})
	if err != nil {
		s.log.Warn("copies of a COPY that failed could not be removed: they stay until somebody expunges them", "mailbox", to.shown, "messages", len(done.Dest), "error", err)
	}
}

// insist undoes a part of a command, also for a client that is gone. While the cluster cannot be asked it tries again, for as long as a question may take.
func (s *session) insist(undo func(ctx context.Context) error) error {
	return s.patiently(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.srv.cfg.Limits.CommandTimeout)
		defer cancel()
		for {
			err := undo(ctx)
			if !errors.Is(err, client.ErrUnavailable) || !pause.For(ctx, takeBackPause) {
				return err
			}
		}
	})
}

// takeOut removes messages from the mailbox that they were entered in, whatever its name is by now; if it was deleted, they are gone. It is done in the owner's name:
// the guest need not have the right to remove anything.
func (s *session) takeOut(ctx context.Context, to place, uidValidity uint32, uids *roaring.Bitmap) error {
	owner := to.account
	owner.Guest = 0
	all, err := s.mail.Mailboxes(ctx, owner)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].UIDValidity != uidValidity { // an account has no two of one
			continue
		}
		if _, err := s.mail.Expunge(ctx, owner, all[i].ID, uids, false); !errors.Is(err, client.ErrNoMailbox) {
			return err
		}
	}
	return nil
}

// there says whether there is a mailbox, for a command that puts nothing into it.
func (s *session) there(p place) error {
	ctx, cancel := s.question()
	defer cancel()
	_, err := s.mail.Rights(ctx, p.account, p.name)
	return err
}

// copyCode is the response code that says which UIDs became which (RFC 4315), "" when nothing was copied.
func copyCode(res client.CopyResult) string {
	if len(res.Source) == 0 || len(res.Source) != len(res.Dest) {
		return ""
	}
	return "COPYUID " + decimal(res.UIDValidity) + " " + uidList(res.Source).String() + " " + uidList(res.Dest).String()
}

// move moves messages (RFC 6851). What a failure leaves is in one place or the other, never in both.
func (s *session) move(c *call) error {
	sel, uids, to, dest, err := s.transfer(c, func() (*selected, error) {
		sel, err := s.writable()
		if err == nil {
			err = sel.may(client.RightDelete | client.RightExpunge)
		}
		return sel, err
	})
	if err != nil {
		return err
	}
	if uids.IsEmpty() {
		return s.answerInto("move to "+dest, s.there(to))
	}
	moved := func(res client.CopyResult) error {
		sel.stale = true
		s.added(to, roaring.BitmapOf(res.Dest...))
		if code := copyCode(res); code != "" {
			s.out.Raw("* OK [").Raw(code).Line("] Moved")
		}
		sel.view.vanish(roaring.BitmapOf(res.Source...))
		return s.tellGone(&sel.view)
	}
	if to.account.ID == sel.account.ID {
		err = s.within(sel, uids, to, s.mail.Move, moved)
	} else {
		err = s.moveAcross(sel, uids, to, moved)
	}
	c.highest = true
	return s.answerInto("move to "+dest, err)
}
