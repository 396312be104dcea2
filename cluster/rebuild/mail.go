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
	to       []uint64 // accounts that may lack it, in the order of its targets
}

// shardRun is the rebuilding of one mailbox shard.
type shardRun struct {
	r       *run
	number  uint32
	store   *index.Shard
	machine *mailbox.Machine
	since   int64       // messages that arrived before are in the checkpoint, or were expunged
	view    *index.View // with what the checkpoint refers to, while mail is sorted
	pending []candidate
	before  []candidate      // that are remembered to have been entered: for these accounts
	entered map[receipt]bool // of those that may be pending: the checkpoint has them, or they were entered since
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

// receipt is a delivery to one account.
type receipt struct {
	delivery [16]byte
	account  uint64
}

// consider keeps a message for step 3, for those accounts of this shard that may lack it.
func (s *shardRun) consider(at place, o *mailbox.Origin) error {
	var to, have []uint64
	for _, t := range o.Targets {
		if s.r.shardOf[t.Account] != s.number || o.Arrived < s.sinceOf(t.Account) || slices.Contains(to, t.Account) {
			continue
		}
		to = append(to, t.Account)
	}
	if len(to) == 0 {
		return nil
	}
	note := func(h index.Holder) error {
		have = append(have, h.Account)
		return nil
	}
	err := s.view.HoldersAt(at.volume, at.record, note)
	for _, b := range o.Before {
		err = errors.Join(err, s.view.HoldersAt(b.Volume, b.Record, note))
	}
	if err != nil {
		return err
	}
	to = slices.DeleteFunc(to, func(account uint64) bool {
		has := slices.Contains(have, account)
		if has {
			s.entered[receipt{o.Delivery, account}] = true
		}
		return has
	})
	if len(to) > 0 {
		s.pending = append(s.pending, candidate{arrived: o.Arrived, at: at, delivery: o.Delivery, to: to})
	}
	return nil
}

// settle drops those candidates that were entered before the checkpoint, as remembered requests tell. Nothing has been entered in any shard yet: with the
// first entry, which is far ahead, all requests are forgotten.
func (s *shardRun) settle(m memories) error {
	slices.SortFunc(s.pending, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.arrived, b.arrived), cmp.Compare(a.at.volume, b.at.volume), cmp.Compare(a.at.record, b.at.record))
	})
	kept := s.pending[:0]
	for _, c := range s.pending {
		var to, before []uint64
		for _, account := range c.to {
			known, err := s.remembered(m, &c, account)
			if err != nil {
				return err
			}
			if known {
				before = append(before, account)
			} else {
				to = append(to, account)
			}
		}
		if c.to = before; len(before) > 0 {
			s.before = append(s.before, c)
		}
		if c.to = to; len(to) > 0 {
			kept = append(kept, c)
		}
	}
	s.pending = kept
	return nil
}

