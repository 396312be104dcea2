// Package exercise works on a few shared mailboxes as many clients at once do, through all nodes of a mail system, and notes in a history
// what it was told: deliveries by SMTP and LMTP, IMAP's APPEND, STORE, COPY, MOVE and UID EXPUNGE, and readings, some by POP3, most of them on another node
// right after a change was acknowledged, where a stale one is likeliest.
//
// What a client does follows from the seed and its number; when it does it, and so what it finds, does not. Nodes may die and hang: an
// operation has a time limit, one without an answer is noted as unknown, and the next goes through another node. Only mailboxes of its own are
// exercised, so whatever else is found in them is foreign.
//
// Every message goes into each mailbox once at most, unless a delivery without an answer is tried again. Small mailboxes keep readings small:
// memory grows with the history only.
package exercise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/cluster/pause"
)

// Options say what to exercise.
type Options struct {
	Target    load.Target
	Nodes     func() []load.Node // those that can be talked to at the moment, at least one; nil: the target's
	History   *history.History
	Seed      uint64
	Clients   int           // at once; 0: 6
	Mailboxes int           // two for each account, from the first account on; 0: 4
	Rate      float64       // operations a second of all clients together; 0: as fast as the target answers
	Keep      int           // messages in a mailbox, about; 0: 30
	Timeout   time.Duration // for one operation; 0: 10 s
	Tag       string        // in Message-IDs, so that runs can be told apart; "": made of the seed and the history's length
	Log       *slog.Logger  // nil: none
}

// Stats count what was done.
type Stats struct {
	Operations, OK, Refused, Unknown int
	Readings                         int
}

// folder is the second mailbox of each account; it is made if it is not there.
const folder = "Exercise"

const (
	prepareTime = 30 * time.Second // for the first reading of all mailboxes
	failedPause = time.Second      // a node that could not be reached is left alone for so long
	idlePause   = 50 * time.Millisecond
)

// run is an exercise under way.
type run struct {
	o     Options
	boxes []*box
	pace  *rate.Limiter

	mu     sync.Mutex           // guards what follows, and what boxes know
	down   map[string]time.Time // nodes, until when
	serial int
	stats  Stats
}

// box is one mailbox, as the last reading found it.
type box struct {
	account load.Account
	folder  string
	name    string // in the history
	known   []history.Seen
	put     map[string]bool // messages that went in, or may have
}

// Run exercises the target until ctx ends; what is under way then is waited for. The error says why the mailboxes could not be prepared.
func Run(ctx context.Context, o Options) (Stats, error) {
	r, err := newRun(o)
	if err != nil {
		return Stats{}, err
	}
	if err := r.prepare(ctx); err != nil {
		return Stats{}, fmt.Errorf("exercise %s: %w", o.Target.Name, err)
	}
	var clients sync.WaitGroup
	for i := range r.o.Clients {
		c := &client{
			run: r, name: fmt.Sprintf("x%d", i+1), random: rand.New(rand.NewPCG(r.o.Seed, uint64(i))),
			sessions: map[string]*session{}, senders: map[string]*sender{},
		}
		clients.Go(func() { c.work(ctx) })
	}
	clients.Wait()
	return r.stats, nil
}

func newRun(o Options) (*run, error) {
	o.Clients = orDefault(o.Clients, 6)
	o.Mailboxes = orDefault(o.Mailboxes, 4)
	o.Keep = orDefault(o.Keep, 30)
	o.Timeout = orDefault(o.Timeout, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tag == "" {
		o.Tag = fmt.Sprintf("%d.%d", o.Seed, o.History.Len())
	}
	if o.Nodes == nil {
		o.Nodes = func() []load.Node { return o.Target.Nodes }
	}
	r := &run{o: o, down: map[string]time.Time{}, pace: rate.NewLimiter(rate.Inf, 1)}
	if o.Rate > 0 {
		r.pace = rate.NewLimiter(rate.Limit(o.Rate), 1)
	}
	if len(o.Nodes()) == 0 {
		return nil, errors.New("exercise: the target has no nodes")
	}
	if need := (o.Mailboxes + 1) / 2; need > len(o.Target.Accounts) {
		return nil, fmt.Errorf("exercise: %d mailboxes take %d accounts, and the target has %d", o.Mailboxes, need, len(o.Target.Accounts))
	}
	for i := range o.Mailboxes {
		b := &box{account: o.Target.Accounts[i/2], folder: "INBOX", put: map[string]bool{}}
		if i%2 == 1 {
			b.folder = folder
		}
		b.name = history.MailboxName(b.account.Address, b.folder)
		r.boxes = append(r.boxes, b)
	}
	return r, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// prepare makes the folders, and notes what is in the mailboxes if the history does not know them yet.
func (r *run) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	met := r.o.History.Mailboxes()
	for _, b := range r.boxes {
		kind := history.Base
		if _, known := slices.BinarySearch(met, b.name); known {
			kind = history.Read
		}
		var last error
		for i := 0; ; i++ {
			nodes := r.o.Nodes()
			n := nodes[i%len(nodes)]
			if last = r.meet(n, b, kind); last == nil {
				break
			}
			if !pause.For(ctx, idlePause) {
				return fmt.Errorf("read %s: %w", b.name, last)
			}
		}
	}
	return nil
}

// meet reads a mailbox for the first time.
func (r *run) meet(n load.Node, b *box, kind history.Kind) error {
	s, err := dialIMAP(r.o.Target, n, b.account, r.o.Timeout)
	if err != nil {
		return err
	}
	defer s.close()
	if b.folder != "INBOX" {
		if err := s.create(b.folder); err != nil {
			return err
		}
	}
	reading, err := s.note(r.o.History, history.Op{Client: "prepare", Node: n.ID, Kind: kind, Mailbox: b.name}, b.folder, false)
	if err == nil {
		r.learn(b, reading)
	}
	return err
}

// learn remembers what a reading found, for the choice of later operations.
func (r *run) learn(b *box, reading *history.Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.known = reading.Messages
}

// node picks one that is not known to be down, and not but if there is another.
func (r *run) node(random *rand.Rand, but string) load.Node {
	nodes := r.o.Nodes()
	r.mu.Lock()
	defer r.mu.Unlock()
	var up []load.Node
	now := time.Now()
	for _, n := range nodes {
		if n.ID != but && now.After(r.down[n.ID]) {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		up = nodes
	}
	return up[random.IntN(len(up))]
}

// failed leaves a node alone for a while.
func (r *run) failed(n load.Node, err error) {
	r.o.Log.Debug("node not reached", "node", n.ID, "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[n.ID] = time.Now().Add(failedPause)
}

// count notes an outcome in the statistics.
func (r *run) count(o history.Outcome, reading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Operations++
	switch o {
	case history.OK:
		r.stats.OK++
	case history.Refused:
		r.stats.Refused++
	default:
		r.stats.Unknown++
	}
	if reading {
		r.stats.Readings++
	}
}
