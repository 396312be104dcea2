package scenario

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"hongyan/bench/capacity"
	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
	"hongyan/bench/measure"
	"hongyan/bench/report"
	"hongyan/cluster/pause"
)

var capacityPlan = Scenario{
	Name: "capacity", Summary: "measures what a message and a session cost, checks that against another load, and plans for a population", Lab: true, Takes: 90 * time.Second,
	Run: runCapacity,
}

const (
	capacitySessions = 200
	capacityReaders  = 4
	ourCopies        = 2
	ourReplicas      = 3
	smallMessage     = 2 << 10
)

// estimate is a run of the scenario.
type estimate struct {
	env     *Env
	began   time.Time
	section *report.Section
	costs   capacity.Costs
	light   sample // deliveries at a third of what goes, from which a plan is made
	heavy   sample // as many as go
}

func runCapacity(ctx context.Context, e *Env) (*report.Section, error) {
	p := &e.Options.Planning
	if err := p.Population.Validate(); err != nil {
		return nil, err
	}
	m := &estimate{env: e, began: time.Now(), section: &report.Section{Title: "Capacity"}}
	if p.From != "" {
		r, err := report.Read(p.From)
		if err != nil {
			return nil, err
		}
		if m.costs, err = costsOf(r); err != nil {
			return nil, err
		}
	} else if err := m.measure(ctx); err != nil {
		return m.section, err
	}
	plan, err := capacity.Compute(m.costs, p.Population, p.Node)
	if err != nil {
		return m.section, err
	}
	out := plan.Section(m.began)
	out.Metrics = append(append(out.Metrics, costMetrics(m.costs)...), m.section.Metrics...)
	out.Latencies, out.Charts = append(out.Latencies, m.section.Latencies...), append(out.Charts, m.section.Charts...)
	out.Tables, out.Notes = append(out.Tables, m.section.Tables...), append(out.Notes, m.section.Notes...)
	return &out, nil
}

// measure finds the costs, one after the other: at rest, with idle sessions, deliveries at a moderate rate, reads, and as many deliveries as go;
// then predicts another load and measures that.
func (m *estimate) measure(ctx context.Context) error {
	e, took := m.env, m.env.Options.time(10*time.Second)
	e.Progress.Step("at rest")
	if err := e.serving(ctx); err != nil {
		return err
	}
	nodes := float64(len(e.Target.Nodes))
	rest, _, err := e.costs(func() error { pause.For(ctx, took/2); return ctx.Err() })
	if err != nil {
		return err
	}
	m.costs.NodeCPU = rest.CPU.Seconds() / rest.took.Seconds() / nodes
	m.costs.NodeMemory = float64(rest.Memory) / nodes
	if err := m.sessions(ctx, took); err != nil {
		return err
	}
	full, err := m.deliveries(ctx, "as many as go", load.Closed{Workers: 64, For: took, Grace: grace}, 64, e.Options.Size)
	if err != nil {
		return err
	}
	m.costs.SaturationRate, m.costs.SaturationCores = full.rate, full.cores
	first, err := m.deliveries(ctx, "a third of that", load.Open{Rate: full.rate / 3, Poisson: true, Seed: e.Options.Seed, Workers: trafficWorkers, For: took, Grace: grace}, trafficWorkers, e.Options.Size)
	if err != nil {
		return err
	}
	small, err := m.deliveries(ctx, "small ones", load.Open{Rate: full.rate / 3, Poisson: true, Seed: e.Options.Seed, Workers: trafficWorkers, For: took / 2, Grace: grace}, trafficWorkers, smallMessage)
	if err != nil {
		return err
	}
	m.light, m.heavy = first, full
	m.costs.MeanSize = first.size
	m.costs.DeliveryCPU = m.cpu(first)
	m.costs.DeliveryFsyncs = first.flushes
	m.costs.DiskPerByte = first.disk
	m.network(first, small)
	if err := m.reads(ctx, took); err != nil {
		return err
	}
	return m.check(ctx, took, full.rate/2)
}

