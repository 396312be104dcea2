package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/measure"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

var idle = Scenario{
	Name: "idle", Summary: "sessions in IDLE on all nodes: what one costs, and how soon they hear of new mail, near, far and across a WAN", Reads: true,
	Takes: 45 * time.Second, Run: runIdle,
}

const (
	idleSessions   = 300
	idleLong       = 5000
	idleMost       = 50_000 // ports of one machine towards one address
	idlePerAccount = 6      // where there are accounts enough
	idleRate       = 10
	unheardAfter   = 10 * time.Second
)

// idling is a run of the scenario: sessions are opened on each side, and then told of mail, turn about.
type idling struct {
	env     *Env
	began   time.Time
	section *report.Section
	rate    float64
	crowds  []*crowd
	wan     *hearing // nil: not measured
	delays  string   // of the wan
}

func runIdle(ctx context.Context, e *Env) (*report.Section, error) {
	d := idling{env: e, began: time.Now(), rate: cmp.Or(e.Options.Rate, idleRate), section: &report.Section{Title: "Sessions in IDLE"}}
	sessions := cmp.Or(e.Options.Sessions, idleSessions)
	if e.Options.Long && e.Options.Sessions == 0 {
		sessions = idleLong
	}
	if sessions < 1 || sessions > idleMost {
		return d.section, fmt.Errorf("--sessions %d: expected 1 to %d", sessions, idleMost)
	}
	if err := measure.AllowFiles(sessions*len(e.sides()) + spareFiles); err != nil {
		return d.finish(), fmt.Errorf("%d sessions: %w; ask for fewer with --sessions", sessions, err)
	}
	for _, side := range e.sides() {
		c, err := d.open(ctx, side, sessions)
		if c != nil {
			defer c.close()
			d.crowds = append(d.crowds, c)
		}
		if err != nil {
			return d.finish(), fmt.Errorf("%s: %w", side.Target.Name, err)
		}
	}
	d.section.Settings = d.settings(sessions)
	err := e.inTurns(e.Options.time(15*time.Second), func(side *Env, took time.Duration) error {
		c := d.crowd(side)
		return c.tell(ctx, &d, c.home, took, side.Target.Name)
	})
	if err != nil || e.Lab == nil {
		return d.finish(), err
	}
	err = e.withWAN(func(delays string) error {
		c := d.crowds[0]
		d.delays, d.wan = delays, newHearing(delays, d.began)
		return c.tell(ctx, &d, d.wan, e.Options.time(10*time.Second), delays)
	})
	return d.finish(), err
}

// spareFiles are for what else the program has open.
const spareFiles = 512

func (d *idling) crowd(side *Env) *crowd {
	if side == d.env {
		return d.crowds[0]
	}
	return d.crowds[1]
}

func (d *idling) settings(sessions int) []report.Setting {
	c := d.crowds[0]
	return []report.Setting{
		{Name: "sessions", Value: fmt.Sprintf("%d of %d accounts, over TLS, spread evenly over %d nodes", sessions, len(c.groups), len(imapNodes(d.env.Target)))},
		{Name: "deliveries", Value: fmt.Sprintf("%g a second on a schedule, by %s in one region, to one account after the other", d.rate, c.protocol)},
		{Name: "notice", Value: fmt.Sprintf("from the 250 to the EXISTS; one that came before the 250 counts as 0; none within %v is a failure", unheardAfter)},
		{Name: "memory", Value: d.env.memoryHow() + ". Each account had logged in once at each node before"},
		{Name: "mailboxes", Value: fmt.Sprintf("%d messages in the median", c.median)},
	}
}

// open opens a side's sessions and measures what they cost.
func (d *idling) open(ctx context.Context, side *Env, sessions int) (*crowd, error) {
	p, name := d.env.Progress, side.Target.Name
	c, err := newCrowd(d, side, sessions)
	if err != nil {
		return c, err
	}
	if side.Measured() {
		p.Step("%s: log in once with each account", name)
		if err := c.introduce(ctx); err != nil {
			return c, err
		}
		p.Step("%s: look at it at rest", name)
		if err := c.weigh(ctx, &c.before); err != nil {
			return c, err
		}
	}
	p.Step("%s: open %d sessions", name, sessions)
	p.Rate(func() string { return fmt.Sprintf("%d of them", c.standing.Load()) })
	if err := c.enter(ctx); err != nil {
		return c, err
	}
	if side.Measured() {
		p.Step("%s: look at it with %d idle sessions", name, sessions)
		if err := c.weigh(ctx, &c.after); err != nil {
			return c, err
		}
	}
	return c, ctx.Err()
}

