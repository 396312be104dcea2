package scenario

import (
	"context"
	"fmt"

	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

// finish checks the history and writes the figures.
func (g *growth) finish(ctx context.Context) {
	s := g.section
	g.book.settle(ctx, g.env, s, "grow")
	if g.traffic == nil {
		return
	}
	rec := g.traffic.lanes[0].rec
	fig, moving := rec.Figures(), g.fleet.moving.Figures()
	rates := load.RateChart("Messages acknowledged a second, steps marked", rec)
	waits := load.LatencyChart("What senders waited, steps marked", rec)
	rates.Marks, waits.Marks = g.marks, g.marks
	s.Charts = append(s.Charts, rates, waits)
	s.Latencies = append(s.Latencies, g.fleet.moving.Latency("grow.delivery", "delivery while nodes come and go"))
	moved := g.table()
	s.Metrics = append(s.Metrics,
		metric("grow.refused", "deliveries that a node refused which nobody was taking away", float64(g.fleet.refused), "refusals", report.Lower),
		metric("grow.errors", "share of messages that nobody accepted within a minute", fig.ErrorShare(), "ratio", report.Lower),
		metric("grow.stall.max", "longest time in which no message was acknowledged", fig.Stall.For.Seconds(), "s", report.Lower),
		metric("grow.wait.max", "longest wait of any sender", fig.Max.Seconds(), "s", report.Lower),
		metric("grow.moved", "replicas of shards that moved", float64(moved), "replicas", report.Info),
		metric("grow.accounts", "accounts that moved to another shard", float64(g.accounts), "accounts", report.Info),
		metric("grow.operations", "operations in the checked history", float64(g.book.h.Len()), "operations", report.Info))
	ratio := g.against(moving)
	s.Notes = append(s.Notes, g.fleet.said...)
	s.Notes = append(s.Notes, fmt.Sprintf("On the mailboxes: %d operations, %d done, %d refused, %d without an answer.", g.stats.Operations, g.stats.OK, g.stats.Refused, g.stats.Unknown))
	s.Summary = fmt.Sprintf("%d steps, %d replicas and %d accounts moved: %d messages acknowledged, %d refused, %d lost, %d rules broken in %d operations; %sthe longest stall was %.2f s.",
		len(g.marks), moved, g.accounts, g.book.owed(), g.fleet.refused, g.book.lost, g.book.broken, g.book.h.Len(), ratio, fig.Stall.For.Seconds())
}

// against holds the delivery of all steps against the quiet one before them, if there was any. It says how many times as long it took.
func (g *growth) against(moving load.Figures) string {
	if len(g.phases) == 0 || moving.Successes == 0 {
		return ""
	}
	quiet := g.phases[0].rec.Figures()
	g.section.Metrics = append(g.section.Metrics,
		metric("grow.p50", "delivery while nodes come and go, p50", moving.P50.Seconds(), "s", report.Lower),
		metric("grow.p99", "delivery while nodes come and go, p99", moving.P99.Seconds(), "s", report.Lower))
	if quiet.P99 <= 0 {
		return ""
	}
	ratio := moving.P99.Seconds() / quiet.P99.Seconds()
	g.section.Metrics = append(g.section.Metrics, metric("grow.p99.ratio", "delivery while nodes come and go over delivery when it is quiet, p99", ratio, "ratio", report.Lower))
	said := fmt.Sprintf("delivery took %.1f times its quiet p99", ratio)
	if bare := g.phases[0].bare.Figures(); bare.P99 > 0 {
		same := g.fleet.bare.Figures().P99.Seconds() / bare.P99.Seconds()
		g.section.Metrics = append(g.section.Metrics, metric("grow.fsync.ratio", "one bare fsync of 10 KiB on the same machine while nodes come and go over the same when it is quiet, p99", same, "ratio", report.Info))
		said += fmt.Sprintf(", a bare fsync on the same machine %.1f times its own", same)
	}
	if what, worst := g.worst(); what != "" {
		g.section.Metrics = append(g.section.Metrics, metric("grow.p99.worst", "the step that slows deliveries most, over the quiet of as many nodes, p99", worst, "ratio", report.Lower))
		said += fmt.Sprintf(", at most %.1f times the quiet of as many nodes (%s)", worst, what)
	}
	return said + "; "
}

// quietLike gives the quiet p99, in seconds, with as many nodes as there were at the end of a step, or the next number of them; 0 if nothing was delivered then.
func (g *growth) quietLike(p *phase) float64 {
	var like *phase
	for _, q := range g.phases {
		if q.quiet && (like == nil || distance(q.nodes, p.nodes) < distance(like.nodes, p.nodes)) {
			like = q
		}
	}
	if like == nil {
		return 0
	}
	return like.rec.Figures().P99.Seconds()
}

func distance(a, b int) int { return max(a-b, b-a) }

// worst is the step whose p99 is most times that of the quiet.
func (g *growth) worst() (what string, ratio float64) {
	for _, p := range g.phases {
		if quiet := g.quietLike(p); !p.quiet && quiet > 0 {
			if r := p.rec.Figures().P99.Seconds() / quiet; r > ratio {
				what, ratio = p.what, r
			}
		}
	}
	return what, ratio
}

func times(v, of float64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f×", v/of)
}

// table has a line for each step, and gives how many replicas moved in all.
func (g *growth) table() (moved int) {
	t := report.Table{Title: "Steps", Columns: []string{"step", "took", "replicas moved", "p50", "p99", "of quiet", "of quiet, as many nodes", "bare fsync, p99", "of quiet", "longest wait", "refused"},
		Note: "A step takes from its begin until all that it caused has come to rest. Times are those of messages that were sent in it, from when they were due until somebody had taken them on. Everything shares one machine: more nodes leave less of it to each. The bare fsync is one of 10 KiB to a file of the bench's own on the same disk, every 50 ms."}
	var quiet, still float64
	of := func(v float64, quiet *float64) string {
		if *quiet == 0 {
			*quiet = v
		}
		return times(v, *quiet)
	}
	for _, p := range g.phases {
		f := p.rec.Figures()
		p50, p99 := f.P50.Seconds(), f.P99.Seconds()
		bare := p.bare.Figures().P99.Seconds()
		t.Rows = append(t.Rows, []string{p.what, units.Format(p.took.Seconds(), "s"), fmt.Sprint(p.moved), units.Format(p50, "s"), units.Format(p99, "s"), of(p99, &quiet), times(p99, g.quietLike(p)),
			units.Format(bare, "s"), of(bare, &still), units.Format(f.Max.Seconds(), "s"), fmt.Sprint(p.refused)})
		moved += p.moved
		g.section.Metrics = append(g.section.Metrics, metric("grow."+p.id+".p99", p.what+": delivery, p99", p99, "s", report.Lower))
		if p.quiet {
			g.section.Metrics = append(g.section.Metrics, metric("grow."+p.id+".p50", p.what+": delivery, p50", p50, "s", report.Lower))
		} else {
			g.section.Metrics = append(g.section.Metrics, metric("grow."+p.id+".seconds", p.what+": until all had come to rest", p.took.Seconds(), "s", report.Lower))
		}
	}
	g.section.Tables = append(g.section.Tables, t)
	return moved
}
