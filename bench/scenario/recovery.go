package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/send"
	"hongyan/bench/report"
	"hongyan/cluster/pause"
)

var recovery = Scenario{
	Name: "recovery", Summary: "nodes that restart, come back after an absence, and lose their index or their whole disk, under light load", Lab: true, Reads: true,
	Takes: 2 * time.Minute, Run: runRecovery, Kinds: recoveryKinds,
}

// Kinds of recovery, in the order in which they are tried.
const (
	kindRestart    = "restart"
	kindRestartAll = "restart_all"
	kindRejoin     = "rejoin"
	kindReindex    = "reindex"
	kindRebuild    = "rebuild"
	kindPowerCut   = "powercut"
)

var recoveryKinds = []string{kindRestart, kindRestartAll, kindRejoin, kindReindex, kindRebuild, kindPowerCut}

const (
	lightRate   = 20.0 // deliveries a second
	loadWorkers = 512  // that may wait while nothing is accepted
	serveWait   = 2 * time.Minute
)

// recoveries is a run of the scenario. Meanwhile senders deliver as exchangers do, again and again until they are told yes; what they were told is in
// the book, and is read back at the end.
type recoveries struct {
	env     *Env
	section *report.Section
	rec     *load.Recorder
	mail    *mail
	book    *book
	rng     *rand.Rand
	burst   int // messages that a node misses
	bursts  int // how many there were
	took    map[string][]float64
	rows    []recoveryRow
}

// recoveryRow is one line of the table.
type recoveryRow struct {
	kind, node string
	mark       int // of the recorder
	serves     time.Duration
	whole      time.Duration // 0: not looked at
	copied     int64
}

func runRecovery(ctx context.Context, e *Env) (s *report.Section, err error) {
	r := &recoveries{env: e, section: &report.Section{Title: "Recovery"}, rng: rand.New(rand.NewPCG(e.Options.Seed, 0x7265636f)), took: map[string][]float64{}}
	kinds, err := r.kinds()
	if err != nil {
		return r.section, err
	}
	r.burst = r.messages()
	r.rec = load.NewRecorder("deliveries", load.RecorderOptions{Slice: 200 * time.Millisecond})
	_, users := e.split(1)
	if r.mail, err = e.mail(users); err != nil {
		return r.section, err
	}
	if err := e.serving(ctx); err != nil {
		return r.section, err
	}
	checked := *e
	checked.Target.Accounts = users
	r.book = newBook()
	if err := r.book.base(ctx, checked.Target); err != nil {
		return r.section, err
	}
	err = r.underLoad(ctx, func() error {
		for range r.runs() {
			for _, k := range kinds {
				if err := r.step(ctx, k); err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
			}
		}
		return nil
	})
	if err := errors.Join(err, e.whole()); err != nil {
		return r.finish(), err
	}
	if err := e.serving(ctx); err != nil {
		return r.finish(), err
	}
	r.book.settle(ctx, &checked, r.section, "recovery")
	r.judge()
	return r.finish(), nil
}

func (r *recoveries) runs() int {
	switch o := r.env.Options; {
	case o.Runs > 0:
		return o.Runs
	case o.Long:
		return 5
	}
	return 1
}

// messages is how many a node misses while it is away.
func (r *recoveries) messages() int {
	switch o := r.env.Options; {
	case o.Messages > 0:
		return o.Messages
	case o.Long:
		return 5000
	case o.Short:
		return 200
	}
	return 1000
}

func (r *recoveries) kinds() ([]string, error) {
	st, err := r.env.Lab.Status()
	if err != nil {
		return nil, err
	}
	kinds, err := r.env.Options.kinds(recoveryKinds...)
	if err == nil && !st.Faults.Disk && slices.Contains(kinds, kindPowerCut) {
		kinds = without(kinds, kindPowerCut)
		r.section.Notes = append(r.section.Notes, "No power was cut: the nodes have no disks of their own (`hongyan dev --disk-size`).")
	}
	return kinds, err
}

// underLoad runs f while a light load is delivered, and returns when all of that has been accepted or given up.
func (r *recoveries) underLoad(ctx context.Context, f func() error) error {
	s, err := send.New(r.env.Target, r.patient(loadWorkers))
	if err != nil {
		return err
	}
	defer s.Close()
	loading, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var loadErr error
	wg.Go(func() {
		const forever = 24 * time.Hour
		loadErr = load.Open{Rate: cmp.Or(r.env.Options.Rate, lightRate), Poisson: true, Seed: r.env.Options.Seed, Workers: loadWorkers, For: forever, Grace: serveWait}.
			Run(loading, r.rec, func(ctx context.Context, t load.Turn) error { return s.Send(ctx, t.Worker, r.mail.message(t)) })
	})
	pause.For(ctx, time.Second) // of undisturbed load, for the chart
	err = f()
	pause.For(ctx, time.Second)
	stop()
	wg.Wait()
	return errors.Join(err, loadErr, ctx.Err())
}

// patient are senders that try until they are told yes or no for good.
func (r *recoveries) patient(workers int) send.Options {
	return send.Options{Protocol: send.LMTP, Policy: load.RoundRobin, Workers: workers, Until: true, Patience: serveWait, Journal: r.book.h}
}

// deliver sends what a node is to miss, by eight connections as fast as it goes.
func (r *recoveries) deliver(ctx context.Context) error {
	const workers = 8
	s, err := send.New(r.env.Target, r.patient(workers))
	if err != nil {
		return err
	}
	defer s.Close()
	r.bursts++
	first := r.bursts << 24 // numbers that the load does not come to
	var refused atomic.Pointer[error]
	err = load.Closed{Workers: workers, Count: r.burst, Grace: serveWait}.Run(ctx, r.rec, func(ctx context.Context, t load.Turn) error {
		t.N += first
		err := s.Send(ctx, t.Worker, r.mail.message(t))
		if err != nil {
			refused.Store(&err)
		}
		return err
	})
	if p := refused.Load(); err == nil && p != nil {
		err = *p
	}
	return errors.Join(err, ctx.Err())
}

// judge enters what reading everything back has shown.
func (r *recoveries) judge() {
	s := r.section
	s.Metrics = append(s.Metrics, metric("recovery.acknowledged", "messages that were acknowledged", float64(r.book.owed()), "messages", report.Info))
	s.Summary = fmt.Sprintf("%d messages were acknowledged while nodes died and came back, and read back through %d nodes: %d lost, %d rules broken.",
		r.book.owed(), len(r.env.Target.Nodes), r.book.lost, r.book.broken)
}
