package auth

import (
	"context"
	"fmt"
	"time"

	"hongyan/cluster/client"
)

// Guesses that come together must not all be checked before the first of them has failed. Therefore:
//
//  1. Each check is counted while it is under way, as the failure that it may become: in the records of its user and address, or
//     only in that of its pair if this lets it past the locks.
//  2. An attempt enters only where failures and checks together stay within the limit. Past the limit, when a
//     lock has ended, one is checked at a time.
//  3. Others wait in the queue of the record that holds them up. When one of its checks ends, they are looked at again in order: a
//     success lets all in, a failure that locks turns all away.
//
// So somebody whose password is right is not turned away for opening many connections at once.

// attempt is a login on its way through the guard, which guards all of it.
type attempt struct {
	id      identity
	counted []*record     // once it has entered
	decided chan struct{} // closed when it has entered or is locked
	locked  bool
	gone    bool // it waits no longer
}

// enter waits until an attempt may be checked; leave is to be called after that. ErrThrottled, or client.ErrUnavailable when ctx ends first.
func (g *guard) enter(ctx context.Context, id identity) (*attempt, error) {
	at := &attempt{id: id, decided: make(chan struct{})}
	g.mu.Lock()
	if busy := g.admit(at, time.Now()); busy != nil {
		busy.queue = append(busy.queue, at)
	}
	g.mu.Unlock()
	select {
	case <-at.decided:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case at.locked:
		return nil, ErrThrottled
	case at.counted == nil:
		at.gone = true
		return nil, fmt.Errorf("too many logins of one user or address at once: %w", client.ErrUnavailable)
	}
	return at, nil
}

// admit decides on an attempt, or returns the record whose checks hold it up.
func (g *guard) admit(at *attempt, now time.Time) (busy *record) {
	if pair := g.pair(at.id); pair != nil && pair.failures < pairFailures && now.Sub(pair.last) < trust {
		if pair.full(pairFailures) {
			return pair
		}
		at.enter(pair)
		close(at.decided)
		return nil
	}
	user, addr := g.users.get(at.id.user), g.addrs.get(at.id.addr)
	if user.locked(now) || addr.locked(now) {
		at.locked = true
		close(at.decided)
		return nil
	}
	user.age(now)
	addr.age(now)
	if user.full(userFailures) {
		return user
	}
	if addr.full(addrFailures) {
		return addr
	}
	at.enter(g.users.put(at.id.user))
	if at.id.addr != (hashed{}) {
		at.enter(g.addrs.put(at.id.addr))
	}
	close(at.decided)
	return nil
}

// enter counts the check in one more record.
func (at *attempt) enter(r *record) {
	r.pending++
	at.counted = append(at.counted, r)
}

// leave ends an attempt's check, whose result was entered before if it has one.
func (g *guard) leave(at *attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range at.counted {
		r.pending--
	}
	now := time.Now()
	for _, r := range at.counted {
		g.serve(r, now)
	}
	g.tidy(at.id)
}

// serve decides on the attempts that wait for a record, until it holds one up again.
func (g *guard) serve(r *record, now time.Time) {
	for len(r.queue) > 0 {
		at := r.queue[0]
		if !at.gone {
			busy := g.admit(at, now)
			if busy == r {
				return
			}
			if busy != nil {
				busy.queue = append(busy.queue, at)
			}
		}
		r.queue[0] = nil
		r.queue = r.queue[1:]
	}
	r.queue = nil
}

// tidy forgets records that hold nothing.
func (g *guard) tidy(id identity) {
	if u := g.users.get(id.user); u != nil && u.failures == 0 && u.pending == 0 {
		g.users.remove(id.user)
	}
	if a := g.addrs.get(id.addr); a != nil && a.failures == 0 && a.pending == 0 {
		g.addrs.remove(id.addr)
	}
}
