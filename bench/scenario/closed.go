package scenario

import (
	"context"
	"fmt"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/send"
	"hongyan/bench/measure"
	"hongyan/bench/report"
)

// grace is how long operations that are under way at the end of a phase may take.
const grace = 30 * time.Second

// cost is what a server used while something was measured.
type cost struct {
	measure.Usage
	flushes uint64 // of the disk, by anybody
	took    time.Duration
}

// costs runs f and measures what the server used meanwhile. ok is false when its processes are not known.
func (e *Env) costs(f func() error) (c cost, ok bool, err error) {
	if !e.Measured() {
		return cost{}, false, f()
	}
	dir := "."
	if dirs, err := e.Folders(); err == nil && len(dirs) > 0 {
		dir = dirs[0]
	}
	before, err := e.usage()
	if err != nil {
		return cost{}, false, err
	}
	flushed, _ := measure.Flushes(dir) // 0 both times where it is unknown
	began := time.Now()
	if err := f(); err != nil {
		return cost{}, false, err
	}
	c.took = time.Since(began)
	after, err := e.usage()
	if err != nil {
		return cost{}, false, err
	}
	if now, err := measure.Flushes(dir); err == nil {
		c.flushes = now - flushed
	}
	c.Usage = after
	c.CPU -= before.CPU
	c.Written -= before.Written
	return c, true, nil
}

// outcome is a phase of deliveries.
type outcome struct {
	rec  *load.Recorder
	fig  load.Figures
	cost cost
	ok   bool // cost is known
	mean float64
}

// perThousand is the processor time of the servers for 1,000 successes, in seconds.
func (o outcome) perThousand() float64 {
	return o.cost.CPU.Seconds() / float64(o.fig.Successes) * 1000
}

// mail is what deliveries of a scenario have in common: a corpus and who gets it.
type mail struct {
	corpus *load.Corpus
	skew   *load.Skew
	users  []load.Account
}

// zipf is the skew of recipients: the busiest of 200 accounts gets a tenth of all mail.
const zipf = 0.8

func (e *Env) mail(users []load.Account) (*mail, error) {
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: e.Options.Seed, Size: e.Options.Size})
	if err != nil {
		return nil, err
	}
	skew, err := load.NewSkew(len(users), zipf, e.Options.Seed)
	if err != nil {
		return nil, err
	}
	return &mail{corpus, skew, users}, nil
}

func (m *mail) message(t load.Turn) *load.Message {
	return m.corpus.Message(t.N, t.Due, m.users[m.skew.Pick(uint64(t.N))].Address)
}

// pace is a closed or an open loop.
type pace interface {
	Run(context.Context, *load.Recorder, load.Operation) error
}

// deliver runs a phase of deliveries.
func (e *Env) deliver(ctx context.Context, began time.Time, name string, how send.Options, p pace, m *mail) (out outcome, err error) {
	s, err := send.New(e.Target, how)
	if err != nil {
		return out, err
	}
	defer s.Close()
	out.rec = load.NewRecorder(name, load.RecorderOptions{Began: began})
	e.Progress.Rate(func() string {
		l := out.rec.Live()
		return fmt.Sprintf("%.0f/s, p99 %v", l.Rate, l.P99.Round(100*time.Microsecond))
	})
	out.cost, out.ok, err = e.costs(func() error {
		return p.Run(ctx, out.rec, func(ctx context.Context, t load.Turn) error { return s.Send(ctx, t.Worker, m.message(t)) })
	})
	if err != nil {
		return out, err
	}
	out.fig, out.mean = out.rec.Figures(), m.corpus.MeanBytes()
	if out.fig.Successes == 0 {
		return out, fmt.Errorf("%s: no message was accepted: %v", name, out.fig.Examples)
	}
	return out, ctx.Err()
}

// metric is a figure of a section.
func metric(id, name string, value float64, unit string, better report.Better) report.Metric {
	return report.Metric{ID: id, Name: name, Value: value, Unit: unit, Better: better}
}
