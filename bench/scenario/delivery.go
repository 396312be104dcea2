package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/bench/load/send"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

var delivery = Scenario{
	Name: "delivery", Summary: "throughput and delay of deliveries by LMTP and SMTP, by connections and size, at full and at half load", Takes: 2 * time.Minute,
	Run: runDelivery, Kinds: []string{string(send.LMTP), string(send.SMTP)},
}

// lateAfter is when a message counts as late (requirements, row O4: the mean under a minute, fewer than 0.5 % late).
const lateAfter = time.Minute

// deliveries is a run of the scenario: closed loops of several sizes, turn about with the peer if there is one, then open loops at half of
// what was reached, whose delay is what senders see on a normal day.
type deliveries struct {
	env     *Env
	began   time.Time
	section *report.Section
	recs    []*load.Recorder // for the chart of rates
	table   report.Table
	best    float64 // deliveries a second
	tries   int64
	failed  int64
}

func runDelivery(ctx context.Context, e *Env) (*report.Section, error) {
	d := deliveries{env: e, began: time.Now(), section: &report.Section{
		Title:    "Delivery",
		Settings: []report.Setting{{Name: "recipients", Value: fmt.Sprintf("%d accounts, one for each message, Zipf %.1f", len(e.bulk()), zipf)}},
	}}
	d.table = report.Table{Title: "Deliveries", Columns: []string{"system", "protocol", "connections", "a second", "p50", "p99", "CPU s/1,000", "flushes/1,000"}}
	protocols, err := e.Options.kinds(spoken(e.Target)...)
	if err != nil {
		return d.section, err
	}
	for _, p := range protocols {
		for _, n := range slices.Compact(orList(e.Options.Connections, 1, 8, 64)) {
			if err := d.closed(ctx, send.Protocol(p), n); err != nil {
				return d.finish(), err
			}
		}
	}
	if err := d.sizes(ctx, send.Protocol(protocols[0])); err != nil {
		return d.finish(), err
	}
	err = d.half(ctx, send.Protocol(protocols[0]))
	return d.finish(), err
}

// sizes measures messages of one size each over eight connections, unless a person chose one size for everything.
func (d *deliveries) sizes(ctx context.Context, p send.Protocol) error {
	if d.env.Options.Size > 0 {
		return nil
	}
	const connections = 8
	table := report.Table{Title: fmt.Sprintf("By size, %s, %d connections", p, connections), Columns: []string{"bytes", "a second", "of mail", "p50", "p99"}}
	for _, size := range []int{2 << 10, 64 << 10, 1 << 20} {
		sized := *d.env
		sized.Options.Size = size
		o, err := d.turn(ctx, &sized, p, connections, d.env.Options.time(6*time.Second))
		if err != nil {
			return fmt.Errorf("messages of %d bytes: %w", size, err)
		}
		d.tries, d.failed = d.tries+o.fig.Successes+o.fig.Failures, d.failed+o.fig.Failures
		id, name := fmt.Sprintf("delivery.%s.size%d", p, size), fmt.Sprintf("%s, messages of %d bytes", p, size)
		d.section.Metrics = append(d.section.Metrics, some(o.rec, id, "rate", "p50", "p99")...)
		d.section.Latencies = append(d.section.Latencies, o.rec.Latency(id, name))
		table.Rows = append(table.Rows, []string{fmt.Sprint(size), fmt.Sprintf("%.0f", o.fig.Rate()), units.Format(o.fig.Rate()*o.mean, "B/s"), ms(o.fig.P50), ms(o.fig.P99)})
	}
	d.section.Tables = append(d.section.Tables, table)
	return nil
}

// spoken are the protocols of delivery that the target's first node has.
func spoken(t load.Target) (out []string) {
	if t.Nodes[0].LMTP != "" {
		out = append(out, string(send.LMTP))
	}
	if t.Nodes[0].SMTP != "" {
		out = append(out, string(send.SMTP))
	}
	return out
}

