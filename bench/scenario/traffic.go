package scenario

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
	"hongyan/cluster/pause"
)

// traffic is light load in several protocols that goes on while something is done to the target: operations are due on a schedule whatever the
// target does, and each is tried at one node after the other until somebody answers, as mail exchangers and patient clients do. What an operation took
// is what its user waited.
type traffic struct {
	lanes []*lane
}

// lane is the traffic of one protocol.
type lane struct {
	protocol string
	rate     float64
	rec      *load.Recorder
	also     *load.Recorder // that has the same, of a part of the time; may be nil
	do       func(context.Context, load.Turn) error
	close    func()

	mu      sync.Mutex        // guards what follows
	waiting map[int]time.Time // when what each worker tries was due
	since   time.Time         // of the fault that is looked at
	waited  time.Duration
}

// Bounds of the traffic: as many workers as can wait at once; how long an operation goes on trying.
const (
	trafficWorkers = 200
	tryFor         = 60 * time.Second
	tryWait        = 5 * time.Second // for one try of a reader, who then asks another node
	fineSlice      = 100 * time.Millisecond
)

// protocols that traffic can have.
const (
	viaLMTP = "lmtp"
	viaSMTP = "smtp"
	viaIMAP = "imap"
	viaPOP3 = "pop3"
)

// newTraffic prepares lanes for the protocols. Those that read look at mailboxes of the same accounts that get mail.
// What becomes of operations goes to the protocol's recorder among recs, where a missing one is made.
func (e *Env) newTraffic(recs map[string]*load.Recorder, began time.Time, nodes []load.Node, rate float64, protocols []string, journal send.Journal) (*traffic, error) {
	target := e.Target
	target.Nodes = nodes
	t := new(traffic)
	for _, p := range protocols {
		if recs[p] == nil {
			recs[p] = load.NewRecorder(p, load.RecorderOptions{Began: began, Slice: fineSlice})
		}
		l := &lane{protocol: p, rate: rate, waiting: make(map[int]time.Time), rec: recs[p]}
		var err error
		switch p {
		case viaLMTP, viaSMTP:
			err = l.sends(e, target, send.Protocol(p), journal)
		case viaIMAP:
			l.rate = rate / 2
			err = l.reads(target)
		case viaPOP3:
			l.rate = min(rate/10, 5) // each logs in
			l.pops(target)
		default:
			err = fmt.Errorf("traffic by %q: expected lmtp, smtp, imap or pop3", p)
		}
		if err != nil {
			t.close()
			return nil, err
		}
		t.lanes = append(t.lanes, l)
	}
	return t, nil
}

func (l *lane) sends(e *Env, target load.Target, p send.Protocol, journal send.Journal) error {
	s, err := send.New(target, send.Options{Protocol: p, Policy: load.RoundRobin, Workers: trafficWorkers, Until: true, Patience: tryFor,
		Timeout: 20 * time.Second, Journal: journal})
	if err != nil {
		return err
	}
	size := cmp.Or(e.Options.Size, 4<<10)
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: e.Options.Seed, Size: size, Run: fmt.Sprintf("%s-%d", p, time.Now().UnixNano())})
	if err != nil {
		return err
	}
	users := target.Accounts
	l.do = func(ctx context.Context, t load.Turn) error {
		return s.Send(ctx, t.Worker, corpus.Message(t.N, t.Due, users[t.N%len(users)].Address))
	}
	l.close = s.Close
	return nil
}

// reads asks for the newest messages of a mailbox that a session of the worker's has open.
func (l *lane) reads(target load.Target) error {
	pool, err := read.NewPool(target, read.PoolOptions{Options: read.Options{Timeout: tryWait, DialTimeout: time.Second}, Workers: trafficWorkers, Policy: load.Failover})
	if err != nil {
		return err
	}
	l.do = func(ctx context.Context, t load.Turn) error {
		a := target.Accounts[t.Worker%len(target.Accounts)] // a worker keeps its session
		return persist(ctx, func() error {
			return pool.Do(ctx, t.Worker, a, "INBOX", func(ctx context.Context, s *read.Session) error {
				_, err := s.Newest(ctx, 5)
				return err
			})
		})
	}
	l.close = pool.Close
	return nil
}

