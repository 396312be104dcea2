package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

var reading = Scenario{
	Name: "reading", Summary: "what mail clients do all day by IMAP: fetch, list, STATUS, SELECT, flags, search; and polls by POP3", Reads: true,
	Takes: 40 * time.Second, Run: runReading,
}

const (
	readMailboxes = 20
	readMessages  = 100 // in each mailbox, at least
	readWorkers   = 8
	pollWorkers   = 2 // by POP3
)

// readings is a run of the scenario: mailboxes are filled, then workers read them over sessions that stay open, turn about with the peer.
type readings struct {
	env     *Env
	began   time.Time
	section *report.Section
	workers int
	libs    []*library
}

func runReading(ctx context.Context, e *Env) (*report.Section, error) {
	workers := orList(e.Options.Connections, readWorkers)[0]
	r := readings{env: e, began: time.Now(), workers: workers, section: &report.Section{Title: "Reading"}}
	for _, side := range e.sides() {
		lib, err := r.open(ctx, side)
		if err != nil {
			return r.finish(), fmt.Errorf("%s: %w", side.Target.Name, err)
		}
		r.libs = append(r.libs, lib)
		defer lib.pool.Close()
	}
	r.section.Settings = r.settings()
	if err := e.inTurns(e.Options.time(20*time.Second), func(side *Env, took time.Duration) error { return r.mix(ctx, r.lib(side), took) }); err != nil {
		return r.finish(), err
	}
	err := e.inTurns(e.Options.time(6*time.Second), func(side *Env, took time.Duration) error { return r.polls(ctx, r.lib(side), took) })
	return r.finish(), err
}

// lib is what a side reads.
func (r *readings) lib(side *Env) *library {
	if side == r.env {
		return r.libs[0]
	}
	return r.libs[1]
}

func (r *readings) settings() []report.Setting {
	lib := r.libs[0]
	var parts []string
	for _, o := range readOps {
		parts = append(parts, fmt.Sprintf("%s %d %%", o.name, o.weight))
	}
	return []report.Setting{
		{Name: "mailboxes", Value: fmt.Sprintf("%d, filled by delivery to %d messages each at least; %d to %d when it began", len(lib.accounts), lib.each, lib.least, lib.most)},
		{Name: "sizes", Value: r.env.Options.Sizes()},
		{Name: "workers", Value: fmt.Sprintf("%d, each does one operation after the other, on %d sessions in all that stay open over all nodes", r.workers, len(lib.inboxes))},
		{Name: "mix", Value: strings.Join(parts, ", ") + "; whole messages, lists with envelopes, searches for a word in the subject"},
	}
}

// mix is a turn of a side.
func (r *readings) mix(ctx context.Context, lib *library, took time.Duration) error {
	name := lib.env.Target.Name
	r.env.Progress.Step("%s: read with %d workers", name, r.workers)
	all := load.NewRecorder(name, load.RecorderOptions{Began: r.began})
	r.env.Progress.Rate(func() string {
		l := all.Live()
		return fmt.Sprintf("%.0f/s, p99 %v", l.Rate, l.P99.Round(100*time.Microsecond))
	})
	c, known, err := lib.env.costs(func() error {
		return load.Closed{Workers: r.workers, For: took, Grace: grace}.Run(ctx, all, func(ctx context.Context, t load.Turn) error { return lib.operate(ctx, r.workers, t) })
	})
	if err != nil {
		return err
	}
	lib.turns = append(lib.turns, all)
	if known {
		lib.cpu += c.CPU
	}
	if f := all.Figures(); f.Successes == 0 {
		return fmt.Errorf("nothing could be read: %v", f.Examples)
	}
	return ctx.Err()
}

// polls is a turn of a side by POP3, if it is served there.
func (r *readings) polls(ctx context.Context, lib *library, took time.Duration) error {
	if len(lib.poll) == 0 {
		return nil
	}
	r.env.Progress.Step("%s: poll by POP3", lib.env.Target.Name)
	r.env.Progress.Rate(func() string { return fmt.Sprintf("%.0f/s", lib.recs[pop3].Live().Rate) })
	err := load.Closed{Workers: pollWorkers, For: took, Grace: grace}.Run(ctx, lib.recs[pop3], lib.pollOnce)
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// finish makes the section of what there is.
func (r *readings) finish() *report.Section {
	s := r.section
	table := report.Table{Title: "Operations", Columns: []string{"operation", "system", "count", "failed", "p50", "p99", "longest"}}
	var rates []*load.Recorder
	for _, lib := range r.libs {
		if len(lib.turns) > 0 {
			r.enter(lib, &table)
			rates = append(rates, lib.turns...)
		}
	}
	if len(rates) == 0 {
		return s
	}
	r.env.peerRatios(s, "reading", func(name string) (string, string) {
		if name == "rate" {
			return "rate", "reading, operations a second"
		}
		op, ok := strings.CutSuffix(name, ".p50")
		if !ok {
			return "", ""
		}
		return op, "reading, median of " + op
	})
	s.Tables = append(s.Tables, table)
	ours := r.libs[0]
	s.Charts = append(s.Charts, load.RateChart("Operations a second", rates...), load.LatencyChart("Times of reading", ours.recs["fetch"], ours.recs["list50"]))
	tries, bad := failed(s, "reading.errors.share", "share of operations of readers that failed", ours.recorders()...)
	for _, peer := range r.libs[1:] {
		noteFailures(s, peer.recorders()...)
	}
	fetch := ours.recs["fetch"].Figures()
	s.Summary = fmt.Sprintf("%d readers at a time did %s operations a second; a whole message came in %s, 99 of 100 within %s. %d of %d operations failed.",
		r.workers, units.Number(ours.rate()), units.Seconds(fetch.P50.Seconds()), units.Seconds(fetch.P99.Seconds()), bad, tries)
	if len(ours.poll) == 0 {
		s.Notes = append(s.Notes, "POP3 was not measured: the target does not serve it.")
	}
	return s
}

// enter adds the figures of a side.
func (r *readings) enter(lib *library, table *report.Table) {
	s, name := r.section, lib.env.Target.Name
	rate := metric(r.env.id(lib.env, "reading", "rate"), name+": operations of readers a second", lib.rate(), "1/s", report.Higher)
	for _, turn := range lib.turns {
		for _, m := range some(turn, "", "rate") {
			rate.Samples = append(rate.Samples, m.Samples...)
		}
	}
	s.Metrics = append(s.Metrics, rate)
	if lib.env.Measured() {
		s.Metrics = append(s.Metrics, metric(r.env.id(lib.env, "reading", "cpu_per_1000"), name+": processor time for 1,000 operations of readers",
			lib.cpu.Seconds()/float64(lib.successes())*1000, "s", report.Lower))
	}
	for _, kind := range lib.kinds() {
		rec := lib.recs[kind]
		f := rec.Figures()
		if f.Successes+f.Failures == 0 {
			continue
		}
		id := r.env.id(lib.env, "reading", kind)
		s.Metrics = append(s.Metrics, some(rec, id, "p50", "p99")...)
		s.Latencies = append(s.Latencies, rec.Latency(id, rec.Name()))
		table.Rows = append(table.Rows, []string{kind, name, fmt.Sprint(f.Successes), fmt.Sprint(f.Failures), ms(f.P50), ms(f.P99), ms(f.Max)})
	}
}
