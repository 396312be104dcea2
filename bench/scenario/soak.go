package scenario

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/people"
	"hongyan/bench/load/send"
	"hongyan/bench/measure"
	"hongyan/bench/report"
	"hongyan/cluster/pause"
)

var soak = Scenario{
	Name: "soak", Summary: "hundreds of simulated users and a steady stream of mail for long: leaks, drift and loss", Reads: true, Takes: 90 * time.Second,
	Run: runSoak,
}

const (
	soakUsers = 300 // simulated; 5,000 when long
	soakRate  = 50  // messages a second
	memoryAt  = 2 * time.Second
)

func runSoak(ctx context.Context, e *Env) (*report.Section, error) {
	began := time.Now()
	s := &report.Section{Title: "Soak"}
	users, took, rate := cmp.Or(e.Options.Sessions, soakUsers), e.Options.time(time.Minute), cmp.Or(e.Options.Rate, soakRate)
	if e.Options.Long && e.Options.Sessions == 0 {
		users = 5000
	}
	if err := measure.AllowFiles(users + 1000); err != nil {
		return s, err
	}
	boxes, rest := e.split(20)
	b := newBook()
	steady := *e
	steady.Target.Accounts = boxes
	if err := b.base(ctx, steady.Target); err != nil {
		return s, err
	}
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: e.Options.Seed, Size: e.Options.Size, Run: fmt.Sprint("soak-", began.UnixNano())})
	if err != nil {
		return s, err
	}
	crowd, err := e.crowd(rest, users, took, began, corpus)
	if err != nil {
		return s, err
	}
	protocol := send.Protocol(spoken(e.Target)[0])
	stream, err := send.New(steady.Target, send.Options{Protocol: protocol, Workers: trafficWorkers, Policy: load.RoundRobin, Until: true, Journal: b.h})
	if err != nil {
		return s, err
	}
	defer stream.Close()
	rec := load.NewRecorder("steady stream", load.RecorderOptions{Began: began})
	e.Progress.Step("%d users, %.0f messages a second", users, rate)
	e.Progress.Rate(func() string {
		l := rec.Live()
		return fmt.Sprintf("%.0f/s, p99 %v, %d users on line", l.Rate, l.P99.Round(time.Millisecond), crowd.Online())
	})
	memory := e.watchMemory(ctx, began)
	done := make(chan struct{})
	go func() {
		defer close(done)
		crowd.Run(ctx)
	}()
	err = load.Open{Rate: rate, Poisson: true, Seed: e.Options.Seed, Workers: trafficWorkers, For: took, Grace: grace}.Run(ctx, rec, func(ctx context.Context, t load.Turn) error {
		return stream.Send(ctx, t.Worker, corpus.Message(t.N, t.Due, boxes[t.N%len(boxes)].Address))
	})
	<-done
	line := memory()
	b.settle(ctx, &steady, s, "soak")
	fig := rec.Figures()
	recs := append([]*load.Recorder{rec}, crowd.Recorders()...)
	s.Settings = []report.Setting{
		{Name: "users", Value: fmt.Sprintf("%d: %s", users, mixed(people.Everyday(users)))},
		{Name: "stream", Value: fmt.Sprintf("%.0f messages a second by %s to %d accounts of their own, all read back at the end", rate, protocol, len(boxes))},
		{Name: "time", Value: took.String()},
	}
	s.Charts = append(s.Charts, load.RateChart("Operations a second", recs...), load.LatencyChart("Times of operations", recs...))
	for _, r := range recs {
		s.Latencies = append(s.Latencies, r.Latency("soak."+r.Name(), r.Name()))
	}
	s.Metrics = append(s.Metrics, rec.Metrics("soak")...)
	s.Metrics = append(s.Metrics, metric("soak.users", "simulated users", float64(users), "users", report.Info))
	if len(line.At) > 0 {
		s.Charts = append(s.Charts, report.Chart{Title: "Memory of all server processes", Unit: "B", Lines: []report.Line{line}})
	}
	if len(line.At) >= 10 {
		s.Metrics = append(s.Metrics, metric("soak.memory_growth", "growth of the servers' memory in the second half, an hour", slope(line), "B/h", report.Lower))
	}
	s.Tables = append(s.Tables, crowdTable(recs))
	s.Summary = fmt.Sprintf("%d users and %.0f messages a second for %v: %d messages acknowledged, %d lost, p99 %v.", users, rate, took, b.owed(), b.lost, fig.P99.Round(time.Millisecond))
	return s, err
}

// crowd are simulated users of these accounts.
func (e *Env) crowd(accounts []load.Account, users int, took time.Duration, began time.Time, corpus *load.Corpus) (*people.Crowd, error) {
	t := e.Target
	t.Accounts = accounts
	return people.New(t, people.Options{Mix: people.Everyday(users), For: took, Ramp: took / 4, Speed: crowdSpeed(took), Seed: e.Options.Seed, Corpus: corpus,
		Recorder: load.RecorderOptions{Began: began}})
}

// crowdSpeed makes users of a short run think faster, so that each does something.
func crowdSpeed(took time.Duration) float64 {
	if took < 5*time.Minute {
		return float64(5*time.Minute) / float64(took)
	}
	return 1
}

func mixed(m people.Mix) string {
	out := ""
	for _, p := range people.Profiles() {
		if out != "" {
			out += ", "
		}
		out += fmt.Sprintf("%d %s", m[p], p)
	}
	return out
}

// watchMemory notes the memory of the server's processes until the function that it returns is called.
func (e *Env) watchMemory(ctx context.Context, began time.Time) func() report.Line {
	line := report.Line{Name: "memory"}
	if !e.Measured() {
		return func() report.Line { return line }
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause.For(ctx, memoryAt) {
			if u, err := e.usage(); err == nil && u.Missing == 0 {
				line.At, line.Value = append(line.At, time.Since(began).Seconds()), append(line.Value, float64(u.Memory))
			}
		}
	}()
	return func() report.Line { stop(); <-done; return line }
}

// slope is that of the second half of a line, an hour: Theil and Sen's median of the slopes between all pairs, which single peaks do not move.
func slope(l report.Line) float64 {
	at, value := l.At[len(l.At)/2:], l.Value[len(l.Value)/2:]
	for len(at) > 500 { // every other one will do
		for i := range len(at) / 2 {
			at[i], value[i] = at[2*i], value[2*i]
		}
		at, value = at[:len(at)/2], value[:len(value)/2]
	}
	var slopes []float64
	for i := range at {
		for j := i + 1; j < len(at); j++ {
			slopes = append(slopes, (value[j]-value[i])/(at[j]-at[i]))
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	slices.Sort(slopes)
	return slopes[len(slopes)/2] * 3600
}

// crowdTable is a line for each kind of action.
func crowdTable(recs []*load.Recorder) report.Table {
	t := report.Table{Title: "What users and the stream did", Columns: []string{"what", "done", "failed", "p50", "p99", "longest"}}
	for _, r := range recs {
		f := r.Figures()
		t.Rows = append(t.Rows, []string{r.Name(), fmt.Sprint(f.Successes), fmt.Sprint(f.Failures), ms(f.P50), ms(f.P99), ms(f.Max)})
	}
	return t
}
