package index

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A shard remembers the results of commands by the id that their proposer gave them, so that a command
// that was proposed twice is applied once. A result is forgotten when the log is dedupWindow entries past it. Besides the
// results, the ids of each 16 log indexes are listed in one key (a bucket), and SetIndex follows those lists.

// bucketShift makes log indexes bucket numbers.
const bucketShift = 4

// expiryQueue reads buckets ahead, many with one iterator. Every bucket below next is gone from the database or in
// lists. It is dropped (zero value) when a Txn is discarded or the shard replaced.
type expiryQueue struct {
	lists []idList
	next  uint64
	open  idList // the newest bucket, as the database has it
}

type idList struct {
	bucket uint64
	ids    []byte
}

const expiryReadAhead = 64

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
	if bucket := t.index >> bucketShift; t.bucket.ids == nil || t.bucket.bucket != bucket {
		if err := t.openBucket(bucket); err != nil {
			return err
		}
	}
	t.bucket.ids = append(t.bucket.ids, id[:]...)
	t.s.filter.add(t.bucket.bucket, id)
	return t.put(t.k.dedup(id), encodeBytes(result))
}

// openBucket makes bucket the one that ids are added to.
func (t *Txn) openBucket(bucket uint64) error {
	if err := t.writeBucket(); err != nil {
		return err
	}
	t.bucket = idList{bucket: bucket, ids: []byte{}}
	if open := t.s.expiry.open; open.bucket == bucket && open.ids != nil {
		t.bucket.ids = slices.Clone(open.ids)
		return nil
	}
	_, err := t.q.get(t.k.expiry(bucket), func(v []byte) error {
		v, err := decodeIDs(v)
		t.bucket.ids = append(t.bucket.ids, v...)
		return err
	})
	return err
}

func (t *Txn) writeBucket() error {
	if t.bucket.ids == nil {
		return nil
	}
	t.s.expiry.open = t.bucket
	err := t.put(t.k.expiry(t.bucket.bucket), encodeBytes(t.bucket.ids))
	t.bucket = idList{}
	return err
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
	filter, err := t.filter()
	if err != nil {
		return nil, false, err
	}
	if !filter.has(id) {
		t.recalled, t.missed = id, true
		return nil, false, nil
	}
	known, err = t.q.get(t.k.dedup(id), func(v []byte) error {
		v, err := decodeBytes(v)
		result = append([]byte{}, v...)
		return err
	})
	t.recalled, t.missed = id, err == nil && !known
	return result, known, err
}

// expire forgets the buckets that left the window with the current entry.
func (t *Txn) expire() error {
	if t.index < t.s.db.window+1<<bucketShift {
		return nil
	}
	end := (t.index - t.s.db.window) >> bucketShift // the first bucket that stays
	t.s.filter.expire(end)
	queue := &t.s.expiry
	for {
		for len(queue.lists) > 0 {
			if queue.lists[0].bucket >= end {
				return nil
			}
			if err := t.forget(queue.lists[0]); err != nil {
				return fmt.Errorf("expire results: %w", err)
			}
			queue.lists = queue.lists[1:]
		}
		if end <= queue.next {
			return nil
		}
		if err := t.readExpiry(queue); err != nil {
			return fmt.Errorf("expire results: %w", err)
		}
	}
}

func (t *Txn) forget(list idList) error {
	for ids := list.ids; len(ids) > 0; ids = ids[16:] {
		if err := t.remove(t.k.dedup([16]byte(ids))); err != nil {
			return err
		}
	}
	return t.remove(t.k.expiry(list.bucket))
}

// readExpiry refills an empty queue with closed buckets. After reading to the end nothing is missing below the current one.
func (t *Txn) readExpiry(queue *expiryQueue) error {
	current := t.index >> bucketShift
	if t.bucket.bucket < current {
		if err := t.writeBucket(); err != nil {
			return err
		}
	}
	it, err := t.b.NewIter(iterBounds(t.k.expiry(queue.next), t.k.expiry(current)))
	if err != nil {
		return err
	}
	for ok := it.First(); ok && len(queue.lists) < expiryReadAhead; ok = it.Next() {
		ids, err := decodeIDs(it.Value())
		if err == nil && len(it.Key()) != shardLen+1+8 {
			err = errShort
		}
		if err != nil {
			return joinClose(t.q.corrupt(it.Key(), err.Error()), it)
		}
		queue.lists = append(queue.lists, idList{
			bucket: binary.BigEndian.Uint64(it.Key()[shardLen+1:]),
			ids:    slices.Clone(ids),
		})
	}
	if len(queue.lists) == expiryReadAhead {
		queue.next = queue.lists[expiryReadAhead-1].bucket + 1
	} else {
		queue.next = current
	}
	return it.Close()
}

// decodeIDs gives whole ids.
func decodeIDs(value []byte) ([]byte, error) {
	ids, err := decodeBytes(value)
	if err == nil && len(ids)%16 != 0 {
		err = errShort
	}
	return ids, err
}