// cpu is what a delivery took, without what nodes use at rest.
func (m *estimate) cpu(s sample) float64 {
	return max(s.cores-float64(len(m.env.Target.Nodes))*m.costs.NodeCPU, 0) / s.rate
}

// at gives the costs at a rate between the two that were measured. Callers share fsyncs, frames and wake-ups, so what a delivery costs falls with the rate as
// a + b/rate; a plan takes the light load's, which is on the safe side.
func (m *estimate) at(rate float64) capacity.Costs {
	c := m.costs
	curve := func(light, heavy float64) float64 {
		if m.heavy.rate <= m.light.rate {
			return light
		}
		b := (light - heavy) / (1/m.light.rate - 1/m.heavy.rate)
		return heavy - b/m.heavy.rate + b/rate
	}
	c.DeliveryCPU = curve(m.cpu(m.light), m.cpu(m.heavy))
	c.DeliveryFsyncs = curve(m.light.flushes, m.heavy.flushes)
	return c
}

// network tells what grows with the bytes of messages from what each takes whatever its size, by messages of two sizes.
func (m *estimate) network(mix, small sample) {
	regions := len(m.env.regions())
	if regions < 2 || mix.size <= small.size {
		return
	}
	perByte := max((mix.net-small.net)/(mix.size-small.size), 0)
	m.costs.NetPerByte = perByte / capacity.Elsewhere(ourCopies, regions)
	m.costs.NetPerMessage = max(small.net-perByte*small.size, 0) / capacity.Elsewhere(ourReplicas, regions)
}

// sample is what one phase of deliveries used.
type sample struct {
	rate    float64 // deliveries a second
	cores   float64
	size    float64 // mean of the messages, bytes
	flushes float64 // of the disk, for a delivery
	disk    float64 // bytes of volumes for a byte and copy
	net     float64 // bytes between regions for a delivery
}

func (m *estimate) deliveries(ctx context.Context, step string, p pace, workers, size int) (sample, error) {
	sized := *m.env
	sized.Options.Size = size
	e := &sized
	e.Progress.Step("deliveries, %s", step)
	ml, err := e.mail(e.bulk())
	if err != nil {
		return sample{}, err
	}
	stored, moved, err := e.stored(ctx)
	if err != nil {
		return sample{}, err
	}
	o, err := e.deliver(ctx, m.began, "deliveries, "+step, send.Options{Protocol: send.LMTP, Policy: load.Stick, Workers: workers}, p, ml)
	if err != nil {
		return sample{}, err
	}
	storedNow, movedNow, err := e.stored(ctx)
	if err != nil {
		return sample{}, err
	}
	m.section.Latencies = append(m.section.Latencies, o.rec.Latency("capacity.deliveries."+strings.ReplaceAll(step, " ", "-"), "deliveries, "+step))
	n := float64(o.fig.Successes)
	return sample{rate: o.fig.Rate(), cores: o.cost.CPU.Seconds() / o.cost.took.Seconds(), size: o.mean, flushes: float64(o.cost.flushes) / n,
		disk: (storedNow - stored) / (n * o.mean * ourCopies), net: float64(movedNow-moved) / n}, nil
}

// stored are the bytes that the cluster's nodes have appended to volumes for messages, each to its copy, and the bytes that went between its regions.
func (e *Env) stored(ctx context.Context) (appended float64, moved int64, err error) {
	all, err := e.metrics(ctx)
	if err != nil {
		return 0, 0, err
	}
	moved, err = e.moved()
	return all["hongyan_volume_appended_bytes_total"], moved, err
}

// sessions opens idle sessions and sees what they hold and use.
func (m *estimate) sessions(ctx context.Context, took time.Duration) error {
	e, n := m.env, cmp.Or(m.env.Options.Sessions, capacitySessions)
	if err := measure.AllowFiles(n + 1000); err != nil {
		return err
	}
	e.Progress.Step("memory before %d idle sessions", n)
	before, err := e.settledMemory(ctx)
	if err != nil {
		return err
	}
	e.Progress.Step("%d idle sessions", n)
	idle, err := e.openIdle(ctx, n)
	if err != nil {
		return err
	}
	defer idle.close()
	c, _, err := e.costs(func() error { pause.For(ctx, took/2); return ctx.Err() })
	if err != nil {
		return err
	}
	nodes := float64(len(e.Target.Nodes))
	m.costs.SessionCPU = max(c.CPU.Seconds()/c.took.Seconds()-nodes*m.costs.NodeCPU, 0) / float64(n)
	after, err := e.settledMemory(ctx)
	m.costs.SessionMemory = max(float64(after)-float64(before), 0) / float64(n)
	return err
}

