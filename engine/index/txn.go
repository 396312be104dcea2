package index

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"hongyan/engine/volume"
)

// Txn gathers the effects of one or more whole log entries and commits them with their index. It reads its own
// writes. Rows go straight to an indexed batch; what many messages of a Txn change together (mailbox metas, counters, summary
// blocks, keyword tables) is kept decoded and written once, at Commit.
//
// For each entry call SetIndex, then the entry's commands. An error that is part of a command's result (ErrNoMailbox and its
// like, *LimitError) leaves the Txn as it was before the command; after any other error only Discard works. A Txn is for
// one goroutine.
type Txn struct {
	s     *Shard
	k     keys
	b     *pebble.Batch
	q     source
	index uint64
	err   error // first failure
	done  bool

	accounts  map[uint64]*accountState
	mailboxes map[mailboxKey]*mailboxState
	touched   []*mailboxState // in order of first use
	refs      []refChange     // written at Commit, so that they lie together: inserting neighbours is cheap
	recalled  [16]byte        // id that the last Recall did not find
	missed    bool            // recalled is set
	bucket    idList          // of ids remembered, not yet in the batch; ids nil when there is none
	admitted  volume.ID       // has no floor, as AddMessages last saw; 0 is none
	marked    volume.ID       // has a marker, as MarkEarly last saw; 0 is none
}

// Begin starts a Txn, once the one before it has ended.
func (s *Shard) Begin() *Txn {
	s.writer.Lock()
	t := &Txn{
		s:         s,
		k:         s.k,
		b:         s.db.p.NewIndexedBatch(),
		accounts:  make(map[uint64]*accountState),
		mailboxes: make(map[mailboxKey]*mailboxState),
	}
	t.q = source{k: s.k, r: t.b}
	return t
}

// SetIndex names the log entry whose commands follow. It also does what is due once per entry: results
// leave the dedup window, rows of deleted mailboxes are swept.
func (t *Txn) SetIndex(index uint64) {
	t.index = index
	t.missed = false
	if t.err == nil {
		t.err = t.expire()
	}
	if t.err == nil {
		t.err = t.sweepGraves()
	}
}

// Size is about how many bytes the Txn would commit. Batches of four gigabytes are more than pebble takes.
func (t *Txn) Size() int { return t.b.Len() }

// Commit makes the Txn visible together with the applied index. It is durable once Flushed reaches applied.
func (t *Txn) Commit(applied uint64) error {
	if t.done {
		return t.s.errorf("commit to %d: the transaction has ended", applied)
	}
	if t.err != nil {
		return t.s.errorf("commit to %d: %w", applied, t.err)
	}
	if err := t.writeStates(); err != nil {
		t.err = err
		return t.s.errorf("commit to %d: %w", applied, err)
	}
	err := t.b.Set(t.k.applied(), encodeIndex(applied), nil)
	if err == nil {
		err = t.b.Commit(pebble.NoSync)
	}
	if err != nil {
		t.err = err
		return t.s.errorf("commit to %d: %w", applied, err)
	}
	t.s.applied.Store(applied)
	t.s.known.Store(true)
	t.s.cache.keep(t)
	return t.end()
}

// Discard drops the Txn. It does nothing after a Commit that succeeded.
func (t *Txn) Discard() {
	if t.done {
		return
	}
	if t.index > 0 || !t.b.Empty() { // what a Txn that did nothing has read stays true
		t.s.forget()
	}
	if err := t.end(); err != nil {
		t.s.db.opts.Logger.Errorf("discard: %v", err)
	}
}

func (t *Txn) end() error {
	t.done = true
	err := t.b.Close()
	t.s.writer.Unlock()
	if err != nil {
		return t.s.errorf("close batch: %w", err)
	}
	return nil
}

func (t *Txn) writeStates() error {
	for _, mb := range t.touched {
		if err := t.writeMailbox(mb); err != nil {
			return err
		}
	}
	for account, a := range t.accounts {
		if a.dirty {
			if err := t.put(t.k.account(account, tagCounters), a.encode()); err != nil {
				return err
			}
		}
	}
	if err := t.writeRefs(); err != nil {
		return err
	}
	return t.writeBucket()
}

// refChange is a reference key on its way into the batch.
type refChange struct {
	key     []byte
	present bool
}

func (t *Txn) writeRefs() error {
	for _, c := range t.refs {
		var err error
		if c.present {
			err = t.put(c.key, presence())
		} else {
			err = t.remove(c.key)
		}
		if err != nil {
			return err
		}
	}
	t.refs = nil
	return nil
}

func (t *Txn) changeRef(r volume.Ref, m mailboxKey, uid uint32, present bool) {
	t.refs = append(t.refs, refChange{t.k.ref(r, m, uid), present})
}

func (t *Txn) put(key, value []byte) error {
	if err := t.b.Set(key, value, nil); err != nil {
		return fmt.Errorf("set %x: %w", key, err)
	}
	return nil
}

func (t *Txn) remove(key []byte) error {
	if err := t.b.Delete(key, nil); err != nil {
		return fmt.Errorf("delete %x: %w", key, err)
	}
	return nil
}

// fewKeys is how many keys are removed one by one rather than by a range deletion. Accounts that come and go have little below most tags, and a range deletion is in the way of
// reads for longer: of tables that an excision has cut (Load) pebble walks through all those behind the cut for each read.
const fewKeys = 64

func (t *Txn) removePrefix(prefix []byte) error {
	it, err := t.b.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return fmt.Errorf("delete range %x: %w", prefix, err)
	}
	var few [][]byte
	more := it.First()
	for ; more && len(few) < fewKeys; more = it.Next() {
		few = append(few, slices.Clone(it.Key()))
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("delete range %x: %w", prefix, err)
	}
	return t.removeThese(few, more, prefix, after(prefix))
}

// removeThese removes few keys, or, if there are more of them, all of a range.
func (t *Txn) removeThese(few [][]byte, more bool, from, to []byte) error {
	if more {
		if err := t.b.DeleteRange(from, to, nil); err != nil {
			return fmt.Errorf("delete range %x: %w", from, err)
		}
		return nil
	}
	for _, key := range few {
		if err := t.remove(key); err != nil {
			return err
		}
	}
	return nil
}

// settle breaks the Txn on errors that are not a command's result.
func (t *Txn) settle(what string, err error) error {
	if err == nil {
		return nil
	}
	err = t.s.errorf("%s: %w", what, err)
	var limit *LimitError
	var moved *MovedError
	var quota *QuotaError
	for _, result := range []error{ErrNoAccount, ErrNoMailbox, ErrExists, ErrInvalidName, ErrHasChildren, ErrCondemned, ErrNoMessage, ErrFenced, ErrHere, ErrSwept} {
		if errors.Is(err, result) {
			return err
		}
	}
	if errors.As(err, &limit) || errors.As(err, &moved) || errors.As(err, &quota) {
		return err
	}
	if t.err == nil {
		t.err = err
	}
	return err
}
