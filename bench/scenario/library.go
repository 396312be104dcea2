package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
)

// library is what one side reads: mailboxes, a session with each, and how long everything took.
type library struct {
	env         *Env
	accounts    []load.Account
	each        int
	least, most int // messages in a mailbox when it began
	pool        *read.Pool
	inboxes     []*opened // one a session; worker w has those whose number modulo the workers is w
	recs        map[string]*load.Recorder
	turns       []*load.Recorder // all operations of each turn
	cpu         time.Duration    // of the servers in all turns
	poll        []int            // nodes that serve POP3
}

// opened is what the client of a session knows of its mailbox.
type opened struct {
	account load.Account
	items   []read.Item
	seen    bool // what the next change of a flag makes of it
}

// readOp is a kind of operation of a reader.
type readOp struct {
	name, what string
	weight     int // percent
	do         func(ctx context.Context, s *read.Session, o *opened, rng *rand.Rand) error
}

// readOps are weighed as clients do: much is fetched, the list is redrawn, folders are looked after, some is marked, little is searched.
var readOps = []readOp{
	{"fetch", "FETCH of a message", 40, func(ctx context.Context, s *read.Session, o *opened, rng *rand.Rand) error {
		_, err := s.Body(ctx, o.pick(rng).UID)
		return err
	}},
	{"list50", "list of the newest 50", 15, func(ctx context.Context, s *read.Session, o *opened, _ *rand.Rand) error {
		return listed(s.Newest(ctx, 50))
	}},
	{"status", "STATUS", 20, func(ctx context.Context, s *read.Session, _ *opened, _ *rand.Rand) error {
		_, err := s.Status(ctx, inbox)
		return err
	}},
	{"select", "SELECT", 10, func(ctx context.Context, s *read.Session, _ *opened, _ *rand.Rand) error {
		_, err := s.Select(ctx, inbox)
		return err
	}},
	{"store", "STORE of a flag", 10, func(ctx context.Context, s *read.Session, o *opened, rng *rand.Rand) error {
		o.seen = !o.seen
		return s.SetFlag(ctx, o.pick(rng).UID, imap.FlagSeen, o.seen)
	}},
	{"search", "SEARCH in subjects", 5, func(ctx context.Context, s *read.Session, o *opened, rng *rand.Rand) error {
		return hits(s.SearchHeader(ctx, "Subject", word(o.pick(rng).Subject)))
	}},
}

// pop3 is the kind of operation that is a whole poll.
const pop3 = "pop3"

// pick is one of the messages that the client knows.
func (o *opened) pick(rng *rand.Rand) read.Item { return o.items[rng.IntN(len(o.items))] }

var (
	errNothingListed = errors.New("the list is empty though the mailbox has messages")
	errNothingFound  = errors.New("the search found nothing though there is a message that it should find")
)

func listed(items []read.Item, err error) error {
	if err == nil && len(items) == 0 {
		return errNothingListed
	}
	return err
}

func hits(found []imap.UID, err error) error {
	if err == nil && len(found) == 0 {
		return errNothingFound
	}
	return err
}

// word is one to search for: the first of a subject that is plain letters, or nothing, which every message has.
func word(subject string) string {
	for _, w := range strings.Fields(subject) {
		if len(w) >= 3 && strings.IndexFunc(w, func(r rune) bool { return r < 'A' || r > 'z' || r > 'Z' && r < 'a' }) < 0 {
			return w
		}
	}
	return ""
}

// open fills a side's mailboxes and opens its sessions.
func (r *readings) open(ctx context.Context, side *Env) (*library, error) {
	each, boxes := cmp.Or(r.env.Options.Messages, readMessages), readMailboxes
	if r.env.Options.Short {
		each, boxes = min(each, 50), 8
	}
	lib := &library{env: side, each: each, accounts: side.quiet(2, boxes), recs: map[string]*load.Recorder{}}
	if err := side.fill(ctx, r.env.Progress, lib.accounts, each, r.env.Options.Size); err != nil {
		return nil, err
	}
	name := side.Target.Name
	for _, o := range readOps {
		lib.recs[o.name] = load.NewRecorder(name+", "+o.what, load.RecorderOptions{Began: r.began})
	}
	lib.recs[pop3] = load.NewRecorder(name+", poll by POP3: connect, TLS, login, UIDL, the newest message", load.RecorderOptions{Began: r.began})
	for i, n := range side.Target.Nodes {
		if n.POP3 != "" || n.POP3S != "" && side.Target.TLS != nil {
			lib.poll = append(lib.poll, i)
		}
	}
	sessions := max(r.workers, len(lib.accounts))
	pool, err := read.NewPool(side.Target, read.PoolOptions{Workers: sessions})
	if err != nil {
		return nil, err
	}
	lib.pool = pool
	for i := range sessions {
		lib.inboxes = append(lib.inboxes, &opened{account: lib.accounts[i%len(lib.accounts)]})
	}
	if err := lib.look(ctx, r); err != nil {
		pool.Close()
		return nil, err
	}
	return lib, nil
}