// closed measures n connections that send as fast as they are answered.
func (d *deliveries) closed(ctx context.Context, p send.Protocol, n int) error {
	var ours, theirs []outcome
	err := d.env.inTurns(d.env.Options.time(15*time.Second), func(side *Env, took time.Duration) error {
		o, err := d.turn(ctx, side, p, n, took)
		if side == d.env {
			ours = append(ours, o)
		} else {
			theirs = append(theirs, o)
		}
		return err
	})
	if err != nil {
		return err
	}
	id := fmt.Sprintf("delivery.%s.c%d", p, n)
	mine := d.add(id, fmt.Sprintf("%s, %d connections", p, n), d.env.Target.Name, p, n, ours)
	d.best = max(d.best, mine)
	if len(theirs) > 0 {
		other := d.add("delivery.peer."+string(p)+fmt.Sprintf(".c%d", n), fmt.Sprintf("%s of %s, %d connections", p, d.env.Peer.Target.Name, n), d.env.Peer.Target.Name, p, n, theirs)
		m := metric(fmt.Sprintf("%s.peer_ratio", id), fmt.Sprintf("times the rate of %s, %s, %d connections", d.env.Peer.Target.Name, p, n), mine/other, "ratio", report.Higher)
		for i := range ours {
			m.Samples = append(m.Samples, ours[i].fig.Rate()/theirs[i].fig.Rate())
		}
		d.section.Metrics = append(d.section.Metrics, m)
	}
	return nil
}

func (d *deliveries) turn(ctx context.Context, e *Env, p send.Protocol, n int, took time.Duration) (outcome, error) {
	d.env.Progress.Step("%s, %s, %d connections", e.Target.Name, p, n)
	m, err := e.mail(e.bulk())
	if err != nil {
		return outcome{}, err
	}
	name := fmt.Sprintf("%s %s c%d", e.Target.Name, p, n)
	if e.Options.Size > 0 {
		name += fmt.Sprintf(" of %d bytes", e.Options.Size)
	}
	o, err := e.deliver(ctx, d.began, name, send.Options{Protocol: p, Policy: load.Stick, Workers: n},
		load.Closed{Workers: n, For: took, Grace: grace}, m)
	if err == nil {
		d.recs = append(d.recs, o.rec)
	}
	return o, err
}

// add enters the turns of one system and gives its rate.
func (d *deliveries) add(id, name, system string, p send.Protocol, n int, turns []outcome) float64 {
	metrics := turns[0].rec.Metrics(id)
	rate, cpu, flushes := 0.0, 0.0, 0.0
	for i, o := range turns {
		rate += o.fig.Rate() / float64(len(turns))
		cpu += o.perThousand() / float64(len(turns))
		flushes += float64(o.cost.flushes) / float64(o.fig.Successes) * 1000 / float64(len(turns))
		if !strings.HasPrefix(id, "delivery.peer") {
			d.tries += o.fig.Successes + o.fig.Failures
			d.failed += o.fig.Failures
		}
		if i == 0 {
			continue
		}
		for j, m := range o.rec.Metrics(id) {
			if j < len(metrics) && metrics[j].ID == m.ID {
				metrics[j].Samples = append(metrics[j].Samples, m.Samples...)
			}
		}
	}
	for j := range metrics {
		if metrics[j].ID == id+".rate" {
			metrics[j].Value = rate
		}
	}
	row := []string{system, string(p), fmt.Sprint(n), fmt.Sprintf("%.0f", rate), ms(turns[0].fig.P50), ms(turns[0].fig.P99), "not known", "not known"}
	if turns[0].ok {
		metrics = append(metrics, metric(id+".cpu_per_1000", name+": processor time for 1,000 deliveries", cpu, "s", report.Lower))
		row[6], row[7] = fmt.Sprintf("%.2f", cpu), fmt.Sprintf("%.0f", flushes)
	}
	d.table.Rows = append(d.table.Rows, row)
	d.section.Metrics = append(d.section.Metrics, metrics...)
	d.section.Latencies = append(d.section.Latencies, turns[0].rec.Latency(id, name))
	return rate
}

// half sends at half of the best rate on a schedule, and once more with the delays of the Chinese WAN where the lab has none.
func (d *deliveries) half(ctx context.Context, p send.Protocol) error {
	rate := cmp.Or(d.env.Options.Rate, d.best/2)
	o, err := d.open(ctx, d.env, p, rate, fmt.Sprintf("half load, %.0f/s", rate))
	if err != nil {
		return err
	}
	d.enter("delivery.halfload", fmt.Sprintf("%s on a schedule of %.0f/s", p, rate), o)
	d.delays(o)
	if d.env.Lab == nil {
		return nil
	}
	return d.env.withWAN(func(wan string) error {
		home := d.env.atHome()
		o, err := d.open(ctx, home, p, rate/2, fmt.Sprintf("%s, %.0f/s", wan, rate/2))
		if err != nil {
			return err
		}
		d.enter("delivery.wan", fmt.Sprintf("%s on a schedule of %.0f/s in %s, %s", p, rate/2, home.Target.Nodes[0].Region, wan), o)
		return nil
	})
}

