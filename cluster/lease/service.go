package lease

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// How long a lease is: Hold by the clock of who has it, Term by the leader's.
const (
	Hold = 1200 * time.Millisecond
	Term = 1500 * time.Millisecond
	// formerTerm is for programs before feature.Brisk, which hold theirs for 8 s.
	formerTerm = 10 * time.Second

	renewEvery  = 400 * time.Millisecond
	renewTime   = 600 * time.Millisecond // for a call
	maxClaims   = 1000                   // in a call
	releaseTime = 2 * time.Second
	whoTime     = 500 * time.Millisecond // for a node's answer

	askPause        = 50 * time.Millisecond // doubled up to
	longestAskPause = 150 * time.Millisecond
)

// What taking a lease may end in.
var (
	ErrInUse       = errors.New("another session has it")
	ErrUnavailable = errors.New("nobody can say who has it")
)

// Office says since when this node leads a shard.
type Office struct {
	Term  uint64
	Since time.Time
}

// Shards is what a Service needs to know of shards.
type Shards interface {
	// AtLeader calls the leader of a shard, whoever that becomes, until ctx ends.
	AtLeader(ctx context.Context, shard uint32, method string, req, resp any) error
	// Office is this node's in a shard: a majority has said since the call that nobody else has a later one.
	Office(ctx context.Context, shard uint32) (Office, error)
	// Readable says *index.MovedError of an account that is not in a shard's state here.
	Readable(shard uint32, account uint64) error
	// Place is the shard of an account that was in given.
	Place(account uint64, given uint32) uint32
	// Level is the cluster's.
	Level() feature.Level
	// Follow takes note of where an account is that was in given, or waits a moment.
	Follow(ctx context.Context, account uint64, given uint32, moved *index.MovedError, try int) error
}

// Nodes is what a Service needs to know of nodes; *transport.Net is one.
type Nodes interface {
	ID() string
	Peers() []transport.Peer
	CallSound(ctx context.Context, node, method string, req, resp any) error
}

// Service is a node's part in it, as one that has sessions and as one that leads shards. Safe for concurrent use.
type Service struct {
	nodes  Nodes
	shards Shards
	log    *slog.Logger
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex          // guards what follows
	mine    map[uint64]*Lease   // of this node's sessions, by account
	tables  map[uint32]*table   // of shards that this node leads or has led
	arrived map[uint32]arrivals // of shards that this node has
	renewed map[uint32]bool     // shards whose leader is being asked to renew
	closed  bool
}

// New makes a Service that answers the other nodes, and does nothing by itself before Start.
func New(net *transport.Net, shards Shards, log *slog.Logger) *Service {
	s := newService(net, shards, log)
	transport.HandleUnary(net, methodAsk, s.serveAsk)
	transport.HandleUnary(net, methodWho, s.serveWho)
	return s
}

func newService(nodes Nodes, shards Shards, log *slog.Logger) *Service {
	s := &Service{
		nodes: nodes, shards: shards, log: log,
		mine: make(map[uint64]*Lease), tables: make(map[uint32]*table), arrived: make(map[uint32]arrivals), renewed: make(map[uint32]bool),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Start begins to renew. Close ends it.
func (s *Service) Start() {
	s.work.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.renewAll()
			case <-s.ctx.Done():
				return
			}
		}
	})
}

// Close ends renewals. What sessions have ends by itself.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
}

// Lease is a session's. Its methods are for one goroutine.
type Lease struct {
	s       *Service
	account uint64
	given   uint32 // the shard that it was in
	session uint64
	over    chan struct{} // closed by Release

	// guarded by the Service's lock
	until time.Time // before that nobody else has the account
	asked time.Time // when a leader last wanted to know: what was asked for before then does not count
	had   bool      // it has had the account
	lost  bool      // since it ran out somebody else has had the account
	alone bool      // the leader's program is older and knows no leases
}

