package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
)

// crowd is the sessions in IDLE of one side, by account.
type crowd struct {
	env        *Env
	groups     []*group
	ears       []*ear // of all groups, in the order they are opened
	protocol   send.Protocol
	opening    *load.Recorder
	deliveries *load.Recorder // each until everybody has heard of it
	home       *hearing
	standing   atomic.Int64
	median     uint32 // messages in the mailboxes
	told       atomic.Int64

	before, after weight
	ctx           context.Context
	cancel        context.CancelFunc
	watching      sync.WaitGroup
}

// group is the sessions of one account. One delivery at a time is under way to it, so that it is known which one a notice is about.
type group struct {
	account load.Account
	ears    []*ear

	mu       sync.Mutex // held during a delivery, guards what follows
	messages uint32
	astray   error // why nobody knows any more how many messages it has
}

// ear is one session.
type ear struct {
	group    *group
	node     int
	near     bool // in the region where the mail is delivered
	messages uint32
	heard    chan read.Notice
	gone     chan struct{} // closed when it does not listen any more
	err      error         // why; to be read once gone is closed
}

// hearing is how soon notices came in a part of the run.
type hearing struct{ all, near, far, due *load.Recorder }

func newHearing(name string, began time.Time) *hearing {
	o := load.RecorderOptions{Began: began}
	return &hearing{
		all:  load.NewRecorder(name+", notices", o),
		near: load.NewRecorder(name+", notices in the region of the delivery", o),
		far:  load.NewRecorder(name+", notices in other regions", o),
		due:  load.NewRecorder(name+", notices from when the delivery was due", o),
	}
}

func (h *hearing) observe(e *ear, due, acked, at time.Time) {
	h.all.Observe(acked, at)
	h.side(e).Observe(acked, at)
	h.due.Observe(due, at)
}

func (h *hearing) fail(e *ear, due, acked time.Time, err error) {
	h.all.Fail(acked, err)
	h.side(e).Fail(acked, err)
	h.due.Fail(due, err)
}

func (h *hearing) side(e *ear) *load.Recorder {
	if e.near {
		return h.near
	}
	return h.far
}

