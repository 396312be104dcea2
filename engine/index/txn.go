package index

import (
	"errors"
	"fmt"

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
}

type accountState struct {
	counters
	exists bool
	dirty  bool
}

// mailboxState is a mailbox as this Txn sees it.
type mailboxState struct {
	key    mailboxKey
	meta   Mailbox
	exists bool
	dirty  bool   // meta
	entry  uint64 // the log entry that HighestModSeq was given to, 0 for an earlier Txn's

	table      *keywordTable // nil until needed
	tableDirty bool
	blocks     map[uint32]*[kinds]*cachedBlock
}

type cachedBlock struct {
	block
	dirty bool
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
	t.s.forget()
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

// writeMailbox brings the batch up to date with the mailbox's decoded state.
func (t *Txn) writeMailbox(mb *mailboxState) error {
	if !mb.exists {
		return nil
	}
	if err := t.writeBlocks(mb); err != nil {
		return err
	}
	if mb.tableDirty {
		mb.tableDirty = false
		if err := t.put(t.k.mailbox(mb.key, tagKeywords), mb.table.encode()); err != nil {
			return err
		}
	}
	if !mb.dirty {
		return nil
	}
	mb.dirty = false
	open := mb.blocks[mb.openBlock()][kindUIDs]
	return t.put(t.k.mailbox(mb.key, tagMailbox), encodeMeta(&mb.meta, &open.block))
}

// openBlock is the number of the block that the next UID will be in. Its UIDs are kept in the meta, and always in mb.blocks.
func (mb *mailboxState) openBlock() uint32 { return mb.meta.UIDNext >> blockShift }

func (mb *mailboxState) setOpen(b *cachedBlock) {
	if mb.blocks == nil {
		mb.blocks = make(map[uint32]*[kinds]*cachedBlock, 1)
	}
	mb.blocks[mb.openBlock()] = &[kinds]*cachedBlock{kindUIDs: b}
}

func (t *Txn) writeBlocks(mb *mailboxState) error {
	for n, set := range mb.blocks {
		for kind, b := range set {
			if b == nil || !b.dirty {
				continue
			}
			b.dirty = false
			if kind == kindUIDs && n == mb.openBlock() {
				mb.dirty = true
				continue
			}
			key := t.k.block(mb.key, uint8(kind), n)
			v := b.encode()
			if v == nil {
				if err := t.remove(key); err != nil {
					return err
				}
			} else if err := t.put(key, v); err != nil {
				return err
			}
		}
	}
	return nil
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

func (t *Txn) removePrefix(prefix []byte) error {
	if err := t.b.DeleteRange(prefix, after(prefix), nil); err != nil {
		return fmt.Errorf("delete range %x: %w", prefix, err)
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
	for _, result := range []error{ErrNoAccount, ErrNoMailbox, ErrExists, ErrInvalidName, ErrHasChildren} {
		if errors.Is(err, result) {
			return err
		}
	}
	if errors.As(err, &limit) {
		return err
	}
	if t.err == nil {
		t.err = err
	}
	return err
}

// account gives the account's state, also when it does not exist.
func (t *Txn) account(id uint64) (*accountState, error) {
	if a := t.accounts[id]; a != nil {
		return a, nil
	}
	a, ok := t.s.cache.accounts.get(id)
	if !ok {
		c, exists, err := t.q.counters(id)
		if err != nil {
			return nil, err
		}
		a = &accountState{counters: c, exists: exists}
	}
	t.accounts[id] = a
	return a, nil
}

// mailbox gives the mailbox's state, also when it does not exist.
func (t *Txn) mailbox(m mailboxKey) (*mailboxState, error) {
	if mb := t.mailboxes[m]; mb != nil {
		return mb, nil
	}
	if mb, ok := t.s.cache.mailboxes.get(m); ok {
		return t.track(mb), nil
	}
	open := new(cachedBlock)
	meta, ok, err := t.q.meta(m, &open.block)
	if err != nil {
		return nil, err
	}
	mb := &mailboxState{key: m, meta: meta, exists: ok}
	mb.setOpen(open)
	return t.track(mb), nil
}

func (t *Txn) track(mb *mailboxState) *mailboxState {
	t.mailboxes[mb.key] = mb
	t.touched = append(t.touched, mb)
	return mb
}

// selectable is a mailbox that may hold messages.
func (t *Txn) selectable(account uint64, id uint32) (*mailboxState, error) {
	if t.err != nil {
		return nil, t.err
	}
	mb, err := t.mailbox(mailboxKey{account, id})
	if err != nil {
		return nil, err
	}
	if mb.exists && !mb.meta.NoSelect {
		return mb, nil
	}
	a, err := t.account(account)
	if err != nil {
		return nil, err
	}
	if !a.exists {
		return nil, ErrNoAccount
	}
	return nil, ErrNoMailbox
}

func (t *Txn) keywordTable(mb *mailboxState) (*keywordTable, error) {
	if mb.table == nil {
		table, err := t.q.keywords(mb.key)
		if err != nil {
			return nil, err
		}
		mb.table = table
	}
	return mb.table, nil
}

func (mb *mailboxState) setTable(table *keywordTable) {
	if table != mb.table {
		mb.table, mb.tableDirty = table, true
	}
}

// nextModSeq gives the modseq of the current entry in mb: one per entry and mailbox, above all earlier
// ones, and never below the log index, so that it also grows when the mailbox moves to another shard's log.
func (t *Txn) nextModSeq(mb *mailboxState) uint64 {
	if mb.entry != t.index || t.index == 0 {
		mb.meta.HighestModSeq = max(mb.meta.HighestModSeq+1, t.index)
		mb.entry = t.index
	}
	mb.dirty = true
	return mb.meta.HighestModSeq
}

// blockOf gives the block of a kind that uid lies in, for reading; mark it dirty after a change.
func (t *Txn) blockOf(mb *mailboxState, kind uint8, uid uint32) (*cachedBlock, error) {
	n := uid >> blockShift
	set := mb.blocks[n]
	if set == nil {
		set = new([kinds]*cachedBlock)
		mb.blocks[n] = set
	}
	if set[kind] == nil {
		b := new(cachedBlock)
		if _, err := t.q.get(t.k.block(mb.key, kind, n), b.decode); err != nil {
			return nil, err
		}
		set[kind] = b
	}
	return set[kind], nil
}

// mark enters or leaves uid in the block of a kind.
func (t *Txn) mark(mb *mailboxState, kind uint8, uid uint32, member bool) error {
	b, err := t.blockOf(mb, kind, uid)
	if err != nil {
		return err
	}
	if low := uid % blockBits; member {
		b.set(low)
	} else {
		b.clear(low)
	}
	b.dirty = true
	return nil
}

// markFlags brings the flag blocks from one set of system flags to another.
func (t *Txn) markFlags(mb *mailboxState, uid uint32, from, to uint8) error {
	for changed := from ^ to; changed != 0; changed &= changed - 1 {
		flag := changed & -changed
		if err := t.mark(mb, kindFlag(flag), uid, to&flag != 0); err != nil {
			return err
		}
	}
	return nil
}
