package textsearch

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/engine/fulltext"
	"hongyan/engine/volume"
)

// Reader reads ranges of messages; replica.Manager does.
type Reader interface {
	Read(ctx context.Context, ref volume.Ref, off, n uint64) (io.ReadCloser, error)
}

// Config is what a Service needs.
type Config struct {
	Region  func(node string) string
	Net     *transport.Net
	Router  *shard.Router
	Host    *shard.Host
	Nodes   func() []string // that keep mail
	Volumes Reader
	DB      *fulltext.DB           // nil: this node keeps no index, and only asks
	Free    func() (uint64, error) // bytes of disk that may be used
	Rate    int64                  // bytes of mail a second that are read to be indexed, at most; 0 is DefaultRate
	Log     *slog.Logger
}

// DefaultRate is in bytes a second.
const DefaultRate = 32 << 20

const (
	lookEvery   = time.Second
	sweepEvery  = time.Hour
	flushEvery  = 5 * time.Minute  // a crash forgets what was indexed since
	keepOther   = 10 * time.Minute // the index of a shard that is not this node's to index any more
	leastFree   = 64 << 20         // with less free the index does not grow
	mostFresh   = 64               // messages of a mailbox that are still indexed as fresh ones
	rateMinimum = 4 << 20          // burst of the rate in bytes
)

// Service is one node's.
type Service struct {
	cfg     Config
	metrics *metrics
	limit   *rate.Limiter
	queue   *queue
	tending *tending
	read    atomic.Int64 // bytes that the limit has not counted yet
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu     sync.Mutex // guards what follows; state machines wait for it
	shards map[uint32]*served
}

// served is a shard that is indexed here, or was.
type served struct {
	mine  bool
	until time.Time // if not mine: it is kept
	due   bool      // to be swept
	swept time.Time
}

// New makes a service and registers its methods. Start begins its work.
func New(cfg Config) *Service {
	if cfg.Rate <= 0 {
		cfg.Rate = DefaultRate
	}
	burst := max(rateMinimum, int(cfg.Rate))
	s := &Service{cfg: cfg, metrics: newMetrics(), limit: rate.NewLimiter(rate.Limit(cfg.Rate), burst), queue: newQueue(), tending: newTending(),
		stop: func() {}, shards: make(map[uint32]*served)}
	transport.HandleUnary(cfg.Net, methodCandidates, s.serveCandidates)
	transport.HandleUnary(cfg.Net, methodReport, s.serveReport)
	transport.HandleUnary(cfg.Net, methodRebuild, s.serveRebuild)
	return s
}

// Start begins to index, on a node that keeps an index.
func (s *Service) Start() {
	if s.cfg.DB == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { s.look(ctx) })
	s.work.Go(func() { s.sweeps(ctx) })
	s.work.Go(func() { s.run(ctx, fresh) })
	s.work.Go(func() { s.run(ctx, old) })
	s.work.Go(func() { s.tend(ctx) })
}

// Close ends the work.
func (s *Service) Close() {
	s.stop()
	s.work.Wait()
}

// Publish is told by a shard's replica here which folders changed; nil means that its state was replaced. It does not wait.
func (s *Service) Publish(number uint32, events []mailbox.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.shards[number]
	if f == nil || !f.mine {
		return // a sweep comes first
	}
	if events == nil {
		f.due = true
		return
	}
	now := time.Now()
	for _, e := range events {
		if !s.queue.add(fresh, fulltext.Mailbox{Shard: number, Account: e.Account, ID: e.Mailbox}, now) {
			f.due = true
			return
		}
	}
}

// indexers are the nodes that index a group's mailboxes.
func (s *Service) indexers(g placement.Group) []string {
	home := slices.DeleteFunc(g.Replicas(), func(n string) bool { return s.cfg.Region(n) != g.Home })
	if len(home) == 0 {
		return g.Voters
	}
	return home
}

// full says that the disk has no room for more.
func (s *Service) full() bool {
	free, err := s.cfg.Free()
	return err == nil && free < leastFree
}

// look finds out what this node has to index, and makes a damaged index anew.
func (s *Service) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	s.adopt()
	for flushed := time.Now(); ; {
		s.assign(time.Now())
		s.mend()
		if time.Since(flushed) > flushEvery && !s.full() {
			flushed = time.Now()
			if err := s.cfg.DB.Flush(); err != nil {
				s.cfg.Log.Warn("full-text index: not flushed, a crash would make some mail be indexed again", "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// adopt takes note of what the index has of before.
func (s *Service) adopt() {
	list, err := s.cfg.DB.Shards()
	if err != nil {
		s.cfg.Log.Warn("full-text index: what is in it is not known", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, number := range list {
		if s.shards[number] == nil {
			s.shards[number] = &served{until: time.Now().Add(keepOther)}
		}
	}
}

// assign finds out which shards are indexed here, and forgets those that were and are not for long.
func (s *Service) assign(now time.Time) {
	mine := make(map[uint32]bool)
	for _, g := range s.cfg.Host.Groups() {
		group, ok := s.cfg.Router.Group(g.Shard())
		if ok && g.Shard() != placement.DirectoryShard && slices.Contains(s.indexers(group), s.cfg.Net.ID()) {
			mine[g.Shard()] = true
		}
	}
	for _, number := range s.reassign(mine, now) {
		if err := s.cfg.DB.DropShard(number); err != nil {
			s.cfg.Log.Warn("full-text index: a shard that is not this node's was not dropped", "shard", number, "err", err)
			continue
		}
		s.cfg.Log.Info("full-text index: shard dropped, others index it", "shard", number)
	}
}

// reassign notes what is this node's, and lists what is to be dropped. State machines wait for mu: nothing slow is done under it.
func (s *Service) reassign(mine map[uint32]bool, now time.Time) (drop []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number := range mine {
		if f := s.shards[number]; f == nil || !f.mine {
			s.shards[number] = &served{mine: true, due: true}
		}
	}
	for number, f := range s.shards {
		if f.mine && !mine[number] {
			f.mine, f.until = false, now.Add(keepOther)
		}
		if !f.mine && !now.Before(f.until) {
			delete(s.shards, number)
			drop = append(drop, number)
		}
	}
	return drop
}

// due lists the shards that are to be swept now.
func (s *Service) due(now time.Time) (list []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, f := range s.shards {
		if f.mine && (f.due || now.Sub(f.swept) > sweepEvery) {
			f.due, f.swept = false, now
			list = append(list, number)
		}
	}
	return list
}

// sweeps sweeps the shards that are due, one after the other.
func (s *Service) sweeps(ctx context.Context) {
	for ctx.Err() == nil {
		for _, number := range s.due(time.Now()) {
			if err := s.sweep(ctx, number); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("full-text index: a shard was not swept, will be tried again", "shard", number, "err", err)
				s.sweepAgain(number)
			}
		}
		pause.For(ctx, lookEvery/4)
	}
}

func (s *Service) sweepAgain(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.shards[number]; f != nil {
		f.due = true
	}
}

// mend makes a damaged index anew.
func (s *Service) mend() {
	if !s.cfg.DB.Damaged() {
		return
	}
	s.cfg.Log.Warn("full-text index: damaged, made anew; until then searches read messages")
	if err := s.rebuild(); err != nil {
		s.cfg.Log.Error("full-text index: not made anew; searches read messages until this node starts again", "err", err)
	}
}

// rebuild throws the index away and has everything indexed again.
func (s *Service) rebuild() error {
	err := s.cfg.DB.Rebuild()
	s.metrics.rebuilds.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.shards {
		f.due = true
	}
	return err
}
