package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
)

// boxTimeout is how long one operation on a very large mailbox may take.
const boxTimeout = 5 * time.Minute

// box is a mailbox that is measured, with what its operations need.
type box struct {
	env      *Env
	account  load.Account
	messages uint32 // when it is measured
	rare     string // a subject that one message has
	inside   *read.Session
	outside  *read.Session // with no mailbox selected
	sender   *send.Sender
	corpus   *load.Corpus
	rng      *rand.Rand
	known    []imap.UID
	flagged  bool
	sent     int
	recs     map[string]*load.Recorder
}

// boxOp is an operation on a mailbox. It notes itself how long it took, without what it needs before.
type boxOp struct {
	name, what string
	do         func(ctx context.Context, b *box, timed func(func() error)) error
}

var boxOps = []boxOp{
	{"select", "SELECT", func(ctx context.Context, b *box, timed func(func() error)) error {
		s, err := b.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout})
		if err != nil {
			return err
		}
		defer s.Close()
		timed(func() error {
			_, err := s.Select(ctx, inbox)
			return err
		})
		return nil
	}},
	{"status", "STATUS", func(ctx context.Context, b *box, timed func(func() error)) error {
		timed(func() error {
			_, err := b.outside.Status(ctx, inbox)
			return err
		})
		return nil
	}},
	{"list50", "list of the newest 50", func(ctx context.Context, b *box, timed func(func() error)) error {
		timed(func() error { return listed(b.inside.Newest(ctx, 50)) })
		return nil
	}},
	{"search_header", "search for a subject", func(ctx context.Context, b *box, timed func(func() error)) error {
		timed(func() error { return hits(b.inside.SearchHeader(ctx, "Subject", b.rare)) })
		return nil
	}},
	{"flag", "STORE of a flag", func(ctx context.Context, b *box, timed func(func() error)) error {
		timed(func() error {
			b.flagged = !b.flagged
			return b.inside.SetFlag(ctx, b.known[b.rng.IntN(len(b.known))], imap.FlagFlagged, b.flagged)
		})
		return nil
	}},
	{"deliver", "delivery", func(ctx context.Context, b *box, timed func(func() error)) error {
		b.sent++
		m := b.corpus.Message(b.sent, time.Now(), b.account.Address)
		timed(func() error { return b.sender.Send(ctx, 0, m) })
		return nil
	}},
}

// newBox makes a box whose recorders begin with the name.
func newBox(e *Env, a load.Account, name string, began time.Time) *box {
	b := &box{env: e, account: a, recs: make(map[string]*load.Recorder)}
	for _, op := range boxOps {
		b.recs[op.name] = load.NewRecorder(name+", "+op.what, load.RecorderOptions{Began: began})
	}
	return b
}

// node is the one that the box is reached through: the first, which is in the accounts' own region.
func (b *box) node() int { return imapNodes(b.env.Target)[0] }

// open opens what the operations need. The mailbox has been filled.
func (b *box) open(ctx context.Context, seed uint64) (err error) {
	b.rng = rand.New(rand.NewPCG(seed, 0x626f78)) // "box"
	if b.corpus, err = load.NewCorpus(load.CorpusOptions{Seed: seed, Size: seedSize}); err != nil {
		return err
	}
	home := b.env.atHome()
	protocols := spoken(home.Target)
	if len(protocols) == 0 {
		return fmt.Errorf("%s has neither LMTP nor SMTP", b.env.Target.Name)
	}
	if b.sender, err = send.New(home.Target, send.Options{Protocol: send.Protocol(protocols[0]), Workers: 1}); err != nil {
		return err
	}
	if b.outside, err = b.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout}); err != nil {
		return err
	}
	return b.enter(ctx)
}

// enter opens the session that has the mailbox selected.
func (b *box) enter(ctx context.Context) error {
	s, err := b.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout})
	if err != nil {
		return err
	}
	if b.inside != nil {
		b.inside.Close()
	}
	b.inside = s
	if b.messages, err = s.Select(ctx, inbox); err != nil {
		return err
	}
	items, err := s.Newest(ctx, smallMessages)
	if err := listed(items, err); err != nil {
		return err
	}
	rare, err := s.SearchHeader(ctx, "Subject", b.rare)
	if err := hits(rare, err); err != nil {
		return err
	}
	b.known = rare
	for _, item := range items {
		b.known = append(b.known, item.UID)
	}
	return nil
}