// look opens each session and lists its mailbox, as a client that starts.
func (l *library) look(ctx context.Context, r *readings) error {
	r.env.Progress.Step("%s: open %d sessions", l.env.Target.Name, len(l.inboxes))
	rec := load.NewRecorder("opening", load.RecorderOptions{})
	messages := make([]int, len(l.inboxes))
	err := load.Closed{Workers: fillers, Count: len(l.inboxes), Grace: grace}.Run(ctx, rec, func(ctx context.Context, t load.Turn) error {
		o := l.inboxes[t.N]
		return l.pool.Do(ctx, t.N, o.account, inbox, func(ctx context.Context, s *read.Session) error {
			n, err := s.Select(ctx, inbox)
			if err != nil {
				return err
			}
			messages[t.N] = int(n)
			o.items, err = s.Newest(ctx, l.each)
			return listed(o.items, err)
		})
	})
	if f := rec.Figures(); err == nil && f.Failures > 0 {
		err = fmt.Errorf("%d of %d sessions could not be opened: %v", f.Failures, len(l.inboxes), f.Examples)
	}
	l.least, l.most = slices.Min(messages), slices.Max(messages)
	return errors.Join(err, ctx.Err())
}

// operate does what the mix has as number N, on one of the worker's sessions.
func (l *library) operate(ctx context.Context, workers int, t load.Turn) error {
	rng := rand.New(rand.NewPCG(l.env.Options.Seed, uint64(t.N)))
	mine := (len(l.inboxes) - t.Worker + workers - 1) / workers
	session := t.Worker + workers*rng.IntN(mine)
	at, op := rng.IntN(100), readOps[0]
	for _, op = range readOps {
		if at -= op.weight; at < 0 {
			break
		}
	}
	o := l.inboxes[session]
	begun := l.recs[op.name].Begin(t.Due)
	err := l.pool.Do(ctx, session, o.account, inbox, func(ctx context.Context, s *read.Session) error { return op.do(ctx, s, o, rng) })
	begun.End(err)
	return err
}

// pollOnce is what a POP3 client does every few minutes, with a node chosen by the poll's number.
func (l *library) pollOnce(ctx context.Context, t load.Turn) error {
	p, err := read.DialPOP3(ctx, l.env.Target, l.poll[t.N%len(l.poll)], read.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Login(ctx, l.accounts[t.N%len(l.accounts)]); err != nil {
		return err
	}
	uids, err := p.UIDL(ctx)
	if err != nil {
		return err
	}
	if len(uids) == 0 {
		return errNothingListed
	}
	if _, err := p.Retr(ctx, len(uids)); err != nil {
		return err
	}
	return p.Quit(ctx)
}

// kinds are the names of all kinds of operations, in the order they are shown.
func (l *library) kinds() (out []string) {
	for _, o := range readOps {
		out = append(out, o.name)
	}
	return append(out, pop3)
}

// recorders are those of all kinds.
func (l *library) recorders() (out []*load.Recorder) {
	for _, k := range l.kinds() {
		out = append(out, l.recs[k])
	}
	return out
}

// successes counts the operations of the mix that succeeded, in all turns.
func (l *library) successes() (n int64) {
	for _, t := range l.turns {
		n += t.Figures().Successes
	}
	return n
}

// rate is the mean of the turns' operations a second.
func (l *library) rate() (sum float64) {
	for _, t := range l.turns {
		sum += t.Figures().Rate()
	}
	return sum / float64(len(l.turns))
}
