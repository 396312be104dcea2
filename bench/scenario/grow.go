package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"hongyan/bench/exercise"
	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/cluster/pause"
)

var grow = Scenario{
	Name: "grow", Summary: "nodes come, are weighed, drained, replaced and lost with their region under mail, every message of which is checked (--kinds add,upgrade,move,weigh,drain,replace,region)",
	Lab: true, Alone: true, Takes: 11 * time.Minute, Run: runGrow, Kinds: growSteps,
	Settle: func(Options) time.Duration {
		return time.Minute // volumes end and turn cold while nodes come and go, so that both kinds move; sooner, that alone would be the load
	},
}

const (
	growRate     = 15.0 // messages a second beside the operations on mailboxes: seven nodes on two cores shall be half idle, or their queues are what is measured
	growOps      = 12.0 // of these, of all clients together
	growSize     = 4 << 10
	growUsers    = 20
	growBoxUsers = 3
	moveWait     = 5 * time.Minute  // for one step to be done
	regionAway   = 30 * time.Second // a region
	settleIn     = 3 * time.Second  // connections are made before anything is measured
)

// growth is a run of the scenario.
type growth struct {
	env     *Env // its target has the nodes of the moment
	began   time.Time
	section *report.Section
	book    *book
	fleet   *fleet
	traffic *traffic
	rng     *rand.Rand
	phases  []*phase
	marks   []report.Mark
	stats   exercise.Stats

	accounts uint64 // that have moved
}

func runGrow(ctx context.Context, e *Env) (*report.Section, error) {
	own := *e
	g := &growth{env: &own, began: time.Now(), section: &report.Section{Title: "Nodes come and go"}, book: newBook(), rng: rand.New(rand.NewPCG(e.Options.Seed, 0x67726f77))}
	kinds, err := g.kinds()
	if err != nil {
		return g.section, err
	}
	if len(e.regions()) < 3 {
		return g.section, errors.New("it needs nodes in three regions, since one is lost")
	}
	g.section.Settings = []report.Setting{
		{Name: "steps", Value: fmt.Sprint(kinds)},
		{Name: "load", Value: fmt.Sprintf("%.0f messages a second of %d bytes by LMTP; %d clients do %.0f operations a second on %d mailboxes by IMAP, POP3, LMTP and SMTP; both through all nodes that are there",
			g.rate(), g.size(), chaosClients, growOps, chaosBoxes)},
	}
	if err := e.serving(ctx); err != nil {
		return g.section, err
	}
	err = g.run(ctx, kinds)
	err = errors.Join(err, own.whole(), g.refresh())
	if err == nil {
		err = own.serving(ctx)
	}
	g.finish(ctx)
	return g.section, err
}

func (g *growth) rate() float64 { return cmp.Or(g.env.Options.Rate, growRate) }
func (g *growth) size() int     { return cmp.Or(g.env.Options.Size, growSize) }

// run does the steps under load.
func (g *growth) run(ctx context.Context, kinds []string) error {
	boxes, users := g.env.split(growBoxUsers)
	mail := g.env.Target
	mail.Accounts = users[:min(len(users), growUsers)]
	if err := g.book.base(ctx, mail); err != nil {
		return err
	}
	if err := g.prepare(mail); err != nil {
		return err
	}
	defer g.traffic.close()
	exercised := g.env.Target
	exercised.Accounts = boxes
	o := exercise.Options{Target: exercised, Nodes: g.fleet.nodes, History: g.book.h, Seed: g.env.Options.Seed,
		Clients: chaosClients, Mailboxes: min(chaosBoxes, 2*len(boxes)), Rate: growOps, Log: g.env.Log}
	var err error
	g.stats, err = beside(ctx, o, func(ctx context.Context) error {
		return g.traffic.run(ctx, func(ctx context.Context) (err error) {
			stop := g.yardstick(ctx)
			defer func() { err = errors.Join(err, stop()) }()
			pause.For(ctx, settleIn)
			if err := g.steps(ctx, kinds); err != nil {
				return err
			}
			return until(ctx, tryFor, g.traffic.overdue)
		})
	})
	return err
}

// prepare makes the load.
func (g *growth) prepare(mail load.Target) error {
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: g.env.Options.Seed, Size: g.size(), Run: fmt.Sprint("grow-", g.began.UnixNano())})
	if err != nil {
		return err
	}
	g.fleet = newFleet(mail, g.book.h, g.began)
	g.fleet.enter(g.newPhase("warm", "connections are made", true))
	l := &lane{protocol: viaLMTP, rate: g.rate(), waiting: make(map[int]time.Time), close: g.fleet.close,
		rec: load.NewRecorder("delivery", load.RecorderOptions{Began: g.began})}
	l.do = func(ctx context.Context, t load.Turn) error {
		return g.fleet.deliver(ctx, t, corpus.Message(t.N, t.Due, mail.Accounts[t.N%len(mail.Accounts)].Address))
	}
	g.traffic = &traffic{lanes: []*lane{l}}
	return g.fleet.come(mail.Nodes...)
}

// steps is what the load is for.
func (g *growth) steps(ctx context.Context, kinds []string) error {
	if err := g.step(ctx, "quiet", "quiet, before", true, g.rest); err != nil {
		return err
	}
	do := map[string]func(context.Context) error{stepAdd: g.add, stepMove: g.move, stepWeigh: g.weigh, stepDrain: g.drain, stepReplace: g.replace, stepRegion: g.loseRegion, stepUpgrade: g.upgrade}
	for _, k := range kinds {
		if err := do[k](ctx); err != nil {
			return err
		}
		if k == stepAdd {
			if err := g.step(ctx, "grown", "quiet, grown", true, g.rest); err != nil {
				return err
			}
		}
	}
	return g.step(ctx, "after", "quiet, after", true, g.rest)
}

// rest waits while nothing is done.
func (g *growth) rest(ctx context.Context) error {
	if !pause.For(ctx, g.env.Options.time(time.Minute)) {
		return ctx.Err()
	}
	return nil
}

func (g *growth) newPhase(id, what string, quiet bool) *phase {
	o := load.RecorderOptions{Began: g.began}
	return &phase{id: id, what: what, quiet: quiet, rec: load.NewRecorder(what, o), bare: load.NewRecorder(what+": bare fsyncs", o)}
}

// yardstick appends to a file of its own on the cluster's disk, beside everything else: what one machine that all nodes share takes for that tells
// how much of a slower delivery is the cluster's. It goes on until stop.
func (g *growth) yardstick(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- g.fleet.measure(ctx, g.env.Lab.Dir()) }()
	return func() error { cancel(); return <-done }
}

// step is one phase, from its begin until all that it caused has come to rest.
func (g *growth) step(ctx context.Context, id, what string, quiet bool, f func(context.Context) error) error {
	p := g.newPhase(id, what, quiet)
	before, err := g.replicas(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	g.env.Progress.Step("%s", what)
	g.env.Progress.Rate(g.traffic.live)
	began := time.Now()
	g.phases = append(g.phases, p)
	g.fleet.enter(p)
	g.traffic.mark(what)
	err = f(ctx)
	p.took, p.nodes = time.Since(began), len(g.fleet.nodes())
	if !quiet {
		g.marks = append(g.marks, report.Mark{At: began.Sub(g.began).Seconds(), Until: time.Since(g.began).Seconds(), Label: what})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	after, err := g.replicas(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for r := range after {
		if !before[r] {
			p.moved++
		}
	}
	return nil
}
