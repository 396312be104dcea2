package rebuild

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

const (
	// slack is how long before a checkpoint a message may have arrived and still not be in it.
	slack = 24 * 3600 // seconds
	// ahead is by how much log entries are numbered further than any that can have been applied after the checkpoint.
	ahead = 1 << 32
	// dropBatch is how many messages are expunged at once.
	dropBatch = 10_000
	// commitEvery is how many entries make a transaction.
	commitEvery = 500
)

// candidate is a message that may have to be entered in a shard.
type candidate struct {
	arrived  int64
	at       place
	delivery [16]byte
}

// shardRun is the rebuilding of one mailbox shard.
type shardRun struct {
	r       *run
	number  uint32
	store   *index.Shard
	machine *mailbox.Machine
	since   int64                         // messages that arrived before are in the checkpoint, or were expunged
	refs    map[volume.ID]*roaring.Bitmap // records that the checkpoint refers to
	pending []candidate
	entered map[[16]byte]bool // deliveries that were entered before the checkpoint
	report  ShardReport
}

// origin reads what a message's record says of where it went.
func origin(vs *Volumes, at place) (*mailbox.Origin, error) {
	info, err := vs.get(at.volume, at.record)
	if err != nil {
		return nil, err
	}
	o := new(mailbox.Origin)
	if err := codec.Unmarshal(info.Meta, o); err != nil {
		return nil, fmt.Errorf("origin of record %d of volume %s: %w", at.record, at.volume, err)
	}
	return o, nil
}

// references notes what the checkpoint refers to.
func (s *shardRun) references() (err error) {
	s.refs = make(map[volume.ID]*roaring.Bitmap)
	v := s.store.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.Holders(func(h index.Holder) error {
		set := s.refs[h.Volume]
		if set == nil {
			set = roaring.New()
			s.refs[h.Volume] = set
		}
		set.Add(uint32(h.Record)) // at most volume.MaxRecords
		return nil
	})
}

// refers says whether the checkpoint does, to a record.
func (s *shardRun) refers(id volume.ID, record uint64) bool {
	set := s.refs[id]
	return set != nil && set.Contains(uint32(record))
}

// consider sorts a message out or keeps it for step 3.
func (s *shardRun) consider(at place, o *mailbox.Origin) error {
	refers := s.refers(at.volume, at.record)
	for _, b := range o.Before {
		refers = refers || s.refers(b.Volume, b.Record)
	}
	if refers {
		s.entered[o.Delivery] = true
		return nil
	}
	for _, t := range o.Targets {
		lacks, err := s.lacks(t.Account, o)
		if err != nil {
			return err
		}
		if lacks {
			s.pending = append(s.pending, candidate{arrived: o.Arrived, at: at, delivery: o.Delivery})
			break
		}
	}
	return nil
}

// settle drops those candidates that were entered before the checkpoint, as its remembered requests tell, and duplicates: a
// delivery may have been stored twice when its first volume was slow.
func (s *shardRun) settle() error {
	slices.SortFunc(s.pending, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.arrived, b.arrived), cmp.Compare(a.at.volume, b.at.volume), cmp.Compare(a.at.record, b.at.record))
	})
	txn := s.store.Begin()
	defer txn.Discard()
	kept := s.pending[:0]
	for _, c := range s.pending {
		if s.entered[c.delivery] {
			continue
		}
		_, known, err := txn.Recall(mailbox.Request(c.delivery, s.number))
		if err != nil {
			return err
		}
		s.entered[c.delivery] = true
		if !known {
			kept = append(kept, c)
		}
	}
	s.pending = kept
	return nil
}

