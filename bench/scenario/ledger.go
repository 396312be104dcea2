package scenario

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/bench/load/read"
)

// ledger notes what senders tried and what they were promised, and holds the mailboxes against it at the end, as every node serves them. It is the
// plain sum behind bench/history: it knows deliveries only, and counts each message.
type ledger struct {
	mu    sync.Mutex // guards what follows
	sent  map[entry]*owed
	first map[string]imap.UID // of each user's INBOX when the ledger was opened; what was there before is not looked at
}

type entry struct{ user, id string }

// owed is a message to one user.
type owed struct {
	hash  [sha256.Size]byte
	tries int
	acked bool
}

// openLedger notes where the users' mailboxes end now.
func openLedger(ctx context.Context, t load.Target, users []load.Account) (*ledger, error) {
	l := &ledger{sent: make(map[entry]*owed), first: make(map[string]imap.UID)}
	err := eachMailbox(ctx, t, 0, users, func(ctx context.Context, s *read.Session, u load.Account) error {
		c, err := s.Status(ctx, inbox)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.first[u.Address] = max(c.UIDNext, 1)
		return err
	})
	return l, err
}

// Try implements send.Journal.
func (l *ledger) Try(user, id string, raw []byte) {
	hash := sha256.Sum256(history.WithoutTrace(raw))
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.sent[entry{user, id}]
	if o == nil {
		o = &owed{hash: hash}
		l.sent[entry{user, id}] = o
	}
	o.tries++
}

// Acknowledge implements send.Journal.
func (l *ledger) Acknowledge(user, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[entry{user, id}].acked = true
}

// findings are what reading all mailboxes through all nodes has shown. Each message counts once, however many nodes show it wrong.
type findings struct {
	acked    int // messages that were acknowledged
	read     int // bodies that were read
	lost     map[entry]string
	changed  map[entry]string
	doubled  map[entry]string // there more often than it was tried
	repeated map[entry]bool   // there more than once, since a sender got no answer and tried again, as mail exchangers do
}

func newFindings() *findings {
	return &findings{lost: map[entry]string{}, changed: map[entry]string{}, doubled: map[entry]string{}, repeated: map[entry]bool{}}
}

// violations are lines for the report: all lost ones up to a number that somebody reads.
func (f *findings) violations() (out []string) {
	for _, m := range []map[entry]string{f.lost, f.changed, f.doubled} {
		var lines []string
		for k, why := range m {
			lines = append(lines, fmt.Sprintf("%s to %s: %s", k.id, k.user, why))
		}
		slices.Sort(lines)
		const enough = 20
		if n := len(lines); n > enough {
			lines = append(lines[:enough], fmt.Sprintf("and %d more like this", n-enough))
		}
		out = append(out, lines...)
	}
	return out
}

// check reads every message of the users through every node.
func (l *ledger) check(ctx context.Context, t load.Target, users []load.Account) (*findings, error) {
	f := newFindings()
	for _, o := range l.sent {
		if o.acked {
			f.acked++
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(t.Nodes))
	for n := range t.Nodes {
		wg.Go(func() {
			errs[n] = eachMailbox(ctx, t, n, users, func(ctx context.Context, s *read.Session, u load.Account) error {
				found, err := l.readAll(ctx, s, u)
				if err != nil {
					return err
				}
				l.compare(f, t.Nodes[n].ID, u.Address, found)
				return nil
			})
		})
	}
	wg.Wait()
	return f, errors.Join(errs...)
}

// readAll gives the hashes of the bodies in an INBOX, by Message-ID.
func (l *ledger) readAll(ctx context.Context, s *read.Session, u load.Account) (map[string][][sha256.Size]byte, error) {
	if _, err := s.Select(ctx, inbox); err != nil {
		return nil, err
	}
	items, err := s.Since(ctx, l.first[u.Address])
	if err != nil {
		return nil, err
	}
	found := make(map[string][][sha256.Size]byte)
	for _, i := range items {
		raw, err := s.Body(ctx, i.UID)
		if err != nil {
			return nil, fmt.Errorf("UID %d: %w", i.UID, err)
		}
		id := "<" + i.ID + ">"
		found[id] = append(found[id], sha256.Sum256(history.WithoutTrace(raw)))
	}
	return found, nil
}

// compare holds what one node serves of one user's mail against what is owed.
func (l *ledger) compare(f *findings, node, user string, found map[string][][sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, o := range l.sent {
		if k.user != user {
			continue
		}
		here := found[k.id]
		f.read += len(here)
		switch {
		case len(here) == 0 && o.acked:
			f.lost[k] = cmp.Or(f.lost[k], "lost: acknowledged, and not there when read through "+node)
		case len(here) > o.tries:
			f.doubled[k] = cmp.Or(f.doubled[k], fmt.Sprintf("doubled: tried %d times, and there %d times when read through %s", o.tries, len(here), node))
		case len(here) > 1:
			f.repeated[k] = true
		}
		if slices.ContainsFunc(here, func(h [sha256.Size]byte) bool { return h != o.hash }) {
			f.changed[k] = cmp.Or(f.changed[k], "changed: other bytes than were sent, read through "+node)
		}
	}
}

// readers is how many mailboxes are read at once through a node.
const readers = 4

// eachMailbox logs in for every user at one node and calls f, some users at a time.
func eachMailbox(ctx context.Context, t load.Target, node int, users []load.Account, f func(context.Context, *read.Session, load.Account) error) error {
	next := make(chan load.Account)
	errs := make([]error, readers)
	var wg sync.WaitGroup
	for w := range readers {
		wg.Go(func() {
			for u := range next { // also after a failure, so that nobody waits
				if errs[w] == nil {
					errs[w] = oneMailbox(ctx, t, node, u, f)
				}
			}
		})
	}
	for _, u := range users {
		next <- u
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

func oneMailbox(ctx context.Context, t load.Target, node int, u load.Account, f func(context.Context, *read.Session, load.Account) error) error {
	s, err := read.DialIMAP(ctx, t, node, read.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Login(ctx, u); err != nil {
		return fmt.Errorf("log in as %s: %w", u.Address, err)
	}
	if err := f(ctx, s, u); err != nil {
		return fmt.Errorf("read mail of %s through node %s: %w", u.Address, t.Nodes[node].ID, err)
	}
	return nil
}
