package imap

import (
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
		ctx, cancel := s.question()
		defer cancel()
		if _, err := s.mail.Expunge(ctx, sel.account, sel.id, roaring.BitmapOf(done.Source...), false); err != nil {
			if errors.Is(err, client.ErrNoRight) { // after any other failure they may be gone where they were
				s.takeBack(to, done)
			}
			return err
		}
		return tell(done)
	})
}
