package index

import (
	"encoding/binary"
	"fmt"
)

// A shard remembers the results of commands by the id that their proposer gave them, so that a command
// that was proposed twice is applied once. A result is forgotten when the log is dedupWindow entries past it. Besides the
// result each entry leaves a list of its ids under its log index; SetIndex follows those lists.

// expiryQueue reads those lists ahead, many with one iterator. Everything below next is gone from the
// database or in lists; it is dropped (zero value) when a Txn is discarded or the shard replaced.
type expiryQueue struct {
	lists []expiryList
	next  uint64
}

type expiryList struct {
	index uint64
	ids   []byte
}

const expiryReadAhead = 256

// Remember keeps a command's result for the window. A result already remembered for id stays.
func (t *Txn) Remember(id [16]byte, result []byte) error {
	return t.settle("remember", t.remember(id, result))
}

func (t *Txn) remember(id [16]byte, result []byte) error {
	if len(result) > MaxResultBytes {
		return &LimitError{What: "bytes in a result", Limit: MaxResultBytes}
	}
	if !t.missed || t.recalled != id {
		_, known, err := t.recall(id)
		if err != nil || known {
			return err
		}
	}
	t.missed = false
	if err := t.put(t.k.dedup(id), encodeBytes(result)); err != nil {
		return err
	}
	t.expiring = append(t.expiring, id[:]...)
	return t.put(t.k.expiry(t.index), encodeBytes(t.expiring))
}

// Recall gives the result that was remembered for id.
func (t *Txn) Recall(id [16]byte) (result []byte, known bool, err error) {
	result, known, err = t.recall(id)
	return result, known, t.settle("recall", err)
}

func (t *Txn) recall(id [16]byte) (result []byte, known bool, err error) {
	if t.err != nil {
		return nil, false, t.err
	}
	known, err = t.q.get(t.k.dedup(id), func(v []byte) error {
		v, err := decodeBytes(v)
		result = append([]byte{}, v...)
		return err
	})
	t.recalled, t.missed = id, err == nil && !known
	return result, known, err
}

// expire forgets what left the window with the current entry.
func (t *Txn) expire() error {
	if t.index <= t.s.db.window {
		return nil
	}
	limit := t.index - t.s.db.window
	queue := &t.s.expiry
	for {
		for len(queue.lists) > 0 {
			if queue.lists[0].index > limit {
				return nil
			}
			if err := t.forget(queue.lists[0]); err != nil {
				return fmt.Errorf("expire results: %w", err)
			}
			queue.lists = queue.lists[1:]
		}
		if limit < queue.next {
			return nil
		}
		if err := t.readExpiry(queue); err != nil {
			return fmt.Errorf("expire results: %w", err)
		}
	}
}

func (t *Txn) forget(list expiryList) error {
	for ids := list.ids; len(ids) > 0; ids = ids[16:] {
		if err := t.remove(t.k.dedup([16]byte(ids))); err != nil {
			return err
		}
	}
	return t.remove(t.k.expiry(list.index))
}

// readExpiry refills an empty queue. Lists of the current entry and later ones do not exist yet, so after
// reading to the end nothing is missing below the current index.
func (t *Txn) readExpiry(queue *expiryQueue) error {
	it, err := t.b.NewIter(iterBounds(t.k.expiry(queue.next), t.k.root(tagExpiry+1)))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && len(queue.lists) < expiryReadAhead; ok = it.Next() {
		list, err := decodeExpiry(it.Key(), it.Value())
		if err != nil {
			return joinClose(t.q.corrupt(it.Key(), err.Error()), it)
		}
		queue.lists = append(queue.lists, list)
	}
	if len(queue.lists) == expiryReadAhead {
		queue.next = queue.lists[expiryReadAhead-1].index + 1
	} else {
		queue.next = t.index
	}
	return it.Close()
}

func decodeExpiry(key, value []byte) (expiryList, error) {
	ids, err := decodeBytes(value)
	if err != nil {
		return expiryList{}, err
	}
	if len(ids)%16 != 0 || len(key) != shardLen+1+8 {
		return expiryList{}, errShort
	}
	return expiryList{
		index: binary.BigEndian.Uint64(key[shardLen+1:]),
		ids:   append([]byte(nil), ids...),
	}, nil
}
