package columns

import (
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// Column is a column as one command uses it. Not safe for concurrent use; other commands may use the same at the same time.
type Column struct {
	cache *Cache
	key   Key

	number uint32 // of the block that what was added is of
	added  set
	values map[uint32][]byte // what was added, and is not remembered yet
}

// Column is the column of a name, which need not be there yet.
func (c *Cache) Column(key Key) *Column {
	c.mu.Lock()
	defer c.mu.Unlock()
	if col := c.columns[key]; col != nil {
		c.use(col)
	}
	return &Column{cache: c, key: key, values: make(map[uint32][]byte)}
}

// Values looks messages up, whose UIDs ascend: out gets the value of each, nil where that is not known. They must not be written to.
func (h *Column) Values(uids []uint32, out [][]byte) {
	hits := uint64(0)
	for i := 0; i < len(uids); {
		n := uids[i] >> blockBits
		b := h.block(n)
		for ; i < len(uids) && uids[i]>>blockBits == n; i++ {
			if out[i] = b.value(uids[i] % blockUIDs); out[i] != nil {
				hits++
			}
		}
	}
	h.cache.hits.Add(hits)
}

func (h *Column) block(n uint32) *block {
	h.cache.mu.Lock()
	defer h.cache.mu.Unlock()
	if col := h.cache.columns[h.key]; col != nil {
		return col.blocks[n]
	}
	return nil
}

// Add remembers a message's value, which it copies, at the latest with Flush.
func (h *Column) Add(uid uint32, value []byte) {
	h.cache.misses.Add(1)
	if len(value) > maxValue || len(h.key.Name) > maxName {
		return
	}
	if n := uid >> blockBits; n != h.number {
		h.Flush()
		h.number = n
	}
	h.added.add(uid % blockUIDs)
	h.values[uid%blockUIDs] = append([]byte{}, value...)
}

// Flush remembers what was added, as far as there is room.
func (h *Column) Flush() {
	if len(h.values) == 0 {
		return
	}
	h.replace(h.number, func(old *block) *block {
		all := h.added
		if old != nil {
			for i, w := range old.set {
				all[i] |= w
			}
		}
		return blockOf(&all, func(i uint32) []byte {
			if v := old.value(i); v != nil {
				return v
			}
			return h.values[i]
		})
	})
	clear(h.values)
	h.added = set{}
}

// replace puts a block in the place of another, if there is room; nil is none.
func (h *Column) replace(n uint32, by func(old *block) *block) {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	col, more := c.columns[h.key], int64(0)
	var old *block
	if col == nil {
		more = columnCost
	} else {
		c.use(col)
		old = col.blocks[n]
	}
	b := by(old)
	more += b.cost() - old.cost()
	if more > 0 && !c.room(h.key.Account, more) {
		return
	}
	switch {
	case col == nil && b == nil:
		return
	case col == nil:
		col = c.make(h.key)
		c.use(col)
	}
	c.grow(col, b.cost()-old.cost())
	if b == nil {
		delete(col.blocks, n)
	} else {
		col.blocks[n] = b
	}
}

// Keep forgets messages that are gone: those that there lacks, with UIDs below next.
func (h *Column) Keep(there *roaring.Bitmap, next uint32) {
	it := there.Iterator()
	for _, n := range h.numbers() {
		b := h.block(n)
		if b == nil {
			continue
		}
		start := n << blockBits
		var keep set
		for it.AdvanceIfNeeded(start); it.HasNext() && it.PeekNext()>>blockBits == n; {
			keep.add(it.Next() % blockUIDs)
		}
		stale := false
		b.set.each(func(i uint32) {
			if start+i >= next {
				keep.add(i)
			}
			stale = stale || !keep.has(i)
		})
		if !stale {
			continue
		}
		h.replace(n, func(old *block) *block {
			var left set
			if old != nil {
				left = old.set
			}
			for i := range left {
				left[i] &= keep[i] | ^b.set[i] // others may have learned of more meanwhile
			}
			return blockOf(&left, old.value)
		})
	}
}

// numbers are those of the blocks, ascending.
func (h *Column) numbers() []uint32 {
	h.cache.mu.Lock()
	defer h.cache.mu.Unlock()
	col := h.cache.columns[h.key]
	if col == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(col.blocks))
}
