package imap

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

// Messages that go from one account to another are put there as new ones: their bytes are read and stored as those of an APPEND are, for the account that gets them,
// whose policy, keys and quota they come under. They enter in steps of as many as one command takes, all of a step or none. What a COPY entered before a step that
// fails is taken out again; a MOVE removes a step's messages when they are safe where they go, so that a failure leaves each in one place or in both.
//
// A guest needs two rights to remove messages, and the owner's shard is to decide about both by what he has then: he marks them \Deleted, which needs the one, and has
// removed what is marked, which needs the other.

// crossing is a COPY or MOVE to another account under way.
type crossing struct {
	s     *session
	sel   *selected
	to    place
	step  func(done client.CopyResult) error // after each step
	batch batch
	uids  []uint32 // in the batch
	size  int64    // of them
}

// cross carries messages over.
func (s *session) cross(sel *selected, uids *roaring.Bitmap, to place, step func(done client.CopyResult) error) error {
	x := &crossing{s: s, sel: sel, to: to, step: step}
	err := s.steps(uids, client.MaxBatch, func(some *roaring.Bitmap) error {
		list, err := s.load(sel, some, index.WantFlags|index.WantImmutable)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := x.add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = x.commit()
	}
	return err
}

// add puts a message where it is durable. One that the step has no room for begins the next.
func (x *crossing) add(e *entry) error {
	d, err := x.draft(e)
	if err != nil {
		return err
	}
	defer x.s.closeDraft(d)
	size := int64(e.ref.Length)
	if len(x.uids) > 0 && x.size+size > maxTogether*x.s.mail.MaxMessage() {
		if err := x.commit(); err != nil {
			return err
		}
	}
	err = x.put(e, d, size)
	if errors.Is(err, client.ErrLimit) && len(x.uids) > 0 {
		if err = x.commit(); err == nil {
			err = x.put(e, d, size)
		}
	}
	if err == nil {
		x.uids, x.size = append(x.uids, e.uid), x.size+size
	}
	return err
}

func (x *crossing) put(e *entry, d draft, size int64) error {
	if x.batch == nil {
		x.batch = x.s.mail.NewBatch(x.to.account, x.to.name)
	}
	ctx, cancel := x.s.storing(size)
	defer cancel()
	return x.batch.Add(ctx, d, e.flags, client.Date{Unix: e.date, Zone: e.zone})
}

// draft reads a message.
func (x *crossing) draft(e *entry) (draft, error) {
	r, err := x.s.openBytes(x.s.ctx, e, 0, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d := x.s.mail.NewDraft()
	if _, err := io.CopyBuffer(draftWriter{d}, r, make([]byte, copyBuffer)); err != nil {
		x.s.closeDraft(d)
		return nil, err
	}
	return d, nil
}

// commit enters a step's messages.
func (x *crossing) commit() error {
	if len(x.uids) == 0 {
		return nil
	}
	ctx, cancel := x.s.question()
	defer cancel()
	validity, first, err := x.batch.Commit(ctx)
	if err != nil {
		return err
	}
	done := client.CopyResult{UIDValidity: validity, Source: x.uids}
	for i := range x.uids {
		done.Dest = append(done.Dest, first+uint32(i))
	}
	x.batch, x.uids, x.size = nil, nil, 0
	return x.step(done)
}

// moveAcross moves messages to another account; tell is told of each step.
func (s *session) moveAcross(sel *selected, uids *roaring.Bitmap, to place, tell func(done client.CopyResult) error) error {
	return s.cross(sel, uids, to, func(done client.CopyResult) error {
		stay, err := s.takeAway(sel, roaring.BitmapOf(done.Source...))
		if errors.Is(err, client.ErrNoRight) { // after any other failure they may be gone where they were
			s.takeBack(to, done)
		}
		if err != nil {
			return err
		}
		moved, not := parted(done, stay)
		if err := tell(moved); err != nil || stay.IsEmpty() {
			return err
		}
		s.takeBack(to, not)
		return no("", "Somebody else took \\Deleted from some of the messages meanwhile, which are not moved")
	})
}

// parted tells what was moved from what stays.
func parted(done client.CopyResult, stay *roaring.Bitmap) (moved, not client.CopyResult) {
	moved.UIDValidity, not.UIDValidity = done.UIDValidity, done.UIDValidity
	for i, uid := range done.Source {
		of := &moved
		if stay.Contains(uid) {
			of = &not
		}
		of.Source, of.Dest = append(of.Source, uid), append(of.Dest, done.Dest[i])
	}
	return moved, not
}

// takeAway removes messages from where they were. Of a guest's those stay from which somebody else takes the mark in between. After client.ErrNoRight all do, marked as before.
func (s *session) takeAway(sel *selected, uids *roaring.Bitmap) (stay *roaring.Bitmap, err error) {
	ctx, cancel := s.question()
	defer cancel()
	sel.stale, stay = true, roaring.New()
	if sel.account.Guest == 0 {
		_, err := s.mail.Expunge(ctx, sel.account, sel.id, uids, false)
		return stay, err
	}
	marked, err := s.mail.StoreFlags(ctx, sel.account, sel.id, uids, index.OpAdd, client.Flags{System: index.FlagDeleted}, 0)
	if err != nil {
		return stay, err
	}
	gone, err := s.mail.Expunge(ctx, sel.account, sel.id, uids, true)
	if errors.Is(err, client.ErrNoRight) || errors.Is(err, client.ErrNoMailbox) {
		s.unmark(sel, marked.Changed)
	}
	if err != nil || gone.GetCardinality() == uids.GetCardinality() {
		return stay, err
	}
	// Some had been removed before. It is looked up as the owner: a right that is taken now must not make those seem refused that are gone.
	owner := sel.account
	owner.Guest = 0
	err = s.mail.Messages(ctx, owner, sel.id, roaring.AndNot(uids, gone), index.WantFlags, func(m *client.Message) error {
		stay.Add(m.UID)
		return nil
	})
	return stay, err
}

// unmark takes \Deleted from messages that a MOVE marked and may not remove, in the owner's name: the guest need not have the right any more.
func (s *session) unmark(sel *selected, marked []client.FlagChange) {
	owner, uids := sel.account, roaring.New()
	owner.Guest = 0
	for _, c := range marked {
		uids.Add(c.UID)
	}
	err := s.insist(func(ctx context.Context) error {
		_, err := s.mail.StoreFlags(ctx, owner, sel.id, uids, index.OpRemove, client.Flags{System: index.FlagDeleted}, 0)
		return err
	})
	if err != nil && !errors.Is(err, client.ErrNoMailbox) {
		s.log.Warn("messages of a MOVE that was refused stay marked \\Deleted until somebody unmarks them", "mailbox", sel.name, "messages", len(marked), "error", err)
	}
}
