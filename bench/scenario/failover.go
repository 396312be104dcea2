package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
	"hongyan/cluster/pause"
)

var failover = Scenario{
	Name: "failover", Summary: "how long users wait when a leader, a node, a region, a link, a process or a disk fails (--kinds leader,node,region,link,pause,disk)", Lab: true, Takes: 3 * time.Minute,
	Run: runFailover, Kinds: failoverKinds,
}

// Kinds of faults.
const (
	kindLeader = "leader" // the process that leads the accounts' shards is killed
	kindNode   = "node"   // any process is killed
	kindRegion = "region" // the region of that process is cut off from all others
	kindLink   = "link"   // that region and another lose each other
	kindPause  = "pause"  // the process that leads is frozen, as a machine that hangs
	kindDisk   = "disk"   // no fsync of the process that leads returns; only with a lab whose fsyncs pass it (--disks)
)

var failoverKinds = []string{kindLeader, kindNode, kindRegion, kindLink, kindPause, kindDisk}

const (
	failoverRate = 60              // operations a second of each protocol of delivery
	lookFor      = 4 * time.Second // at a fault, before it is undone
	lookLonger   = 10 * time.Second
)

// drill is a run of the scenario.
type drill struct {
	env     *Env
	began   time.Time
	section *report.Section
	book    *book
	rng     *rand.Rand
	marks   []report.Mark
	recs    map[string]*load.Recorder // of the whole time, by protocol
	table   report.Table
	ended   int64 // operations
	failed  int64
	runs    int
}

func runFailover(ctx context.Context, e *Env) (*report.Section, error) {
	d := &drill{env: e, began: time.Now(), section: &report.Section{Title: "Failover"}, book: newBook(), recs: make(map[string]*load.Recorder), rng: rand.New(rand.NewPCG(e.Options.Seed, 1))}
	d.table = report.Table{Title: "Longest wait of any one user", Columns: []string{"fault", "protocol", "runs", "p50", "p99", "longest", "first success p50", "longest"},
		Note: "A wait is the time from when an operation was due until somebody had answered it, tried at one node after the other. First success: from the fault to the end of the first operation that was begun after it and succeeded."}
	kinds := failoverKinds
	if !e.abilities().disks {
		kinds = without(kinds, kindDisk)
	}
	kinds, err := e.Options.kinds(kinds...)
	if err != nil {
		return d.section, err
	}
	mine := *e
	_, mine.Target.Accounts = e.split(1)
	d.env = &mine
	if err := d.book.base(ctx, mine.Target); err != nil {
		return d.section, err
	}
	for _, kind := range kinds {
		if err = d.kind(ctx, kind); err != nil {
			break
		}
	}
	err = errors.Join(err, e.whole()) // before everything is read back
	return d.finish(ctx), err
}

// kind makes the fault several times under traffic.
func (d *drill) kind(ctx context.Context, kind string) error {
	k := &kindRuns{kind: kind, recs: make(map[string]*load.Recorder), waits: make(map[string][]float64), firsts: make(map[string][]float64)}
	defer d.enter(k)
	runs := d.env.Options.runs(5)
	for i := range runs {
		d.env.Progress.Step("%s, run %d of %d: nodes get ready", kind, i+1, runs)
		if err := d.env.serving(ctx); err != nil {
			return err
		}
		d.env.Progress.Step("%s, run %d of %d", kind, i+1, runs)
		if err := d.run(ctx, k); err != nil {
			return fmt.Errorf("%s, run %d: %w", kind, i+1, err)
		}
	}
	return nil
}

// kindRuns is what the runs of one kind of fault gave, by protocol.
type kindRuns struct {
	kind          string
	recs          map[string]*load.Recorder
	waits, firsts map[string][]float64 // seconds, one a run
}