// enter applies the candidates as log entries behind all that were.
func (s *shardRun) enter() error {
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
	to := slices.DeleteFunc(c.to, func(account uint64) bool { return s.entered[receipt{c.delivery, account}] })
	if len(to) == 0 { // it was stored twice, since its first volume was slow
		return nil
	}
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
	for _, account := range to {
		s.entered[receipt{c.delivery, account}] = true
	}
	var result []byte
	for _, cmd := range commands(o, to, entry) {
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

// commands are those that enter a message for accounts, which are in the order of its targets; a folder that was made after the checkpoint is made again.
func commands(o *mailbox.Origin, to []uint64, m *mailbox.Message) (list []mailbox.Command) {
	var delivery mailbox.Deliver
	for _, t := range o.Targets {
		if len(to) == 0 || t.Account != to[0] { // of an account that is named again the first counts
			continue
		}
		to = to[1:]
		switch t.Mailbox {
		case mailbox.Inbox:
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
	return list
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

// missing is step 4: messages whose bytes are gone, or may be behind the end of their volume. Those that were put again are entered where they are now, the others removed with drop.
func (s *shardRun) missing(drop bool) error {
	gone := make(map[box]*roaring.Bitmap)
	var moved []move
	twins := s.twins()
	v := s.store.View()
	marked := make(map[volume.ID]bool)
	early, err := v.EarlyVolumes()
	for _, e := range early {
		marked[e.Volume] = true
	}
	if err != nil {
		return errors.Join(err, v.Close())
	}
	err = v.Holders(func(h index.Holder) error {
		there := s.r.readable(h.Volume, h.Record)
		if there && !marked[h.Volume] {
			return nil
		}
		at, ok := s.r.heirs[record{h.Volume, h.Record}]
		if !ok {
			var err error
			if at, ok, err = s.twin(v, h, twins[h.Account]); err != nil {
				return err
			}
		}
		if there && (!ok || s.r.copies(h.Volume, h.Record) > s.r.copies(at.volume, at.record)) {
			return nil
		}
		if ok {
			moved = append(moved, move{h, at})
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

// twins are the records, by account, of messages that are remembered to have been entered and that nothing refers to. One that was entered early and whose bytes were put
// again has two records: the checkpoint may remember the request, and refer to the one that no volume has.
func (s *shardRun) twins() map[uint64][]place {
	twins := make(map[uint64][]place)
	for _, c := range s.before {
		for _, account := range c.to {
			twins[account] = append(twins[account], c.at)
		}
	}
	return twins
}

// twin is the record among these that has the bytes of an entry.
func (s *shardRun) twin(v *index.View, h index.Holder, among []place) (at place, found bool, err error) {
	if len(among) == 0 {
		return at, false, nil
	}
	err = v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable, func(m *index.Message) error {
		i := slices.IndexFunc(among, func(p place) bool { return p.length == m.Ref.Length && s.r.vs.is(p, m.Ref) })
		if found = i >= 0; found {
			at = among[i]
		}
		return nil
	})
	if errors.Is(err, index.ErrNoMailbox) { // of a deleted folder, whose rows are still to be swept
		err = nil
	}
	return at, found, err
}

// unmark has what the shard entered early in volumes stay that the directory will not know, for its checkpoint is older, or of a recovered one, and no copy was opened: package settle
// would take them for volumes without records.
func (s *shardRun) unmark() error {
	v := s.store.View()
	early, err := v.EarlyVolumes()
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	early = slices.DeleteFunc(early, func(e index.Early) bool { return s.r.knows(e.Volume) })
	if len(early) == 0 {
		return nil
	}
	return s.entry(func(txn *index.Txn) error {
		for _, e := range early {
			if _, err := txn.Settle(e.Volume, volume.MaxRecords); err != nil {
				return err
			}
		}
		return nil
	})
}

// knows says whether the directory will know a volume, or that it is gone.
func (r *run) knows(id volume.ID) bool {
	_, listed := r.table[id]
	return listed || r.vs.has(id) || id <= r.opened && !r.unsure
}

// move is an entry, and where its bytes are now.
type move struct {
	index.Holder
	to place
}

// rehouse enters messages in the places that their bytes were put to again after the checkpoint.
func (s *shardRun) rehouse(moved []move) error {
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
func (s *shardRun) follow(txn *index.Txn, h move) (err error) {
	v := s.store.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	return v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable|index.WantSummary, func(m *index.Message) error {
		ref := m.Ref
		ref.Volume, ref.Record = h.to.volume, h.to.record
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
	if r.closed[id] && record > r.vs.records(id) {
		return true
	}
	info, err := r.vs.stat(id, record)
	if err == nil && info.Sealed {
		_, err = r.vs.get(id, record)
	}
	return !errors.Is(err, volume.ErrNotFound) && !errors.Is(err, keys.ErrDestroyed)
}

// copies counts those that have a record within the length that the volume has for good, as far as the directory was told.
func (r *run) copies(id volume.ID, record uint64) (n int) {
	e := r.table[id]
	if last, told := e.ToldLast(); told && record > last {
		return 0
	}
	for _, v := range r.vs.copies[id] {
		if _, err := v.Stat(record); err == nil {
			n++
		}
	}
	return n
}