// Take gives a session an account of a shard for itself. While another one has it, it waits, up to patience: a client that lost its connection comes back
// at once, and its old session ends a little later. ErrInUse; ErrUnavailable when ctx ends.
func (s *Service) Take(ctx context.Context, account uint64, shard uint32, patience time.Duration) (*Lease, error) {
	ends := time.Now().Add(patience)
	l, err := s.begin(ctx, account, shard, ends)
	if err != nil {
		return nil, err
	}
	for pause := askPause; ; pause = min(2*pause, longestAskPause) {
		v, err := l.ask(ctx)
		if err == nil && v == granted {
			return l, nil
		}
		if err == nil && v == held && !time.Now().Before(ends) {
			l.Release()
			return nil, ErrInUse
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			l.Release()
			if err == nil && v == held {
				return nil, ErrInUse
			}
			return nil, fmt.Errorf("%w: account %d: %w", ErrUnavailable, account, errors.Join(err, ctx.Err()))
		}
	}
}

// begin is step 1: it waits for other sessions of this node.
func (s *Service) begin(ctx context.Context, account uint64, shard uint32, ends time.Time) (*Lease, error) {
	l := &Lease{s: s, account: account, given: shard, session: number(), over: make(chan struct{})}
	patience := time.NewTimer(time.Until(ends))
	defer patience.Stop()
	for {
		s.mu.Lock()
		other := s.mine[account]
		if other == nil {
			s.mine[account] = l
		}
		s.mu.Unlock()
		if other == nil {
			return l, nil
		}
		select {
		case <-other.over:
		case <-patience.C:
			return nil, ErrInUse
		case <-ctx.Done():
			return nil, ErrInUse
		}
	}
}

// number draws one that no other session has.
func number() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// Hold makes sure that no other session has the account, as of now. A lease that ran out is taken again if nobody has come between: ErrInUse if somebody
// has, and then the session must end. ErrUnavailable when ctx ends.
func (l *Lease) Hold(ctx context.Context) error {
	for pause := askPause; ; pause = min(2*pause, longestAskPause) {
		l.s.mu.Lock()
		has, lost := l.renewable(time.Now()), l.lost
		l.s.mu.Unlock()
		if has {
			return nil
		}
		if lost {
			return ErrInUse
		}
		v, err := l.ask(ctx)
		if err == nil && v == granted {
			return nil
		}
		if err == nil && v == held {
			return ErrInUse
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w: account %d: %w", ErrUnavailable, l.account, errors.Join(err, ctx.Err()))
		}
	}
}

func (l *Lease) valid(now time.Time) bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.renewable(now)
}

// ask asks the leader once.
func (l *Lease) ask(ctx context.Context) (verdict, error) {
	for try := 0; ; try++ {
		shard, sent := l.s.shards.Place(l.account, l.given), time.Now()
		answers, err := l.s.call(ctx, shard, []claim{{take, l.account, l.session}})
		if wire.NotKnown(err) {
			l.s.mu.Lock()
			defer l.s.mu.Unlock()
			l.alone = true
			return granted, nil
		}
		if err != nil {
			return 0, err
		}
		if answers[0].Verdict == moved {
			if err := l.s.shards.Follow(ctx, l.account, l.given, &index.MovedError{Shard: answers[0].Shard, At: answers[0].At}, try); err != nil {
				return 0, err
			}
			continue
		}
		if answers[0].Verdict == granted && !l.granted(sent) {
			return unsure, nil
		}
		return answers[0].Verdict, nil
	}
}

// granted notes what was asked for at sent, unless a leader has been told since that the session has not got it.
func (l *Lease) granted(sent time.Time) bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if !sent.After(l.asked) {
		return false
	}
	if until := sent.Add(Hold); until.After(l.until) {
		l.until = until
	}
	l.alone, l.had, l.lost = false, true, false
	return time.Now().Before(l.until)
}