// run makes the fault once, from quiet to quiet.
func (d *drill) run(ctx context.Context, k *kindRuns) error {
	f, err := d.plan(k.kind)
	if err != nil {
		return err
	}
	if len(f.outside) == 0 {
		return errors.New("nobody is left whom users could talk to: this fault needs a second region or node")
	}
	t, err := d.env.newTraffic(d.recs, d.began, f.outside, failoverRate, drilled(), d.book.h)
	if err != nil {
		return err
	}
	defer t.close()
	for _, l := range t.lanes {
		if k.recs[l.protocol] == nil {
			k.recs[l.protocol] = load.NewRecorder(l.protocol, load.RecorderOptions{Began: d.began})
		}
		l.also = k.recs[l.protocol]
	}
	d.env.Progress.Rate(t.live)
	err = t.run(ctx, func(ctx context.Context) error {
		pause.For(ctx, 2*time.Second) // connections are made and mailboxes opened before the fault
		return errors.Join(d.once(ctx, f, t), d.undo(ctx, t))
	})
	if err != nil {
		return err
	}
	for _, l := range t.lanes {
		if _, _, ok := l.seen(); !ok {
			return fmt.Errorf("no operation by %s succeeded after the fault", l.protocol)
		}
	}
	for _, l := range t.lanes { // all or none: runs are compared between protocols
		stall, first, _ := l.seen()
		k.waits[l.protocol], k.firsts[l.protocol] = append(k.waits[l.protocol], stall.Seconds()), append(k.firsts[l.protocol], first.Seconds())
	}
	return nil
}

// drilled are the protocols whose users are looked at.
func drilled() []string { return []string{viaLMTP, viaSMTP, viaIMAP, viaPOP3} }

// once makes the fault and looks at it for a while, longer while somebody waits whom it caught: but some wait for as long as it lasts, such as those who
// talk to a node that cannot reach the leader, and are answered "later" again and again.
func (d *drill) once(ctx context.Context, f planned, t *traffic) error {
	at := time.Since(d.began).Seconds()
	t.mark(f.label)
	if err := f.do(); err != nil {
		return err
	}
	pause.For(ctx, lookFor)
	_ = until(ctx, lookLonger, t.overdue) // they are waited for once it is undone
	d.marks = append(d.marks, report.Mark{At: at, Until: time.Since(d.began).Seconds(), Label: f.label})
	d.runs++
	return ctx.Err()
}

// planned is a fault: what to do, and the nodes that users talk to meanwhile: those outside of what is frozen or cut off, since nobody reaches what
// is inside.
type planned struct {
	label   string
	do      func() error
	outside []load.Node
}

// plan says what is to be done. A fault that is to hurt hits where the shards of the accounts' home region are led at the moment.
func (d *drill) plan(kind string) (planned, error) {
	e := d.env
	all := e.Target.Nodes
	leader, err := e.leading(all[0].Region)
	if err != nil {
		return planned{}, err
	}
	region := e.regionOf()[leader]
	without := func(drop func(load.Node) bool) []load.Node { return slices.DeleteFunc(slices.Clone(all), drop) }
	switch kind {
	case kindLeader:
		return planned{"kill " + leader, func() error { return e.Lab.Kill(leader) }, all}, nil
	case kindPause:
		return planned{"pause " + leader, func() error { return e.Lab.Pause(leader) }, without(func(n load.Node) bool { return n.ID == leader })}, nil
	case kindDisk:
		return planned{"hang the disk of " + leader, func() error { return e.Lab.Disk(leader, lab.DiskFault{Kind: lab.DiskHang}) }, all}, nil
	case kindNode:
		node := all[d.rng.IntN(len(all))].ID
		return planned{"kill " + node, func() error { return e.Lab.Kill(node) }, all}, nil
	case kindRegion:
		return planned{"cut off " + region, func() error { return e.Lab.Isolate(region) }, without(func(n load.Node) bool { return n.Region == region })}, nil
	case kindLink:
		i := slices.IndexFunc(all, func(n load.Node) bool { return n.Region != region })
		if i < 0 {
			return planned{}, errors.New("there is one region only, so no link between two")
		}
		other := all[i].Region
		return planned{fmt.Sprintf("cut %s from %s", region, other), func() error { return e.Lab.Cut(region, other, lab.CutOptions{}) }, all}, nil
	}
	return planned{}, fmt.Errorf("unknown kind of fault %q", kind)
}