// reads fetches what was delivered.
func (m *estimate) reads(ctx context.Context, took time.Duration) error {
	e := m.env
	e.Progress.Step("reads")
	rec := load.NewRecorder("reads", load.RecorderOptions{Began: m.began})
	var c cost
	err := e.reading(ctx, capacityReaders, func(read load.Operation) error {
		var err error
		c, _, err = e.costs(func() error {
			return load.Closed{Workers: capacityReaders, For: took, Grace: grace}.Run(ctx, rec, read)
		})
		return err
	})
	if err != nil {
		return err
	}
	f := rec.Figures()
	if f.Successes == 0 {
		return fmt.Errorf("no message could be read: %v", f.Examples)
	}
	m.section.Latencies = append(m.section.Latencies, rec.Latency("capacity.reads", "list the newest, fetch one"))
	used := c.CPU.Seconds() - float64(len(e.Target.Nodes))*m.costs.NodeCPU*c.took.Seconds()
	m.costs.ReadCPU = max(used, 0) / float64(f.Successes)
	return nil
}

// reading gives an operation that lists a mailbox and fetches one of its newest messages.
func (e *Env) reading(ctx context.Context, workers int, f func(load.Operation) error) error {
	pool, err := read.NewPool(e.Target, read.PoolOptions{Workers: workers})
	if err != nil {
		return err
	}
	defer pool.Close()
	return f(func(ctx context.Context, t load.Turn) error {
		a := e.Target.Accounts[t.Worker%len(e.Target.Accounts)]
		return pool.Do(ctx, t.Worker, a, "INBOX", func(ctx context.Context, s *read.Session) error {
			items, err := s.Newest(ctx, 20)
			if err != nil || len(items) == 0 {
				return err
			}
			_, err = s.Body(ctx, items[t.N%len(items)].UID)
			return err
		})
	})
}

// check predicts another load, with reads beside the deliveries, and measures it.
func (m *estimate) check(ctx context.Context, took time.Duration, rate float64) error {
	e := m.env
	rec := load.NewRecorder("reads beside", load.RecorderOptions{Began: m.began})
	var seen sample
	err := e.reading(ctx, 1, func(read load.Operation) error {
		reading, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			done <- load.Closed{Workers: 1, Pause: 10 * time.Millisecond, For: time.Hour, Grace: time.Second}.Run(reading, rec, read)
		}()
		var err error
		seen, err = m.deliveries(ctx, "half of that, to check the prediction",
			load.Open{Rate: rate, Poisson: true, Seed: e.Options.Seed + 1, Workers: trafficWorkers, For: took, Grace: grace}, trafficWorkers, e.Options.Size)
		stop()
		if e := <-done; err == nil {
			err = e
		}
		return err
	})
	if err != nil {
		return err
	}
	with := capacity.Load{Deliveries: seen.rate, Reads: rec.Figures().Rate(), MeanSize: seen.size, Nodes: len(e.Target.Nodes), Copies: ourCopies, IndexReplicas: ourReplicas, Regions: len(e.regions())}
	predicted := capacity.Predict(m.at(seen.rate), with)
	measured := capacity.Utilisation{Cores: seen.cores, NetBytesPerSecond: seen.net * seen.rate, FsyncsPerSecond: seen.flushes * seen.rate}
	worst, table := capacity.Check(predicted, measured)
	m.section.Tables = append(m.section.Tables, table)
	m.section.Metrics = append(m.section.Metrics, metric("capacity.prediction.error", "largest error of the prediction for another load", worst, "ratio", report.Lower))
	return nil
}
