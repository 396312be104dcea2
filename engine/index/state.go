package index

// What a Txn keeps decoded: counters of accounts, mailboxes with their open block, keyword table and the summary blocks it touched.

// accountState is an account as this Txn sees it.
type accountState struct {
	counters
	exists bool
	dirty  bool
	place  Place // as it is in the batch already
}

// mailboxState is a mailbox as this Txn sees it.
type mailboxState struct {
	key    mailboxKey
	meta   Mailbox
	exists bool
	dirty  bool   // meta
	entry  uint64 // the log entry that HighestModSeq was given to, 0 when that is not known

	table      *keywordTable // nil until needed
	tableDirty bool
	blocks     map[uint32]*[kinds]*cachedBlock
}

type cachedBlock struct {
	block
	dirty bool
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
		p, err := t.q.place(id)
		if err != nil {
			return nil, err
		}
		a = &accountState{counters: c, exists: exists, place: p}
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
