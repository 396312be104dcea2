package people

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/emersion/go-imap/v2"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
)

// Bounds of a round, so that a mailbox that somebody filled does not keep a user busy for ever.
const (
	maxFolders  = 10
	maxBodies   = 10
	maxPOP3Mail = 20
	maxTo       = 20
)

// phone lives in IDLE.
func (u *user) phone(ctx, work context.Context, s *read.Session) error {
	next := s.UIDNext()
	for {
		notice, err := s.Idle(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			u.c.headers.Fail(time.Now(), err) // the session was lost, and with it what would have been told
			return err
		}
		var fresh []read.Header
		if err := record(u.c.headers, func() (err error) {
			fresh, err = s.HeadersSince(work, next)
			return err
		}); err != nil {
			return err
		}
		for _, h := range fresh {
			next = max(next, h.UID+1)
			if due, ok := load.Due(h.Raw); ok {
				u.c.notice.Observe(due, notice.At)
			}
		}
		if len(fresh) == 0 || u.rng.IntN(10) >= 3 {
			continue
		}
		if !u.think(ctx, 5*time.Second) {
			return nil
		}
		if err := record(u.c.open, func() error { return u.open(work, s, fresh[len(fresh)-1].UID) }); err != nil {
			return err
		}
	}
}

// open reads a message and marks it as read.
func (u *user) open(work context.Context, s *read.Session, uid imap.UID) error {
	if _, err := s.Body(work, uid); err != nil {
		return gone(err)
	}
	return s.SetFlag(work, uid, imap.FlagSeen, true)
}

// gone forgives a NO: other programs of the same account may have removed the message meanwhile.
func gone(err error) error {
	if load.Classify(err) == load.No {
		return nil
	}
	return err
}

// desktop syncs in rounds.
func (u *user) desktop(ctx, work context.Context, s *read.Session) error {
	folders, err := s.Mailboxes(work)
	if err != nil {
		return err
	}
	folders = folders[:min(len(folders), maxFolders)]
	next := s.UIDNext()
	for u.think(ctx, 60*time.Second) {
		if err := record(u.c.sync, func() (err error) {
			next, err = u.round(work, s, folders, next)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// round is one sync; it gives the first UID that the next one has to look at.
func (u *user) round(work context.Context, s *read.Session, folders []string, next imap.UID) (imap.UID, error) {
	for _, f := range folders {
		if _, err := s.Status(work, f); err != nil {
			return next, err
		}
	}
	fresh, err := s.Since(work, next)
	if err != nil {
		return next, err
	}
	for i, item := range fresh {
		next = max(next, item.UID+1)
		if i < maxBodies {
			if err := u.open(work, s, item.UID); err != nil {
				return next, err
			}
		}
	}
	return next, nil
}

// searcher looks for old mail.
func (u *user) searcher(ctx, work context.Context, s *read.Session) error {
	for u.think(ctx, 45*time.Second) {
		var items []read.Item
		if err := record(u.c.list, func() (err error) {
			items, err = s.Newest(work, 50)
			return err
		}); err != nil {
			return err
		}
		word := "a"
		if len(items) > 0 {
			word = wordOf(items[u.rng.IntN(len(items))].Subject, u.rng.IntN(8))
		}
		if err := record(u.c.search, func() error { return u.find(work, s, word) }); err != nil {
			return err
		}
	}
	return nil
}

// find searches for a word and opens what was found.
func (u *user) find(work context.Context, s *read.Session, word string) error {
	var hits []imap.UID
	var err error
	if u.rng.IntN(3) < 2 {
		hits, err = s.SearchHeader(work, "Subject", word)
	} else {
		hits, err = s.SearchText(work, word)
	}
	if err != nil || len(hits) == 0 {
		return err
	}
	_, err = s.Body(work, hits[u.rng.IntN(len(hits))])
	return gone(err)
}

// poll is a POP3 user's visit. What is new is what came since the last visit; the newest are fetched.
func (u *user) poll(work context.Context) error {
	p, err := read.DialPOP3(work, u.c.t, u.picker.Node(), u.c.o.Read)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Login(work, u.account); err != nil {
		return err
	}
	if _, _, err := p.Stat(work); err != nil {
		return err
	}
	uids, err := p.UIDL(work)
	if err != nil {
		return err
	}
	empty := u.rng.IntN(4) == 0
	for i := len(uids); i > 0 && i > len(uids)-maxPOP3Mail && uids[i-1] != u.last; i-- {
		if _, err := p.Retr(work, i); err != nil {
			return err
		}
		if empty {
			if err := p.Dele(work, i); err != nil {
				return err
			}
		}
	}
	if len(uids) > 0 {
		u.last = uids[len(uids)-1]
	}
	return p.Quit(work)
}

// sendBulk sends one message to some accounts.
func (u *user) sendBulk(work context.Context) error {
	n := int(u.c.serial.Add(1)) - 1
	var to []string
	seen := map[int]bool{}
	for i := range 1 + u.rng.IntN(maxTo) {
		a := u.c.o.Skew.Pick(uint64(n)*maxTo + uint64(i))
		if !seen[a] {
			seen[a] = true
			to = append(to, u.c.t.Accounts[a].Address)
		}
	}
	first := len(u.c.users) - u.c.o.Mix[Bulk] // Bulk is the last profile
	if err := u.c.sender.Send(work, u.number-first, u.c.o.Corpus.Message(n, time.Now(), to...)); err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	return nil
}

// wordOf is word n of a subject, counted around; "a" when it has none worth searching for.
func wordOf(subject string, n int) string {
	words := strings.FieldsFunc(subject, func(r rune) bool { return !unicode.IsLetter(r) })
	if len(words) == 0 {
		return "a"
	}
	return words[n%len(words)]
}
