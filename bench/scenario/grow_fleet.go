package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/send"
	"hongyan/bench/measure"
	"hongyan/cluster/pause"
)

// fleet is the nodes that mail goes to while they come and go. Each message is tried at one node after the other until somebody takes it on. A try that failed
// counts as refused, unless the node was being taken away at any time during it: whoever does that tells the fleet first.
type fleet struct {
	target  load.Target
	journal send.Journal

	mu      sync.Mutex // guards what follows
	berths  []*berth
	phase   *phase
	moving  *load.Recorder // of all phases but the quiet ones
	bare    *load.Recorder // of the same phases
	refused int
	said    []string // the first refusals, for people
}

// berth is a node of the fleet.
type berth struct {
	node   load.Node
	sender *send.Sender
	away   bool
	back   time.Time // when it last came, or came back
}

// phase is a part of the run.
type phase struct {
	id, what string
	quiet    bool
	rec      *load.Recorder
	bare     *load.Recorder // fsyncs that are not the cluster's
	refused  int            // guarded by the fleet
	nodes    int            // that mail went to when it ended
	took     time.Duration
	moved    int // replicas of shards
}

const (
	maxSaid  = 20
	againIn  = 20 * time.Millisecond
	oneTry   = 20 * time.Second
	dialWait = 2 * time.Second
	bareEach = 50 * time.Millisecond
)

func newFleet(t load.Target, journal send.Journal, began time.Time) *fleet {
	o := load.RecorderOptions{Began: began}
	return &fleet{target: t, journal: journal, moving: load.NewRecorder("while nodes come and go", o), bare: load.NewRecorder("bare fsyncs", o)}
}

// come adds nodes, or has those that were away again.
func (f *fleet) come(nodes ...load.Node) error {
	for _, n := range nodes {
		f.mu.Lock()
		b := f.berth(n.ID)
		if b != nil && b.away {
			b.away, b.back = false, time.Now()
		}
		f.mu.Unlock()
		if b != nil {
			continue
		}
		t := f.target
		t.Nodes = []load.Node{n}
		s, err := send.New(t, send.Options{Protocol: send.LMTP, Workers: trafficWorkers, Timeout: oneTry, DialTimeout: dialWait, Journal: f.journal})
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.berths = append(f.berths, &berth{node: n, sender: s, back: time.Now()})
		f.mu.Unlock()
	}
	return nil
}

// berth finds a node's; f.mu is held.
func (f *fleet) berth(id string) *berth {
	i := slices.IndexFunc(f.berths, func(b *berth) bool { return b.node.ID == id })
	if i < 0 {
		return nil
	}
	return f.berths[i]
}

// leave says that nodes are about to be taken away: nobody is to talk to them any more.
func (f *fleet) leave(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if b := f.berth(id); b != nil {
			b.away = true
		}
	}
}

// nodes are those that can be talked to.
func (f *fleet) nodes() (out []load.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.present() {
		out = append(out, b.node)
	}
	return out
}

// present are the berths of those; f.mu is held.
func (f *fleet) present() []*berth {
	return slices.DeleteFunc(slices.Clone(f.berths), func(b *berth) bool { return b.away })
}

// enter begins a phase.
func (f *fleet) enter(p *phase) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.phase = p
}

// deliver has a message taken on, and records that for the phase in which it is begun.
func (f *fleet) deliver(ctx context.Context, t load.Turn, m *load.Message) error {
	f.mu.Lock()
	p := f.phase
	f.mu.Unlock()
	return p.record(p.rec, f.moving, t.Due, func() error { return f.persist(ctx, p, t, m) })
}

// record does something that was due, for the phase and, unless that is a quiet one, for all of them.
func (p *phase) record(own, all *load.Recorder, due time.Time, do func() error) error {
	ops := []load.Op{own.Begin(due)}
	if !p.quiet {
		ops = append(ops, all.Begin(due))
	}
	err := do()
	for _, op := range ops {
		op.End(err)
	}
	return err
}

// measure has a yardstick in dir append until ctx ends.
func (f *fleet) measure(ctx context.Context, dir string) (err error) {
	y, err := measure.NewYardstick(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Close()) }()
	for pause.For(ctx, bareEach) {
		f.mu.Lock()
		p := f.phase
		f.mu.Unlock()
		err := p.record(p.bare, f.bare, time.Now(), func() error { _, err := y.Append(); return err })
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) persist(ctx context.Context, p *phase, t load.Turn, m *load.Message) error {
	for began, turn := time.Now(), t.N; ; turn++ {
		f.mu.Lock()
		present := f.present()
		f.mu.Unlock()
		if len(present) == 0 {
			return fmt.Errorf("send %s: every node was taken away", m.ID)
		}
		b, tried := present[turn%len(present)], time.Now()
		err := b.sender.Send(ctx, t.Worker, m)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f.judge(p, b, tried, err)
		if load.Classify(err) == load.Permanent || time.Since(began) > tryFor {
			return err
		}
		pause.For(ctx, againIn)
	}
}

// judge counts a try that has just failed.
func (f *fleet) judge(p *phase, b *berth, tried time.Time, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.away || b.back.After(tried) {
		return
	}
	f.refused++
	p.refused++
	if len(f.said) < maxSaid {
		f.said = append(f.said, fmt.Sprintf("Refused at %s, begun in %q, by %s after %v: %v", now.Format("15:04:05.000"), p.what, b.node.ID, now.Sub(tried).Round(time.Millisecond), err))
	}
}

// close ends all connections. Nothing is being delivered.
func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.berths {
		b.sender.Close()
	}
}
