package auth

import (
	"sync"
	"time"

	"hongyan/cluster/member"
)

// Nodes tell each other what came of logins, so that who guesses at several has no more guesses, and a user who is known at one address is known to
// all of them. Each failure is told, and each success that is news; the others enter it as if it were their own. It is told once and to those
// who are there: a node that was cut off or has just started knows only what it heard since.
//
// A word is a row of results:
//
//	1 byte   0 failure, 1 success
//	16       user: the beginning of SHA-256 of the name in lower case
//	16       address, likewise; zero for none
const (
	resultSize = 1 + 2*len(hashed{})
	wordSize   = member.MaxWord / resultSize * resultSize

	tellEvery = 100 * time.Millisecond // one word at most
	maxToTell = 1 << 12                // results that wait; more are not told
	maxGood   = maxToTell / 2          // as many as wait when a success still joins them: they cost no hash to make
)

// Gossip carries words between nodes, as *cluster.Node does.
type Gossip interface {
	Tell(about member.Subject, word []byte)
	Hear(about member.Subject, fn func(word []byte))
}

// result is what came of a login.
type result struct {
	id identity
	ok bool
}

// teller collects results and tells them.
type teller struct {
	mu      sync.Mutex // guards what follows
	gossip  Gossip     // nil: nobody is told
	waiting []byte     // results, encoded
	armed   bool       // tell is about to be called
}

// Share makes the locks those of the whole cluster: from now on this node tells the others of its logins and hears of theirs.
func (a *Authenticator) Share(g Gossip) {
	a.teller.mu.Lock()
	a.teller.gossip = g
	a.teller.mu.Unlock()
	g.Hear(member.Logins, a.heard)
}

func (t *teller) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := maxToTell
	if r.ok {
		limit = maxGood
	}
	if t.gossip == nil || len(t.waiting) >= limit*resultSize {
		return
	}
	t.waiting = r.append(t.waiting)
	t.arm()
}

// arm sees to it that what waits is told. It is called with the lock.
func (t *teller) arm() {
	if !t.armed && len(t.waiting) > 0 {
		t.armed = true
		time.AfterFunc(tellEvery, t.tell)
	}
}

func (t *teller) tell() {
	t.mu.Lock()
	word := t.waiting[:min(len(t.waiting), wordSize)]
	t.waiting = append([]byte(nil), t.waiting[len(word):]...)
	gossip := t.gossip
	t.armed = false
	t.arm()
	t.mu.Unlock()
	gossip.Tell(member.Logins, word)
}

func (r result) append(b []byte) []byte {
	kind := byte(0)
	if r.ok {
		kind = 1
	}
	b = append(b, kind)
	b = append(b, r.id.user[:]...)
	return append(b, r.id.addr[:]...)
}

// heard enters the results of another node. What it cannot read comes from a program that knows more.
func (a *Authenticator) heard(word []byte) {
	now := time.Now()
	for ; len(word) >= resultSize; word = word[resultSize:] {
		id := identity{user: hashed(word[1:17]), addr: hashed(word[17:33])}
		switch word[0] {
		case 0:
			a.guard.failed(id, now)
		case 1:
			a.guard.succeeded(id, now)
		}
	}
}