// newCrowd plans a side's sessions. Each account has the same number, on nodes one after the other.
func newCrowd(d *idling, side *Env, sessions int) (*crowd, error) {
	protocols, nodes := spoken(side.Target), imapNodes(side.Target)
	if len(protocols) == 0 {
		return nil, fmt.Errorf("%s has neither LMTP nor SMTP, by which mail could come that the sessions hear of", side.Target.Name)
	}
	o, name := load.RecorderOptions{Began: d.began}, side.Target.Name
	c := &crowd{env: side, protocol: send.Protocol(protocols[0]), home: newHearing(name, d.began),
		opening: load.NewRecorder(name+", opening a session", o), deliveries: load.NewRecorder(name+", deliveries that everybody heard of", o)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for _, a := range side.quiet(2+readMailboxes, (sessions+idlePerAccount-1)/idlePerAccount) {
		c.groups = append(c.groups, &group{account: a})
	}
	for i := range sessions {
		g := c.groups[i%len(c.groups)]
		node := nodes[i/len(c.groups)%len(nodes)]
		e := &ear{group: g, node: node, near: side.Target.Nodes[node].Region == side.Target.Nodes[0].Region, heard: make(chan read.Notice, heardAhead), gone: make(chan struct{})}
		g.ears, c.ears = append(g.ears, e), append(c.ears, e)
	}
	return c, nil
}

// heardAhead is how many notices of a session may wait to be looked at; what comes of others' mail beyond is dropped.
const heardAhead = 64

// introduce logs each account in once at each node and leaves again: what a server keeps of a first login, such as a password's costly hash, is not
// a session's.
func (c *crowd) introduce(ctx context.Context) error {
	nodes := imapNodes(c.env.Target)
	rec := load.NewRecorder("logins", load.RecorderOptions{})
	err := load.Closed{Workers: fillers, Count: len(c.groups) * len(nodes), Grace: grace}.Run(ctx, rec, func(ctx context.Context, t load.Turn) error {
		s, err := c.env.login(ctx, nodes[t.N%len(nodes)], c.groups[t.N/len(nodes)].account, read.Options{})
		if err != nil {
			return err
		}
		return s.Logout(ctx)
	})
	if f := rec.Figures(); err == nil && f.Successes == 0 {
		err = fmt.Errorf("nobody could log in: %v", f.Examples)
	}
	return errors.Join(err, ctx.Err())
}

// enter opens the sessions. Those that cannot be are counted, and are missing from then on.
func (c *crowd) enter(ctx context.Context) error {
	err := load.Closed{Workers: fillers, Count: len(c.ears), Grace: grace}.Run(ctx, c.opening, func(ctx context.Context, t load.Turn) error {
		return c.listen(ctx, c.ears[t.N])
	})
	if f := c.opening.Figures(); err == nil && f.Successes == 0 {
		err = fmt.Errorf("no session could be opened: %v", f.Examples)
	}
	var sizes []uint32
	for _, g := range c.groups {
		for _, e := range g.ears {
			g.messages = max(g.messages, e.messages)
		}
		sizes = append(sizes, g.messages)
	}
	c.median = median(sizes)
	return errors.Join(err, ctx.Err())
}

// listen opens a session and returns once it is in IDLE, where it stays until the crowd is closed.
func (c *crowd) listen(ctx context.Context, e *ear) error {
	s, err := c.env.login(ctx, e.node, e.group.account, read.Options{})
	if err == nil {
		e.messages, err = s.Select(ctx, inbox)
	}
	if err != nil {
		if s != nil {
			s.Close()
		}
		e.err = err
		close(e.gone)
		return err
	}
	stands := make(chan struct{})
	c.watching.Go(func() {
		defer s.Close()
		defer close(e.gone)
		e.err = s.Watch(c.ctx, func() { close(stands) }, func(n read.Notice) {
			select {
			case e.heard <- n:
			default:
			}
		})
	})
	select {
	case <-stands:
		c.standing.Add(1)
		return nil
	case <-e.gone:
		return e.err
	}
}

// tell delivers mail on a schedule and waits until every session of its account has heard of it.
func (c *crowd) tell(ctx context.Context, d *idling, h *hearing, took time.Duration, step string) error {
	const workers = 256
	home := c.env.atHome()
	s, err := send.New(home.Target, send.Options{Protocol: c.protocol, Policy: load.Stick, Workers: workers})
	if err != nil {
		return err
	}
	defer s.Close()
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: c.env.Options.Seed, Size: c.env.Options.Size})
	if err != nil {
		return err
	}
	d.env.Progress.Step("notices, %s", step)
	d.env.Progress.Rate(func() string {
		l := h.all.Live()
		return fmt.Sprintf("%.0f/s, p99 %v", l.Rate, l.P99.Round(100*time.Microsecond))
	})
	err = load.Open{Rate: d.rate, Poisson: true, Seed: c.env.Options.Seed, Workers: workers, For: took, Grace: grace}.Run(ctx, c.deliveries,
		func(ctx context.Context, t load.Turn) error {
			g := c.groups[int(c.told.Add(1)-1)%len(c.groups)]
			return c.deliver(ctx, s, g, h, t, corpus.Message(t.N, t.Due, g.account.Address))
		})
	if f := h.all.Figures(); err == nil && f.Successes == 0 {
		err = fmt.Errorf("no session heard of any mail: %v", f.Examples)
	}
	return errors.Join(err, ctx.Err())
}

func (c *crowd) deliver(ctx context.Context, s *send.Sender, g *group, h *hearing, t load.Turn, m *load.Message) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.astray != nil {
		return g.astray
	}
	if err := s.Send(ctx, t.Worker, m); err != nil {
		g.astray = fmt.Errorf("%s is not used any more, since it is not known whether a message came: %w", g.account.Address, err)
		return err
	}
	acked := time.Now()
	g.messages++
	ctx, cancel := context.WithDeadline(ctx, acked.Add(unheardAfter))
	defer cancel()
	missing := 0
	for _, e := range g.ears {
		at, err := e.hear(ctx, g.messages)
		if err != nil {
			missing++
			h.fail(e, t.Due, acked, err)
			continue
		}
		h.observe(e, t.Due, acked, at)
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d sessions of %s did not hear of a message within %v: %w", missing, len(g.ears), g.account.Address, unheardAfter, errUnheard)
	}
	return nil
}

// hear waits until the session was told of so many messages, and says when that was.
func (e *ear) hear(ctx context.Context, messages uint32) (time.Time, error) {
	for {
		select {
		case n := <-e.heard:
			if n.Messages >= messages {
				return n.At, nil
			}
		case <-e.gone:
			return time.Time{}, fmt.Errorf("the session is gone: %w", e.err)
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%w: %w", errUnheard, ctx.Err())
		}
	}
}

// close ends all sessions and waits for that.
func (c *crowd) close() {
	c.cancel()
	c.watching.Wait()
}
