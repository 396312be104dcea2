package lease

import "time"

// holder is a session somewhere.
type holder struct {
	node    string
	session uint64
}

// tenancy is what a leader knows of an account.
type tenancy struct {
	holder
	until time.Time // by the leader's clock
	sure  bool      // granted; else the nodes are being asked
}

// table is what the leader of a shard knows in one term. It belongs to the Service's lock.
type table struct {
	Office
	held  map[uint64]*tenancy // by account
	swept time.Time           // when those that have run out were removed last
}

func newTable(o Office, now time.Time) *table {
	return &table{Office: o, held: make(map[uint64]*tenancy), swept: now}
}

// of is who has or is about to get an account; nil is nobody.
func (t *table) of(account uint64, now time.Time) *tenancy {
	if now.Sub(t.swept) > formerTerm {
		t.swept = now
		for a, h := range t.held {
			if !now.Before(h.until) {
				delete(t.held, a)
			}
		}
	}
	h := t.held[account]
	if h == nil || !now.Before(h.until) {
		return nil
	}
	return h
}

// put notes a holder, for a term.
func (t *table) put(account uint64, h holder, sure bool, now time.Time, term time.Duration) {
	t.held[account] = &tenancy{holder: h, until: now.Add(term), sure: sure}
}

// arrivals are the accounts that came to a shard a short while ago.
type arrivals map[uint64]time.Time

// add notes one, and forgets those that no longer matter.
func (a arrivals) add(account uint64, now time.Time) {
	for old, at := range a {
		if now.Sub(at) >= formerTerm {
			delete(a, old)
		}
	}
	a[account] = now
}

// doubtful says how long an account that nobody is known to have may still have somebody.
func (t *table) doubtful(at time.Time, arrived bool, now time.Time, term time.Duration) time.Duration {
	from := t.Since
	if arrived && at.After(from) {
		from = at
	}
	return from.Add(term).Sub(now)
}
