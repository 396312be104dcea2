// Package columns remembers what searches and sorts found out about messages, so that the next one need not read and decode their summaries again.
//
// A column is one thing about the messages of a mailbox: when they say they were sent, what they are sorted by, what a header field says. What its values
// mean only its user knows. What holds:
//
//  1. A value is its message's for ever: a column belongs to a mailbox under one UIDVALIDITY, which gives a UID to one message and never again. So nothing is ever
//     brought up to date, and it does not matter who asked first.
//  2. Memory is bounded: all columns together, those of an account to half of that, a value to maxValue. What has no room is not remembered.
//  3. What was used within the last minute gives no way. So columns that do not fit together do not push each other out in turns; some of each are remembered.
//  4. A message that is gone is forgotten when its column is used next (Keep), or when that was not used for Age.
//  5. Values that were handed out never change: blocks are replaced, not written to.
//
// Everything is in memory. After a restart the first search finds it out again.
package columns

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Age is how long a column is remembered that nobody uses.
	Age = 30 * time.Minute

	rest     = time.Minute // what was used later than that ago gives no way
	maxValue = 4 << 10     // bytes of a value that is remembered
	maxName  = 100         // bytes of a column's name

	columnCost = 512 // bytes that a column takes beside its blocks, about
	blockCost  = 384 // and a block beside its values
)

// Key names a column.
type Key struct {
	Account              uint64
	Mailbox, UIDValidity uint32
	Name                 string
}

// Cache is all columns of a node. Safe for concurrent use.
type Cache struct {
	limit        int64
	hits, misses atomic.Uint64

	mu      sync.Mutex // guards what follows
	columns map[Key]*column
	owners  map[uint64]*owner
	byUse   list.List // of *owner, the one used last in front
	bytes   int64
	sweeps  bool // it is swept from time to time, which it is while there are columns
}

// owner is an account that has columns.
type owner struct {
	account uint64
	columns list.List // of *column, the one used last in front
	bytes   int64
	at      *list.Element
}

// column is what is remembered under a key.
type column struct {
	key    Key
	owner  *owner
	blocks map[uint32]*block
	bytes  int64
	used   time.Time
	at     *list.Element
}

// New returns an empty cache of at most limit bytes.
func New(limit int64) *Cache {
	return &Cache{limit: limit, columns: make(map[Key]*column), owners: make(map[uint64]*owner)}
}

// Stats are counts since the start, but for Bytes, which are of the moment.
type Stats struct {
	Bytes        int64
	Hits, Misses uint64 // values that were remembered; that had to be found out
}

// Stats is a snapshot of the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Bytes: c.bytes, Hits: c.hits.Load(), Misses: c.misses.Load()}
}

// use notes that a column is used now.
func (c *Cache) use(col *column) {
	col.used = time.Now()
	col.owner.columns.MoveToFront(col.at)
	c.byUse.MoveToFront(col.owner.at)
}

// make enters an empty column, for which there is room.
func (c *Cache) make(key Key) *column {
	o := c.owners[key.Account]
	if o == nil {
		o = &owner{account: key.Account}
		o.at = c.byUse.PushFront(o)
		c.owners[key.Account] = o
	}
	col := &column{key: key, owner: o, blocks: make(map[uint32]*block)}
	col.at = o.columns.PushFront(col)
	c.columns[key] = col
	c.grow(col, columnCost)
	if !c.sweeps {
		c.sweeps = true
		time.AfterFunc(Age/10, c.sweep)
	}
	return col
}

func (c *Cache) grow(col *column, by int64) {
	col.bytes += by
	col.owner.bytes += by
	c.bytes += by
}

// room makes room for more bytes of an account: what it did not use for longest goes first, and of all that the account that came last longest ago.
func (c *Cache) room(account uint64, more int64) bool {
	idle := time.Now().Add(-rest)
	oldest := func(o *owner) bool {
		col := o.columns.Back().Value.(*column)
		if !col.used.Before(idle) {
			return false
		}
		c.drop(col)
		return true
	}
	for {
		o := c.owners[account]
		switch {
		case more > c.limit/2:
			return false
		case o != nil && o.bytes+more > c.limit/2:
		case c.bytes+more > c.limit:
			o = c.byUse.Back().Value.(*owner)
		default:
			return true
		}
		if !oldest(o) {
			return false
		}
	}
}

// drop forgets a column.
func (c *Cache) drop(col *column) {
	c.grow(col, -col.bytes)
	delete(c.columns, col.key)
	o := col.owner
	if o.columns.Remove(col.at); o.columns.Len() == 0 {
		c.byUse.Remove(o.at)
		delete(c.owners, o.account)
	}
}

// sweep forgets what nobody used for long.
func (c *Cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := time.Now().Add(-Age * 9 / 10) // those too that would be too old before the next time
	for _, o := range c.owners {
		for o.columns.Len() > 0 {
			col := o.columns.Back().Value.(*column)
			if !col.used.Before(before) {
				break
			}
			c.drop(col)
		}
	}
	if c.sweeps = len(c.columns) > 0; c.sweeps {
		time.AfterFunc(Age/10, c.sweep)
	}
}
