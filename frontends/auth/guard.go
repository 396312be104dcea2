package auth

import (
	"crypto/sha256"
	"net/netip"
	"strings"
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

	trustAgain = 24 * time.Hour // after which another success is news for other nodes

	firstDelay     = 250 * time.Millisecond // of the answer to a failure, doubled by each further one
	maxDelay       = 4 * time.Second
	throttledDelay = time.Second

	tableSize = 1 << 16 // records of each kind, the longest unused goes first
)

// hashed stands for a user's name or an address, so that neither its length nor its bytes are a client's choice, here and in what nodes tell each other.
type hashed [16]byte

// identity is who tries and from where.
type identity struct {
	user hashed
	addr hashed // zero: not counted by address
}

// identify makes one of what the client says and of where it is. The directory knows a name regardless of case and of blanks around it: all its
// spellings are one user here too, or each would have failures of its own.
func identify(user string, remote netip.Addr) identity {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(user))))
	id := identity{user: hashed(sum[:])}
	if p := network(remote); p.IsValid() {
		sum = sha256.Sum256([]byte(p.String()))
		id.addr = hashed(sum[:])
	}
	return id
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

// record counts the failures of one user, address or pair, and the checks under way that may become some.
type record struct {
	failures int
	last     time.Time // failure; for pairs also success
	until    time.Time // locked
	addr     hashed    // of a pair

	pending int        // checks under way
	queue   []*attempt // that wait for those, in order; there are none without
}

// age drops failures that were long ago. Like the two questions below it may be asked of no record.
func (r *record) age(now time.Time) {
	if r != nil && now.Sub(r.last) > forget {
		r.failures = 0
	}
}

func (r *record) locked(now time.Time) bool { return r != nil && now.Before(r.until) }

// full says whether the checks under way may use up the failures that are left until limit.
func (r *record) full(limit int) bool {
	return r != nil && r.pending >= max(1, limit-r.failures)
}

// fail counts one failure, and locks once there were limit of them.
func (r *record) fail(limit int, now time.Time) {
	r.age(now)
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

// guard remembers who failed. How an attempt passes it is in turn.go, what it learns from other nodes in told.go.
type guard struct {
	mu    sync.Mutex // guards all three tables
	users *table[hashed]
	addrs *table[hashed]
	known *table[place] // pairs that have succeeded
}

func newGuard() *guard {
	return &guard{
		users: newTable[hashed](tableSize),
		addrs: newTable[hashed](tableSize),
		known: newTable[place](tableSize),
	}
}

// failed counts a failure and says how late to answer it.
func (g *guard) failed(id identity, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.users.put(id.user)
	u.fail(userFailures, now)
	worst := u.failures
	if id.addr != (hashed{}) {
		a := g.addrs.put(id.addr)
		a.fail(addrFailures, now)
		worst = max(worst, a.failures)
	}
	if k := g.pair(id); k != nil {
		k.failures++
	}
	return doubled(firstDelay, worst-1, maxDelay)
}

// succeeded clears the user's failures and makes the pair known. It does not clear the address, or one
// account of an attacker's own would reset the count between guesses. It reports whether that is news.
func (g *guard) succeeded(id identity, now time.Time) (news bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if u := g.users.get(id.user); u != nil && u.failures > 0 {
		news = true
		u.failures, u.until = 0, time.Time{}
	}
	if k := g.pair(id); k == nil || k.failures > 0 || now.Sub(k.last) > trustAgain {
		news = true
	}
	k := g.known.put(placeOf(id))
	k.failures, k.last, k.addr = 0, now, id.addr
	g.tidy(id)
	return news
}

// place is where the pairs of a user and some of all addresses are kept: one at a time. So one user has 256 of them at most, and whoever
// logs in from thousands of addresses makes nobody else's be forgotten.
type place struct {
	user hashed
	at   uint8
}

func placeOf(id identity) place { return place{id.user, id.addr[0]} }

// pair is the record of a known pair, or nil.
func (g *guard) pair(id identity) *record {
	if k := g.known.get(placeOf(id)); k != nil && k.addr == id.addr {
		return k
	}
	return nil
}
