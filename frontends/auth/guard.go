package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// The policy. An address may serve many users, so it is allowed more failures than one user.
const (
	userFailures = 10 // then a user is locked, wherever the failures came from
	addrFailures = 30 // then an address is locked, whomever it tried
	pairFailures = 5  // then a known pair of user and address loses its privilege

	firstLock = 30 * time.Second // doubled by each further failure
	maxLock   = 15 * time.Minute
	forget    = time.Hour           // without failure, a record starts anew
	trust     = 30 * 24 * time.Hour // since the last success, for known pairs

	firstDelay     = 250 * time.Millisecond // of the answer to a failure, doubled by each further one
	maxDelay       = 4 * time.Second
	throttledDelay = time.Second

	tableSize = 1 << 16 // records of each kind, the longest unused goes first
)

// identity is who tries and from where.
type identity struct {
	user string       // lower case
	addr netip.Prefix // invalid: not counted by address
}

// network is what failures are counted for: an IPv4 address or a /64 of IPv6. Loopback is not counted: behind it are local
// proxies and development clusters, which speak for everybody; the locks on users hold there too.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// record counts the failures of one user, address or pair.
type record struct {
	failures int
	last     time.Time // failure; for pairs also success
	until    time.Time // locked
}

// fail counts one failure, and locks once there were limit of them.
func (r *record) fail(limit int, now time.Time) {
	if now.Sub(r.last) > forget {
		*r = record{}
	}
	r.failures++
	r.last = now
	if r.failures >= limit {
		r.until = now.Add(doubled(firstLock, r.failures-limit, maxLock))
	}
}

// doubled is d doubled n times, at most limit.
func doubled(d time.Duration, n int, limit time.Duration) time.Duration {
	for ; n > 0 && d < limit; n-- {
		d *= 2
	}
	return min(d, limit)
}

// guard remembers who failed.
type guard struct {
	mu    sync.Mutex // guards all three tables
	users *table[string]
	addrs *table[netip.Prefix]
	known *table[identity] // pairs that have succeeded
}

func newGuard() *guard {
	return &guard{
		users: newTable[string](tableSize),
		addrs: newTable[netip.Prefix](tableSize),
		known: newTable[identity](tableSize),
	}
}

// locked reports whether id must not try now.
func (g *guard) locked(id identity, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k := g.known.get(id); k != nil && k.failures < pairFailures && now.Sub(k.last) < trust {
		return false
	}
	if u := g.users.get(id.user); u != nil && now.Before(u.until) {
		return true
	}
	if !id.addr.IsValid() {
		return false
	}
	a := g.addrs.get(id.addr)
	return a != nil && now.Before(a.until)
}

// failed counts a failure and says how late to answer it.
func (g *guard) failed(id identity, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.users.put(id.user)
	u.fail(userFailures, now)
	worst := u.failures
	if id.addr.IsValid() {
		a := g.addrs.put(id.addr)
		a.fail(addrFailures, now)
		worst = max(worst, a.failures)
	}
	if k := g.known.get(id); k != nil {
		k.failures++
	}
	return doubled(firstDelay, worst-1, maxDelay)
}

// succeeded clears the user's failures and makes the pair known. It does not clear the address, or one
// account of an attacker's own would reset the count between guesses.
func (g *guard) succeeded(id identity, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users.remove(id.user)
	*g.known.put(id) = record{last: now}
}

// table is a map of records that never grows past its size: the least recently used record makes room.
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

// put returns k's record, which is new when there was none. The pointer is good until the next put.
func (t *table[K]) put(k K) *record {
	if r := t.get(k); r != nil {
		return r
	}
	if t.order.Len() >= t.size {
		oldest := t.order.Back()
		delete(t.items, oldest.Value.(*slot[K]).key)
		t.order.Remove(oldest)
	}
	s := &slot[K]{key: k}
	t.items[k] = t.order.PushFront(s)
	return &s.rec
}

func (t *table[K]) remove(k K) {
	if e, ok := t.items[k]; ok {
		delete(t.items, k)
		t.order.Remove(e)
	}
}
