package rebuild

import (
	"cmp"
	"fmt"
	"slices"

	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// A message that an account has no reference to was expunged, or never entered. The requests that a checkpoint's shard remembers tell which, but they
// name shards and not accounts. Of which shard an account's may be asked, so that nothing is left out that was not entered:
//
//   - Of the one that its state is from: while the account was there a delivery's command was for it as well, and what was committed for others before it came
//     was for it a command of the shard where it was, which came with it or was refused as moved; the sender puts what is refused again, as another delivery.
//   - Of one that gave it away before, if nobody else whom the message was for has been there: others may have had it there when the account was gone already.
//
// A command for one account that was refused as moved is another shard's to enter, under the same delivery.

// memory is what the checkpoint of a shard remembers, under the shard's number.
type memory struct {
	store  *index.Shard
	number uint32
}

// memory is that of the store that is loaded under a number.
func (r *run) memory(stores map[uint32]*index.Shard, at uint32) memory {
	return memory{stores[at], cmp.Or(r.requests[at], at)}
}

// memories are those that have been asked; each is read once.
type memories map[*index.Shard]*index.Txn

func (m memories) close() {
	for _, txn := range m {
		txn.Discard()
	}
}

// knows says whether a shard remembers that it did what it was to do for a delivery.
func (m memories) knows(of memory, delivery [16]byte) (bool, error) {
	txn := m[of.store]
	if txn == nil {
		txn = of.store.Begin()
		m[of.store] = txn
	}
	result, known, err := txn.Recall(mailbox.Request(delivery, of.number))
	if err != nil || !known || len(result) == 0 { // several are appended by one command, and have no result of their own
		return known, err
	}
	answer, err := mailbox.DecodeResult(result)
	if err != nil {
		return false, fmt.Errorf("what shard %d remembers: %w", of.number, err)
	}
	return answer.Code != mailbox.Moved, nil
}

// sinceOf is when messages have to have arrived that an account of this shard may lack.
func (s *shardRun) sinceOf(account uint64) int64 {
	if p := s.r.pasts[account]; p != nil {
		return p.since
	}
	return s.since
}

// remembered says whether a message that an account has no reference to was entered for it before.
func (s *shardRun) remembered(m memories, c *candidate, account uint64) (known bool, err error) {
	p := s.r.pasts[account]
	if p == nil {
		return m.knows(memory{s.store, s.number}, c.delivery)
	}
	if p.from.store != nil {
		if known, err = m.knows(p.from, c.delivery); known || err != nil {
			return known, err
		}
	}
	if len(p.former) == 0 {
		return false, nil
	}
	o, err := origin(s.r.vs, c.at)
	if err != nil {
		return false, err
	}
	for _, of := range p.former {
		if s.r.shares(o, account, of.number) {
			continue
		}
		if known, err = m.knows(of, c.delivery); known || err != nil {
			return known, err
		}
	}
	return false, nil
}

// shares says whether somebody else whom a message was for may ever have been in a shard.
func (r *run) shares(o *mailbox.Origin, account uint64, shard uint32) bool {
	for _, t := range o.Targets {
		if t.Account != account && r.wasIn(t.Account, shard) {
			return true
		}
	}
	return false
}

func (r *run) wasIn(account uint64, shard uint32) bool {
	home, known := r.shardOf[account]
	p := r.pasts[account]
	return !known || home == shard || p != nil && slices.Contains(p.known, shard)
}
