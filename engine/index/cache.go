package index

// writerCache carries decoded accounts and mailboxes from one Txn of a shard to the next, so that a delivery
// to a mailbox that is in use reads nothing. What it holds equals what is committed. It has two halves: what is
// used moves to the new one; when that is full, the old one is dropped.
type writerCache struct {
	accounts  generations[uint64, *accountState]
	mailboxes generations[mailboxKey, *mailboxState]
}

// cacheHalf bounds each half. A mailbox takes about 1 KiB, so a shard's cache stays below 3 MiB.
const cacheHalf = 1536

// cachedKeywords is up to how many keywords a table may hold to be carried along.
const cachedKeywords = 32

type generations[K comparable, V any] struct {
	young, old map[K]V
}

func (g *generations[K, V]) get(key K) (V, bool) {
	if v, ok := g.young[key]; ok {
		return v, true
	}
	v, ok := g.old[key]
	if ok {
		g.put(key, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(key K, v V) {
	if g.young == nil || len(g.young) >= cacheHalf {
		g.old, g.young = g.young, make(map[K]V)
	}
	g.young[key] = v
}

func (g *generations[K, V]) drop(key K) {
	delete(g.young, key)
	delete(g.old, key)
}

// keep takes over the states of a Txn that was committed.
func (c *writerCache) keep(t *Txn) {
	for id, a := range t.accounts {
		if !a.exists {
			c.accounts.drop(id)
			continue
		}
		a.dirty = false
		c.accounts.put(id, a)
	}
	for _, mb := range t.touched {
		if !mb.exists {
			c.mailboxes.drop(mb.key)
			continue
		}
		mb.slim()
		c.mailboxes.put(mb.key, mb)
	}
}

// slim lets go of everything but what the next delivery needs: of the blocks, the open one.
func (mb *mailboxState) slim() {
	if mb.table != nil && len(mb.table.names) > cachedKeywords {
		mb.table = nil
	}
	open := mb.blocks[mb.openBlock()][kindUIDs]
	if len(mb.blocks) > 1 {
		mb.blocks = nil
	}
	mb.setOpen(open)
}