// enter applies the candidates as log entries behind all that were.
func (s *shardRun) enter() error {
	if err := s.settle(); err != nil {
		return err
	}
	applied, err := s.store.Applied()
	if err != nil {
		return err
	}
	next := applied + ahead
	for len(s.pending) > 0 {
		n := min(len(s.pending), commitEvery)
		err := s.transact(func(txn *index.Txn) (uint64, error) {
			for _, c := range s.pending[:n] {
				next++
				txn.SetIndex(next)
				if err := s.one(txn, c); err != nil {
					return 0, err
				}
			}
			return next, nil
		})
		if err != nil {
			return err
		}
		s.pending = s.pending[n:]
	}
	return s.close(next + 1)
}

// close is step 5: the last entry.
func (s *shardRun) close(at uint64) error {
	s.report.Applied = at - 1
	return s.entry(func(txn *index.Txn) error {
		for _, account := range s.r.accounts[s.number] {
			if err := txn.Revalidate(account, s.r.o.Now); err != nil {
				return err
			}
		}
		return nil
	})
}

// entry does what one log entry would, behind all that were.
func (s *shardRun) entry(do func(txn *index.Txn) error) error {
	next := s.report.Applied + 1
	err := s.transact(func(txn *index.Txn) (uint64, error) {
		txn.SetIndex(next)
		return next, do(txn)
	})
	if err == nil {
		s.report.Applied = next
	}
	return err
}

// transact commits what do does; that gives the last entry.
func (s *shardRun) transact(do func(txn *index.Txn) (last uint64, err error)) error {
	txn := s.store.Begin()
	last, err := do(txn)
	if err == nil {
		err = txn.Commit(last)
	}
	if err != nil {
		txn.Discard()
	}
	return err
}

// one enters a message in the folders of this shard that it was for.
func (s *shardRun) one(txn *index.Txn, c candidate) error {
	o, err := origin(s.r.vs, c.at)
	if err != nil {
		return err
	}
	entry, err := s.message(c, o)
	if errors.Is(err, errUnreadable) {
		s.report.Unreadable++
		return nil
	}
	if err != nil {
		return err
	}
	var result []byte
	commands, err := s.commands(o, entry)
	if err != nil {
		return err
	}
	for _, cmd := range commands {
		body, err := cmd.Encode()
		if err != nil {
			return err
		}
		if result, err = s.machine.Apply(txn, o.Arrived, body); err != nil {
			return err
		}
		answer, err := mailbox.DecodeResult(result)
		if err != nil {
			return err
		}
		switch {
		case answer.Code == mailbox.Exists: // the folder
		case answer.Code != mailbox.OK || len(answer.Refused) > 0:
			s.report.Refused++
			s.r.o.Say("shard %d: record %d of volume %s is not entered: %s%v", s.number, c.at.record, c.at.volume, answer.Message, answer.Refused)
		case cmd.Create == nil:
			s.report.Entered++
		}
	}
	return txn.Remember(mailbox.Request(c.delivery, s.number), result)
}

// commands are those that enter a message; a folder that was made after the checkpoint is made again.
func (s *shardRun) commands(o *mailbox.Origin, m *mailbox.Message) (list []mailbox.Command, err error) {
	var delivery mailbox.Deliver
	for _, t := range o.Targets {
		lacks, err := s.lacks(t.Account, o)
		switch {
		case err != nil:
			return nil, err
		case !lacks:
		case t.Mailbox == mailbox.Inbox:
			delivery.Add(t.Account, mailbox.Terms{Detail: t.Detail})
		default:
			list = append(list, mailbox.Command{Create: &mailbox.Create{Account: t.Account, Name: t.Mailbox}},
				mailbox.Command{Append: &mailbox.Append{Account: t.Account, Mailbox: t.Mailbox, Message: *m}})
		}
	}
	if len(delivery.Accounts) > 0 {
		delivery.Message = *m
		list = append(list, mailbox.Command{Deliver: &delivery})
	}
	return list, nil
}

// errUnreadable is wrapped by what is wrong with one message's bytes.
var errUnreadable = errors.New("no copy gives the message")