// undo makes the cluster whole and waits until nobody waits.
func (d *drill) undo(ctx context.Context, t *traffic) error {
	err := d.env.whole()
	if waits := until(ctx, tryFor, t.overdue); err == nil {
		err = waits
	}
	if err != nil {
		return fmt.Errorf("undo it: %w", err)
	}
	return nil
}

// enter writes what the runs of one kind gave: all protocols' worst in each run, and each protocol's in the table.
func (d *drill) enter(k *kindRuns) {
	var worst, slowest []float64
	for _, p := range drilled() {
		w, f, rec := k.waits[p], k.firsts[p], k.recs[p]
		if len(w) == 0 {
			continue
		}
		worst, slowest = maxima(worst, w), maxima(slowest, f)
		d.table.Rows = append(d.table.Rows, []string{k.kind, p, fmt.Sprint(len(w)), units.Format(percentile(w, 50), "s"), units.Format(percentile(w, 99), "s"), units.Format(slices.Max(w), "s"),
			units.Format(percentile(f, 50), "s"), units.Format(slices.Max(f), "s")})
		d.section.Latencies = append(d.section.Latencies, rec.Latency("failover."+k.kind+"."+p, fmt.Sprintf("%s while faults of kind %s happen", p, k.kind)))
	}
	if len(worst) == 0 {
		return
	}
	for _, m := range []struct {
		id, name string
		of       []float64
	}{{"stall", "longest wait of any user in a run", worst}, {"first", "fault to first success", slowest}} {
		id, name := "failover."+k.kind+"."+m.id, fmt.Sprintf("%s: %s", k.kind, m.name)
		for _, p := range []struct {
			id string
			v  float64
		}{{"p50", percentile(m.of, 50)}, {"p99", percentile(m.of, 99)}, {"max", slices.Max(m.of)}} {
			x := metric(id+"."+p.id, name+", "+p.id, p.v, "s", report.Lower)
			x.Samples = m.of
			d.section.Metrics = append(d.section.Metrics, x)
		}
	}
}

// finish reads everything back and adds what is of the whole section.
func (d *drill) finish(ctx context.Context) *report.Section {
	s := d.section
	s.Tables = append(s.Tables, d.table)
	var recs []*load.Recorder
	for _, p := range drilled() {
		if r := d.recs[p]; r != nil {
			recs = append(recs, r)
			fig := r.Figures()
			d.ended, d.failed = d.ended+fig.Successes+fig.Failures, d.failed+fig.Failures
		}
	}
	if len(recs) > 0 {
		c := load.LatencyChart("What users waited, faults marked", recs...)
		c.Marks = d.marks
		r := load.RateChart("Operations a second, faults marked", recs...)
		r.Marks = d.marks
		s.Charts = append(s.Charts, c, r)
	}
	s.Metrics = append(s.Metrics, metric("failover.runs", "faults made", float64(d.runs), "faults", report.Info))
	d.book.settle(ctx, d.env, s, "failover")
	if d.ended > 0 {
		s.Metrics = append(s.Metrics, metric("failover.errors", "share of operations that nobody answered with success", float64(d.failed)/float64(d.ended), "ratio", report.Lower))
	}
	s.Summary = fmt.Sprintf("%d faults under load; %d messages were acknowledged, %d of them lost; %d of %d operations found nobody who answered.",
		d.runs, d.book.owed(), d.book.lost, d.failed, d.ended)
	return s
}

// runs is how often a fault is made.
func (o Options) runs(own int) int {
	switch {
	case o.Runs > 0:
		return o.Runs
	case o.Short:
		return max(own/2, 1)
	case o.Long:
		return 10 * own
	}
	return own
}

// percentile of values, by the nearest rank.
func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	i := int(p/100*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// maxima are the larger ones of each pair; a may be empty.
func maxima(a, b []float64) []float64 {
	if len(a) == 0 {
		return slices.Clone(b)
	}
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
}
