package auth

import "container/list"

// table is a map of records that never grows past its size: the least recently used record makes room. One that counts
// checks under way stays; there are never as many of those as of connections.
type table[K comparable] struct {
	size  int
	items map[K]*list.Element
	order *list.List // of *slot[K], latest used first
}

type slot[K comparable] struct {
	key K
	rec record
}

func newTable[K comparable](size int) *table[K] {
	return &table[K]{size: size, items: make(map[K]*list.Element), order: list.New()}
}

// get returns k's record or nil.
func (t *table[K]) get(k K) *record {
	e, ok := t.items[k]
	if !ok {
		return nil
	}
	t.order.MoveToFront(e)
	return &e.Value.(*slot[K]).rec
}

// put returns k's record, which is new when there was none. The pointer is good until the next put, or as long as it counts checks.
func (t *table[K]) put(k K) *record {
	if r := t.get(k); r != nil {
		return r
	}
	if t.order.Len() >= t.size {
		t.makeRoom()
	}
	s := &slot[K]{key: k}
	t.items[k] = t.order.PushFront(s)
	return &s.rec
}

func (t *table[K]) makeRoom() {
	for e := t.order.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*slot[K]); s.rec.pending == 0 {
			t.remove(s.key)
			return
		}
	}
}

func (t *table[K]) remove(k K) {
	if e, ok := t.items[k]; ok {
		delete(t.items, k)
		t.order.Remove(e)
	}
}