func (b *box) close() {
	for _, s := range []*read.Session{b.inside, b.outside} {
		if s != nil {
			s.Close()
		}
	}
	if b.sender != nil {
		b.sender.Close()
	}
}

// recorders are those of all operations.
func (b *box) recorders() (out []*load.Recorder) {
	for _, op := range boxOps {
		out = append(out, b.recs[op.name])
	}
	return out
}

// revive makes a session again that an operation broke.
func (b *box) revive(ctx context.Context) error {
	if !b.outside.Alive() {
		s, err := b.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout})
		if err != nil {
			return err
		}
		b.outside = s
	}
	if !b.inside.Alive() {
		return b.enter(ctx)
	}
	return nil
}

// operate does an operation and records it, or that it could not be done.
func (b *box) operate(ctx context.Context, op boxOp) {
	rec := b.recs[op.name]
	if err := b.revive(ctx); err != nil {
		rec.Fail(time.Now(), err)
		return
	}
	err := op.do(ctx, b, func(f func() error) {
		begun := rec.Begin(time.Now())
		begun.End(f())
	})
	if err != nil {
		rec.Fail(time.Now(), err)
	}
}

// fillSmall gives the small mailbox its messages, one of them with a subject of its own, and takes away what earlier runs left.
func (m *mailboxes) fillSmall(ctx context.Context, sh *shelf) error {
	b := sh.small
	if err := sh.env.fill(ctx, m.env.Progress, []load.Account{b.account}, smallMessages, seedSize); err != nil {
		return err
	}
	s, err := sh.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Select(ctx, inbox); err != nil {
		return err
	}
	if err := s.ExpungeAfter(ctx, smallMessages-1); err != nil {
		return fmt.Errorf("empty the small mailbox to %d messages: %w", smallMessages, err)
	}
	return b.bury(ctx, s)
}

// bury puts the message with the rare subject into the mailbox.
func (b *box) bury(ctx context.Context, s *read.Session) error {
	b.rare = fmt.Sprintf("heron %d", time.Now().UnixNano())
	raw := fmt.Appendf(nil, "From: a@remote.test\r\nTo: %s\r\nSubject: Of the %s\r\nMessage-ID: <%d@remote.test>\r\n\r\nThere is one of these.\r\n",
		b.account.Address, b.rare, time.Now().UnixNano())
	_, err := s.Append(ctx, inbox, raw)
	return err
}

// fillLarge doubles the large mailbox by COPY into itself until it has what is wanted. The rare message is put in on the way.
func (m *mailboxes) fillLarge(ctx context.Context, sh *shelf) error {
	b := sh.large
	if err := sh.env.fill(ctx, m.env.Progress, []load.Account{b.account}, min(seedMessages, m.want-1), seedSize); err != nil {
		return err
	}
	s, err := sh.env.login(ctx, b.node(), b.account, read.Options{Timeout: boxTimeout})
	if err != nil {
		return err
	}
	defer s.Close()
	have, err := s.Select(ctx, inbox)
	if err != nil {
		return err
	}
	m.env.Progress.Step("%s: fill the large mailbox by COPY", sh.env.Target.Name)
	var done atomic.Uint32
	done.Store(have)
	m.env.Progress.Rate(func() string {
		return fmt.Sprintf("%d of %d messages, %.1f COPYs/s", done.Load(), m.want, sh.filling.Figures().Rate())
	})
	want := uint32(m.want - 1) // the rare one is in it too
	for have < want {
		if b.rare == "" && have >= want/2 {
			if err := b.bury(ctx, s); err != nil {
				return err
			}
		}
		n := min(have, want-have, mostCopied)
		if err := sh.copy(ctx, s, n); err != nil {
			return err
		}
		have += n
		done.Store(have)
	}
	if b.rare == "" {
		return b.bury(ctx, s)
	}
	return nil
}

// copy copies the oldest n messages and notes how long it took.
func (sh *shelf) copy(ctx context.Context, s *read.Session, n uint32) error {
	began := time.Now()
	begun := sh.filling.Begin(began)
	err := s.CopyRange(ctx, 1, n, inbox)
	begun.End(err)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	took := time.Since(began)
	sh.copied, sh.took = sh.copied+n, sh.took+took
	sh.rates = append(sh.rates, float64(n)/took.Seconds())
	return nil
}