// finish makes the section of what there is.
func (d *idling) finish() *report.Section {
	s := d.section
	table := report.Table{Title: "Notices of new mail", Columns: []string{"system", "sessions", "count", "failed", "p50", "p99", "longest"}}
	for _, c := range d.crowds {
		d.costs(c)
		d.notices(c, &table)
	}
	if d.wan != nil {
		far := d.wan.far
		s.Metrics = append(s.Metrics, some(far, "idle.notice.wan", "p50", "p99")...)
		s.Latencies = append(s.Latencies, far.Latency("idle.notice.wan", far.Name()))
		table.Rows = append(table.Rows, noticeRow(d.env.Target.Name, "in other regions, "+d.delays, far))
	}
	if len(d.crowds) == 0 || d.crowds[0].home.all.Figures().Successes == 0 {
		return s
	}
	d.env.peerRatios(s, "idle", func(name string) (string, string) {
		switch name {
		case "notice.p50":
			return "notice", "median delay of a notice"
		case "memory_per_session", "cpu":
			return name, "idle sessions, " + name
		}
		return "", ""
	})
	s.Tables = append(s.Tables, table)
	c := d.crowds[0]
	charted := []*load.Recorder{c.home.near}
	if c.home.far.Figures().Successes > 0 {
		charted = append(charted, c.home.far)
	}
	if d.wan != nil {
		charted = append(charted, d.wan.far)
	}
	s.Charts = append(s.Charts, load.LatencyChart("Delay of notices", charted...), load.RateChart("Notices a second", charted...))
	tries, bad := failed(s, "idle.errors.share", "share of notices that did not come, and of deliveries and sessions that failed", d.recorders()...)
	for _, peer := range d.crowds[1:] {
		noteFailures(s, peer.opening, peer.deliveries, peer.home.all)
	}
	f := c.home.all.Figures()
	s.Summary = fmt.Sprintf("%d sessions in IDLE heard of new mail %s after its acknowledgement in the median, 99 of 100 within %s. %d of %d notices, deliveries and sessions failed.",
		c.standing.Load(), units.Seconds(f.P50.Seconds()), units.Seconds(f.P99.Seconds()), bad, tries)
	return s
}

// recorders are those of the target whose failures count.
func (d *idling) recorders() []*load.Recorder {
	c := d.crowds[0]
	out := []*load.Recorder{c.opening, c.deliveries, c.home.near, c.home.far}
	if d.wan != nil {
		out = append(out, d.wan.near, d.wan.far)
	}
	return out
}

// costs adds what a side's sessions cost.
func (d *idling) costs(c *crowd) {
	name, id := c.env.Target.Name, func(what string) string { return d.env.id(c.env, "idle", what) }
	n := float64(c.standing.Load())
	add := func(what, words string, value float64, unit string, better report.Better) {
		d.section.Metrics = append(d.section.Metrics, metric(id(what), name+": "+words, value, unit, better))
	}
	add("sessions", "sessions in IDLE", n, "sessions", report.Info)
	if c.after.memory == 0 || n == 0 {
		return
	}
	grown := float64(c.after.memory) - float64(c.before.memory)
	add("memory_per_session", "growth of memory for each session in IDLE", grown/n, "B", report.Lower)
	add("memory.before", "memory of all processes before the sessions", float64(c.before.memory), "B", report.Info)
	add("memory.after", "memory of all processes with the sessions", float64(c.after.memory), "B", report.Info)
	add("cpu", fmt.Sprintf("cores while %.0f sessions idle and nothing happens", n), c.after.cores, "cores", report.Lower)
	add("cpu.before", "cores at rest, without sessions", c.before.cores, "cores", report.Info)
}

// notices adds how soon a side's sessions heard.
func (d *idling) notices(c *crowd, table *report.Table) {
	s, h, name := d.section, c.home, c.env.Target.Name
	for _, k := range []struct {
		id, what string
		rec      *load.Recorder
	}{
		{"notice", "all", h.all}, {"notice.near", "in the region of the delivery", h.near},
		{"notice.far", "in other regions", h.far}, {"notice.scheduled", "all, from when the delivery was due", h.due},
	} {
		if f := k.rec.Figures(); f.Successes+f.Failures == 0 {
			continue // such as other regions, where there is one
		}
		id := d.env.id(c.env, "idle", k.id)
		s.Metrics = append(s.Metrics, some(k.rec, id, "p50", "p99")...)
		s.Latencies = append(s.Latencies, k.rec.Latency(id, k.rec.Name()))
		table.Rows = append(table.Rows, noticeRow(name, k.what, k.rec))
	}
}

func noticeRow(system, sessions string, r *load.Recorder) []string {
	f := r.Figures()
	return []string{system, sessions, fmt.Sprint(f.Successes), fmt.Sprint(f.Failures), ms(f.P50), ms(f.P99), ms(f.Max)}
}

var errUnheard = errors.New("nothing was heard in time")
