package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hongyan/bench/exercise"
	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/cluster/pause"
)

var chaos = Scenario{
	Name: "chaos", Summary: "random faults under mail and mailbox operations, every one of which is checked; --seed replays a run", Lab: true, Takes: 90 * time.Second,
	Run: runChaos, Kinds: slices.Compact(weighted(abilities{disks: true, power: true})),
}

const (
	chaosRate    = 40 // messages a second beside the operations on mailboxes
	chaosClients = 8
	chaosBoxes   = 6
)

// turmoil is a run of the scenario.
type turmoil struct {
	env     *Env
	began   time.Time
	section *report.Section
	book    *book
	traffic *traffic
	marks   []report.Mark
	count   map[string]int // faults by kind
	stats   exercise.Stats
}

func runChaos(ctx context.Context, e *Env) (*report.Section, error) {
	c := &turmoil{env: e, began: time.Now(), section: &report.Section{Title: "Chaos"}, book: newBook(), count: make(map[string]int)}
	took := e.Options.time(60 * time.Second)
	var nodes []string
	for _, n := range e.Target.Nodes {
		nodes = append(nodes, n.ID)
	}
	plan, err := faults(e.Options.Seed, nodes, took, e.Options.Kinds, e.abilities())
	if err != nil {
		return c.section, err
	}
	c.section.Settings = []report.Setting{
		{Name: "faults", Value: fmt.Sprintf("%d planned from seed %d for %v (the same again: --seed %d)", len(plan), e.Options.Seed, took, e.Options.Seed)},
		{Name: "load", Value: fmt.Sprintf("%d messages a second by LMTP; %d clients on %d mailboxes by IMAP, LMTP and SMTP through all nodes", chaosRate, chaosClients, chaosBoxes)},
	}
	if err := e.serving(ctx); err != nil {
		return c.section, err
	}
	err = c.run(ctx, plan)
	err = errors.Join(err, e.whole())
	if err == nil {
		err = e.serving(ctx)
	}
	c.finish(ctx)
	return c.section, err
}

// run does what is planned under load.
func (c *turmoil) run(ctx context.Context, plan []fault) error {
	e := *c.env
	boxes, mail := e.split((chaosBoxes + 1) / 2) // two mailboxes for each account
	e.Target.Accounts = mail
	if err := c.book.base(ctx, e.Target); err != nil {
		return err
	}
	var err error
	if c.traffic, err = e.newTraffic(map[string]*load.Recorder{}, c.began, e.Target.Nodes, chaosRate, []string{viaLMTP}, c.book.h); err != nil {
		return err
	}
	defer c.traffic.close()
	exercised := e.Target
	exercised.Accounts = boxes
	o := exercise.Options{Target: exercised, History: c.book.h, Seed: e.Options.Seed, Clients: chaosClients, Mailboxes: min(chaosBoxes, 2*len(boxes)), Log: e.Log}
	c.stats, err = beside(ctx, o, func(ctx context.Context) error {
		return c.traffic.run(ctx, func(ctx context.Context) error {
			pause.For(ctx, 2*time.Second)
			for i, f := range plan {
				if err := c.harm(ctx, f, i+1, len(plan)); err != nil {
					return fmt.Errorf("%s (fault %d of seed %d): %w", f, i+1, e.Options.Seed, err)
				}
			}
			pause.For(ctx, 2*time.Second)
			return until(ctx, tryFor, c.traffic.overdue)
		})
	})
	return err
}

// beside has mailbox clients at work while f runs, which ends early when they cannot go on: what follows would check nothing.
func beside(ctx context.Context, o exercise.Options, f func(ctx context.Context) error) (stats exercise.Stats, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	working, enough := context.WithCancel(ctx)
	defer enough()
	done := make(chan error, 1)
	go func() {
		var err error
		if stats, err = exercise.Run(working, o); err != nil {
			stop()
		}
		done <- err
	}()
	err = f(ctx)
	enough()
	return stats, errors.Join(err, <-done)
}

// harm is one fault, from begin to end.
func (c *turmoil) harm(ctx context.Context, f fault, i, n int) error {
	if !pause.For(ctx, f.After) {
		return ctx.Err()
	}
	c.env.Progress.Step("fault %d of %d: %s", i, n, f)
	c.env.Progress.Rate(c.traffic.live)
	at := time.Since(c.began).Seconds()
	c.traffic.mark(f.String())
	c.count[f.Kind]++
	if err := f.begin(c.env); err != nil {
		return errors.Join(err, f.end(c.env))
	}
	pause.For(ctx, f.For)
	err := f.end(c.env)
	c.marks = append(c.marks, report.Mark{At: at, Until: time.Since(c.began).Seconds(), Label: f.String()})
	return err
}

// finish checks the history and writes the figures.
func (c *turmoil) finish(ctx context.Context) {
	s := c.section
	c.book.settle(ctx, c.env, s, "chaos")
	if c.traffic == nil {
		return
	}
	rec := c.traffic.lanes[0].rec
	fig := rec.Figures()
	rates := load.RateChart("Messages acknowledged a second, faults marked", rec)
	waits := load.LatencyChart("What senders waited, faults marked", rec)
	rates.Marks, waits.Marks = c.marks, c.marks
	s.Charts = append(s.Charts, rates, waits)
	s.Latencies = append(s.Latencies, rec.Latency("chaos.delivery", "delivery under faults, retried until accepted"))
	available := availability(fig, rec)
	s.Metrics = append(s.Metrics,
		metric("chaos.faults", "faults made", float64(len(c.marks)), "faults", report.Info),
		metric("chaos.operations", "operations in the checked history", float64(c.book.h.Len()), "operations", report.Info),
		metric("chaos.stall.max", "longest time in which no message was acknowledged", fig.Stall.For.Seconds(), "s", report.Lower),
		metric("chaos.availability", "share of seconds in which messages were acknowledged", available, "ratio", report.Higher),
		metric("chaos.errors", "share of messages that nobody accepted within a minute", fig.ErrorShare(), "ratio", report.Lower))
	var kinds []string
	for _, k := range weighted(abilities{true, true}) {
		if n := c.count[k]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d × %s", n, k))
			delete(c.count, k)
		}
	}
	s.Notes = append(s.Notes, "Faults: "+strings.Join(kinds, ", ")+".",
		fmt.Sprintf("On the mailboxes: %d operations, %d done, %d refused, %d without an answer.", c.stats.Operations, c.stats.OK, c.stats.Refused, c.stats.Unknown))
	s.Summary = fmt.Sprintf("%d faults in %.0f s: %d messages acknowledged, %d lost, %d rules broken in %d operations; the longest stall was %.2f s.",
		len(c.marks), time.Since(c.began).Seconds(), c.book.owed(), c.book.lost, c.book.broken, c.book.h.Len(), fig.Stall.For.Seconds())
}

// availability is the share of seconds with a success, among those in which messages were due.
func availability(fig load.Figures, rec *load.Recorder) float64 {
	all := fig.Last.Sub(fig.First).Seconds()
	if all <= 0 {
		return 0
	}
	return 1 - rec.Silent(time.Second).Seconds()/all
}