// message computes what the index keeps of a message, as the frontend that took it in did.
func (s *shardRun) message(c candidate, o *mailbox.Origin) (*mailbox.Message, error) {
	info, err := s.r.vs.get(c.at.volume, c.at.record)
	if err != nil {
		return nil, err
	}
	ref := volume.Ref{Volume: c.at.volume, Record: c.at.record, Length: info.Length, Hash: info.Hash}
	m, err := o.Message(ref, info.Sealed, func(w io.Writer) error {
		err := s.r.vs.content(c.at.volume, c.at.record, info.Length, w)
		if err != nil {
			s.r.o.Say("shard %d: record %d of volume %s: %v", s.number, c.at.record, c.at.volume, err)
			err = fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return err
	})
	if errors.Is(err, mailbox.ErrHash) {
		err = fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return m, err
}

// missing is step 4: messages whose bytes are gone. Those that were put again are entered where they are now, the others removed with drop.
func (s *shardRun) missing(drop bool) error {
	gone := make(map[box]*roaring.Bitmap)
	var moved []index.Holder
	v := s.store.View()
	err := v.Holders(func(h index.Holder) error {
		if s.r.readable(h.Volume, h.Record) {
			return nil
		}
		if _, ok := s.r.heirs[record{h.Volume, h.Record}]; ok {
			moved = append(moved, h)
			return nil
		}
		b := box{h.Account, h.Mailbox}
		if gone[b] == nil {
			gone[b] = roaring.New()
		}
		gone[b].Add(h.UID)
		s.report.Missing++
		return nil
	})
	if err = errors.Join(err, v.Close()); err == nil {
		err = s.rehouse(moved)
	}
	if err != nil || !drop {
		return err
	}
	for b, uids := range gone {
		for list := range slices.Chunk(uids.ToArray(), dropBatch) {
			if err := s.drop(b, roaring.BitmapOf(list...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rehouse enters messages in the places that their bytes were put to again after the checkpoint.
func (s *shardRun) rehouse(moved []index.Holder) error {
	for list := range slices.Chunk(moved, commitEvery) {
		err := s.entry(func(txn *index.Txn) error {
			for _, h := range list {
				if err := s.follow(txn, h); err != nil && !errors.Is(err, index.ErrNoMailbox) { // of a deleted folder, whose rows are still to be swept
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// follow changes one entry to the present place of its bytes, which are the same by length and hash.
func (s *shardRun) follow(txn *index.Txn, h index.Holder) (err error) {
	v := s.store.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	at := s.r.heirs[record{h.Volume, h.Record}]
	return v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable|index.WantSummary, func(m *index.Message) error {
		ref := m.Ref
		ref.Volume, ref.Record = at.volume, at.record
		_, err := txn.Amend(h.Account, h.Mailbox, &index.Amendment{UID: h.UID, Seen: m.Ref, Ref: ref, Size: m.Size, Date: m.Date, Zone: m.Zone, Summary: m.Summary})
		s.report.Rehoused++
		return err
	})
}

// drop expunges messages of one folder, as a log entry of its own.
func (s *shardRun) drop(b box, uids *roaring.Bitmap) error {
	return s.entry(func(txn *index.Txn) error {
		gone, err := txn.Expunge(b.account, b.mailbox, uids, false)
		if gone != nil && err == nil {
			s.report.Dropped += gone.GetCardinality()
		}
		if errors.Is(err, index.ErrNoMailbox) { // of a deleted folder, whose rows are still to be swept
			err = nil
		}
		return err
	})
}

type box struct {
	account uint64
	mailbox uint32
}

// readable says whether a record is there, and has its key. Damage counts as there: repair may still find it elsewhere.
func (r *run) readable(id volume.ID, record uint64) bool {
	if r.cold[id] {
		return true
	}
	info, err := r.vs.stat(id, record)
	if err == nil && info.Sealed {
		_, err = r.vs.get(id, record)
	}
	return !errors.Is(err, volume.ErrNotFound) && !errors.Is(err, keys.ErrDestroyed)
}