// pops logs in and looks into the maildrop, at a node further on each time it fails.
func (l *lane) pops(target load.Target) {
	l.do = func(ctx context.Context, t load.Turn) error {
		node := t.N
		return persist(ctx, func() error {
			node++
			return maildrop(ctx, target, node%len(target.Nodes), target.Accounts[t.N%len(target.Accounts)])
		})
	}
	l.close = func() {}
}

func maildrop(ctx context.Context, target load.Target, node int, a load.Account) error {
	s, err := read.DialPOP3(ctx, target, node, read.Options{Timeout: tryWait, DialTimeout: time.Second})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Login(ctx, a); err != nil {
		return err
	}
	if _, _, err := s.Stat(ctx); err != nil {
		return err
	}
	return s.Quit(ctx)
}

// persist tries until it works, as a person does who has patience.
func persist(ctx context.Context, f func() error) error {
	for began := time.Now(); ; {
		err := f()
		if err == nil || ctx.Err() != nil || time.Since(began) > tryFor {
			return err
		}
		pause.For(ctx, 20*time.Millisecond)
	}
}

// run keeps the traffic going while f runs.
func (t *traffic) run(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, len(t.lanes))
	running, halt := context.WithCancel(ctx)
	for i, l := range t.lanes {
		go func() {
			errs <- load.Open{Rate: l.rate, Seed: uint64(i), Workers: trafficWorkers, For: 24 * time.Hour, Grace: grace}.Run(running, l.rec, l.timed)
		}()
	}
	err := f(ctx)
	halt()
	for range t.lanes {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}

// timed is an operation whose wait counts for the fault that is looked at.
func (l *lane) timed(ctx context.Context, t load.Turn) error {
	l.mu.Lock()
	l.waiting[t.Worker] = t.Due
	l.mu.Unlock()
	var also load.Op
	if l.also != nil {
		also = l.also.Begin(t.Due)
	}
	err := l.do(ctx, t)
	if l.also != nil {
		also.End(err)
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, t.Worker)
	if now.After(l.since) { // also one that was due before the fault and was caught by it
		l.waited = max(l.waited, now.Sub(later(t.Due, l.since)))
	}
	return err
}

// mark begins to look at a fault.
func (t *traffic) mark(label string) {
	for _, l := range t.lanes {
		l.mu.Lock()
		l.since, l.waited = time.Now(), 0
		l.mu.Unlock()
		l.rec.Mark(label)
	}
}

// overdue is an error while somebody still waits for something that was due a second ago.
func (t *traffic) overdue() error {
	for _, l := range t.lanes {
		l.mu.Lock()
		for _, due := range l.waiting {
			if time.Since(due) > time.Second {
				l.mu.Unlock()
				return fmt.Errorf("an operation by %s has waited since %v", l.protocol, due.Format(time.TimeOnly))
			}
		}
		l.mu.Unlock()
	}
	return nil
}

// seen gives, since the mark, the longest that any one operation waited, and how long it was to the first success of one that began after it.
func (l *lane) seen() (stall, first time.Duration, ok bool) {
	l.mu.Lock()
	stall = l.waited
	l.mu.Unlock()
	marks := l.rec.Figures().Marks
	if len(marks) == 0 {
		return stall, 0, false
	}
	first, ok = marks[len(marks)-1].ToFirst()
	return stall, first, ok
}

func (t *traffic) close() {
	for _, l := range t.lanes {
		l.close()
	}
}

// live is the rates of all lanes for the progress.
func (t *traffic) live() string {
	out := ""
	for _, l := range t.lanes {
		out += fmt.Sprintf("%s %.0f/s ", l.protocol, l.rec.Live().Rate)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