// call sends claims to the leader of a shard.
func (s *Service) call(ctx context.Context, shard uint32, claims []claim) ([]answer, error) {
	var resp askResponse
	err := s.shards.AtLeader(ctx, shard, methodAsk, &askRequest{Shard: shard, Node: s.nodes.ID(), Claims: claims}, &resp)
	if err == nil && len(resp.Answers) != len(claims) {
		err = wire.Errorf(wire.Internal, "the leader of shard %d gave %d answers to %d claims", shard, len(resp.Answers), len(claims))
	}
	return resp.Answers, err
}

// Release gives the account up. Others get it at once if the leader hears of it.
func (l *Lease) Release() {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mine, l.account)
	close(l.over)
	if s.closed || l.alone {
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, releaseTime)
		defer cancel()
		_, err := s.call(ctx, s.shards.Place(l.account, l.given), []claim{{release, l.account, l.session}})
		if err != nil && s.ctx.Err() == nil {
			s.log.Debug("a lease was not given back, and ends by itself", "account", l.account, "err", err)
		}
	})
}

// renewAll renews what this node's sessions have, and takes again what ran out while no leader answered. It does not wait: a shard without a leader holds up
// no other one.
func (s *Service) renewAll() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	due := make(map[uint32][]*Lease)
	for _, l := range s.mine {
		if l.renewable(now) || l.lapsed(now) {
			at := s.shards.Place(l.account, l.given)
			due[at] = append(due[at], l)
		}
	}
	for shard, list := range due {
		if s.renewed[shard] {
			continue
		}
		s.renewed[shard] = true
		s.work.Go(func() {
			for part := range slices.Chunk(list, maxClaims) {
				s.renew(shard, part, renew, (*Lease).renewable)
				s.renew(shard, part, take, (*Lease).lapsed) // a leader that knows of nobody does not believe it: step 4
			}
			s.mu.Lock()
			delete(s.renewed, shard)
			s.mu.Unlock()
		})
	}
}

// renewable says that the session has the account. The caller holds the Service's lock.
func (l *Lease) renewable(now time.Time) bool { return l.alone || now.Before(l.until) }

// lapsed says that the session had it, and that nobody else is known to have had it since. The caller holds the Service's lock.
func (l *Lease) lapsed(now time.Time) bool { return !l.renewable(now) && l.had && !l.lost }

// renew asks the leader of a shard for those leases of which a thing is so. What fails is tried again by the next round.
func (s *Service) renew(shard uint32, list []*Lease, want kind, is func(l *Lease, now time.Time) bool) {
	ctx, cancel := context.WithTimeout(s.ctx, renewTime)
	defer cancel()
	sent := time.Now()
	var leases []*Lease
	var claims []claim
	s.mu.Lock()
	for _, l := range list {
		if is(l, sent) {
			leases, claims = append(leases, l), append(claims, claim{want, l.account, l.session})
		}
	}
	s.mu.Unlock()
	if len(leases) == 0 {
		return
	}
	answers, err := s.call(ctx, shard, claims)
	if err != nil {
		if s.ctx.Err() == nil && !wire.NotKnown(err) {
			s.log.Debug("leases were not renewed", "shard", shard, "leases", len(leases), "err", err)
		}
		return
	}
	for i, a := range answers {
		l := leases[i]
		switch {
		case a.Verdict == granted && want == renew:
			l.extended(sent)
		case a.Verdict == granted:
			l.granted(sent)
		case a.Verdict == held && want == take:
			s.mu.Lock()
			l.lost = true
			s.mu.Unlock()
		case a.Verdict == moved && a.Shard != 0: // it is asked there in the next round
			_ = s.shards.Follow(ctx, l.account, l.given, &index.MovedError{Shard: a.Shard, At: a.At}, 0) // says only that ctx is over
		}
	}
}

// extended is granted for what a session has. An answer that comes when it has it no more is of no use: another leader may have given the account away meanwhile,
// whom the one that answered knows nothing of.
func (l *Lease) extended(sent time.Time) {
	if l.valid(time.Now()) {
		l.granted(sent)
	}
}