func (d *deliveries) open(ctx context.Context, e *Env, p send.Protocol, rate float64, step string) (outcome, error) {
	d.env.Progress.Step("%s", step)
	m, err := e.mail(e.bulk())
	if err != nil {
		return outcome{}, err
	}
	const workers = 256
	return e.deliver(ctx, d.began, step, send.Options{Protocol: p, Policy: load.Stick, Workers: workers},
		load.Open{Rate: rate, Poisson: true, Seed: e.Options.Seed, Workers: workers, For: d.env.Options.time(20 * time.Second), Grace: grace}, m)
}

func (d *deliveries) enter(id, name string, o outcome) {
	d.section.Metrics = append(d.section.Metrics, o.rec.Metrics(id)...)
	d.section.Latencies = append(d.section.Latencies, o.rec.Latency(id, name))
	d.section.Charts = append(d.section.Charts, load.LatencyChart("Delay on the way: "+name, o.rec))
	d.recs = append(d.recs, o.rec)
	d.tries += o.fig.Successes + o.fig.Failures
	d.failed += o.fig.Failures
}

// delays holds the schedule's delays against the promise of row O4. A message that was not accepted at all is late too.
func (d *deliveries) delays(o outcome) {
	late := o.fig.Failures
	if o.fig.Max > lateAfter {
		late += o.rec.Over(lateAfter)
	}
	all := float64(o.fig.Successes + o.fig.Failures)
	d.section.Metrics = append(d.section.Metrics,
		metric("delivery.delay.mean", "delay from the schedule to the acknowledgement, mean", o.fig.Mean.Seconds(), "s", report.Lower),
		metric("delivery.delay.p99", "delay, 99th percentile", o.fig.P99.Seconds(), "s", report.Lower),
		metric("delivery.delay.max", "delay, longest", o.fig.Max.Seconds(), "s", report.Lower),
		metric("delivery.late.share", "share of messages later than a minute", float64(late)/all, "ratio", report.Lower))
}

// finish adds what is of the whole section.
func (d *deliveries) finish() *report.Section {
	s := d.section
	s.Tables = append(s.Tables, d.table)
	if len(d.recs) > 0 {
		s.Charts = append([]report.Chart{load.RateChart("Deliveries a second", d.recs...)}, s.Charts...)
	}
	if d.tries == 0 {
		return s
	}
	s.Metrics = append(s.Metrics, metric("delivery.errors.share", "share of attempts that were not accepted", float64(d.failed)/float64(d.tries), "ratio", report.Lower))
	s.Summary = fmt.Sprintf("%d messages were offered and %d of them not accepted; the best rate was %.0f a second.", d.tries, d.failed, d.best)
	return s
}

// ms is a time for a table.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func orList[T any](chosen []T, own ...T) []T {
	if len(chosen) > 0 {
		return chosen
	}
	return own
}

// atHome is the target with only the nodes of the region that its accounts live in.
func (e *Env) atHome() *Env {
	home := *e
	home.Target.Nodes = nil
	for _, n := range e.Target.Nodes {
		if n.Region == e.Target.Nodes[0].Region {
			home.Target.Nodes = append(home.Target.Nodes, n)
		}
	}
	return &home
}

// withWAN runs f while the regions lie as far apart as South China, North China and a site overseas, and then puts the links back. A cluster that
// has delays of its own keeps them.
func (e *Env) withWAN(f func(name string) error) (err error) {
	regions := e.regions()
	if own := e.delays(); own != noDelay {
		return f(own)
	}
	far, err := lab.ParseWAN("china", regions)
	there := func(name string) bool {
		return slices.ContainsFunc(regions, func(r lab.Region) bool { return r.Name == name })
	}
	far = slices.DeleteFunc(far, func(t lab.RTT) bool { return !there(t.A) || !there(t.B) })
	if err != nil || len(far) == 0 {
		return nil // regions of other names, or one alone: nothing to go by
	}
	defer func() {
		for _, t := range far {
			err = errors.Join(err, e.Lab.Link(t.A, t.B, nil))
		}
	}()
	for _, t := range far {
		if err := e.Lab.Link(t.A, t.B, &lab.Shape{Delay: t.RTT / 2}); err != nil {
			return err
		}
	}
	return f(e.delays())
}
