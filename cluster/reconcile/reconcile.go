package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clock"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Methods on the transport.
const (
	methodLook  = "reconcile.look"  // what have you at these places?
	methodFind  = "reconcile.find"  // have you this message anywhere?
	methodShard = "reconcile.shard" // how does the shard that you lead see it?
	methodMend  = "reconcile.mend"  // look into this entry, for a node that keeps no mail
)

// Bounds of step 1.
const (
	patience   = 8 * time.Second  // of a reader; the work goes on without it
	lostFor    = 10 * time.Minute // that a message counts as lost without another search
	openFor    = time.Second      // that nothing is looked into again which came to no end,
	dearFor    = 15 * time.Second // if volumes were looked through for it
	maxMemo    = 4096             // outcomes that are remembered
	maxWaiting = 64               // entries that wait to be looked into
	maxRest    = 5 * time.Second  // after a piece of work, as long as it took
	maxReports = 200              // repairs that Reports tells of
	mendTries  = 3                // when the new place is condemned at once
)

// Door is what this package needs of the cluster's mailboxes; it is a *client.Client.
type Door interface {
	Entry(ctx context.Context, a client.Account, folder, uid uint32) (client.Message, error)
	Amend(ctx context.Context, a client.Account, folder uint32, entry index.Amendment) (bool, error)
	Recount(ctx context.Context, a client.Account, folder uint32) (bool, error)
	Again(ctx context.Context, a client.Account, ref client.Ref, meta []byte, from io.Reader) (client.Copied, error)
	Shard(a client.Account) uint32
	Mailboxes(ctx context.Context, a client.Account) ([]client.Mailbox, error)
	Listed(ctx context.Context, a client.Account, name string) (*roaring.Bitmap, error)
	Messages(ctx context.Context, a client.Account, folder uint32, uids *roaring.Bitmap, want client.Want, fn func(m *client.Message) error) error
}

// Directory is what it needs of the directory; it is a *directory.Service.
type Directory interface {
	Volume(ctx context.Context, id volume.ID) (replica.Entry, bool, error)
	Volumes(ctx context.Context) ([]replica.Entry, error)
	CatchUp(ctx context.Context) error
}

// Config is what a Service needs.
type Config struct {
	Self      string
	Net       *transport.Net
	Router    *shard.Router
	Host      *shard.Host
	Directory Directory
	Copies    *replica.Manager
	Volumes   *volume.Set // nil without the storage role: another node does the work
	Door      func() Door
	Nodes     func() []string // those that keep mail, lost ones that are still members too
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Service is one node's part in it. It is a client.Mender.
type Service struct {
	cfg      Config
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	work     sync.WaitGroup
	turn     chan struct{} // one entry at a time
	searched chan struct{} // one search through this node's volumes at a time
	stats    stats

	mu      sync.Mutex // guards what follows
	jobs    map[key]*job
	memo    map[key]outcome
	reports []Report // the latest last
}

// key is a message of a folder with what its entry refers to, or with uid 0 a folder.
type key struct {
	account     uint64
	folder, uid uint32
	seen        volume.Ref
}

// outcome is what came out, and until when it counts.
type outcome struct {
	ref     volume.Ref
	changed bool   // of a folder
	done    string // to a message, "" if nothing was
	err     error
	dear    bool // volumes were looked through
	until   time.Time
}

type job struct {
	done chan struct{}
	out  outcome // once done is closed
}

// New registers what a node answers.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, turn: make(chan struct{}, 1), searched: make(chan struct{}, 1), jobs: make(map[key]*job), memo: make(map[key]outcome)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if cfg.Volumes != nil {
		transport.HandleUnary(cfg.Net, methodLook, s.serveLook)
		transport.HandleUnary(cfg.Net, methodFind, s.serveFind)
		transport.HandleUnary(cfg.Net, methodShard, s.serveShard)
		transport.HandleUnary(cfg.Net, methodMend, s.serveMend)
	}
	return s
}

// Close ends what is under way.
func (s *Service) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.work.Wait()
}

// Mend implements client.Mender.
func (s *Service) Mend(ctx context.Context, a client.Account, folder, uid uint32, seen client.Ref) (client.Ref, error) {
	if s.cfg.Volumes == nil {
		resp, err := s.elsewhere(ctx, a, folder, uid, seen)
		return resp.Ref, err
	}
	out := s.lookInto(ctx, a, folder, uid, seen)
	return out.ref, out.err
}

func (s *Service) lookInto(ctx context.Context, a client.Account, folder, uid uint32, seen volume.Ref) outcome {
	return s.once(ctx, key{a.ID, folder, uid, seen}, func(ctx context.Context) outcome {
		return s.mend(ctx, a, folder, uid, seen)
	})
}

// Doubt implements client.Mender.
func (s *Service) Doubt(a client.Account, folder, uid uint32, seen client.Ref) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel() // the work is begun, and not waited for
	if s.cfg.Volumes != nil {
		_, _ = s.Mend(ctx, a, folder, uid, seen) // it can only say that it is not known yet
	}
}

// Recount implements client.Mender.
func (s *Service) Recount(ctx context.Context, a client.Account, folder uint32) (bool, error) {
	if s.cfg.Volumes == nil {
		resp, err := s.elsewhere(ctx, a, folder, 0, volume.Ref{})
		return resp.Changed, err
	}
	out := s.once(ctx, key{account: a.ID, folder: folder}, func(ctx context.Context) outcome {
		changed, err := s.recount(ctx, a, folder)
		return outcome{changed: changed, err: err}
	})
	return out.changed, out.err
}

// once is step 1: it joins the work on a message, begins it, or says what came out lately.
func (s *Service) once(ctx context.Context, k key, do func(ctx context.Context) outcome) outcome {
	s.mu.Lock()
	if out, ok := s.memo[k]; ok && time.Now().Before(out.until) {
		s.mu.Unlock()
		return out
	}
	j := s.jobs[k]
	if j == nil {
		if len(s.jobs) >= maxWaiting || s.ctx.Err() != nil {
			s.mu.Unlock()
			return outcome{err: fmt.Errorf("%w: too many messages are being looked into", client.ErrUnavailable)}
		}
		j = &job{done: make(chan struct{})}
		s.jobs[k] = j
		s.work.Go(func() { s.run(k, j, do) })
	}
	s.mu.Unlock()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-j.done:
		return j.out
	case <-ctx.Done():
	case <-wait.C:
	}
	return outcome{err: fmt.Errorf("%w: the message's place is being looked for", client.ErrUnavailable)}
}

// run does one piece of work when it is its turn.
func (s *Service) run(k key, j *job, do func(ctx context.Context) outcome) {
	select {
	case s.turn <- struct{}{}:
	case <-s.ctx.Done():
		j.out = outcome{err: fmt.Errorf("%w: the node stops", client.ErrUnavailable)}
		close(j.done)
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, searchTime)
	out := do(ctx)
	cancel()
	took := time.Since(began)
	j.out = out
	s.mu.Lock()
	delete(s.jobs, k)
	switch out.until = time.Now().Add(openFor); {
	case errors.Is(out.err, client.ErrLost):
		out.until = time.Now().Add(lostFor)
	case out.dear:
		out.until = time.Now().Add(dearFor)
	}
	if len(s.memo) >= maxMemo {
		clear(s.memo)
	}
	if out.err != nil || k.uid != 0 && out.ref == k.seen || k.uid == 0 { // what has changed asks under another key from now on
		s.memo[k] = out
	}
	s.mu.Unlock()
	close(j.done)
	select { // whoever waits for the next turn: this was work for the disks
	case <-time.After(min(took, maxRest)):
	case <-s.ctx.Done():
	}
	<-s.turn
}

// ask asks a node, or this one.
func ask[Req, Resp any](ctx context.Context, s *Service, node, method string, req *Req, here func(context.Context, string, *Req) (*Resp, error)) (*Resp, error) {
	if node == s.cfg.Self {
		return here(ctx, node, req)
	}
	resp := new(Resp)
	err := s.cfg.Net.Call(ctx, node, method, req, resp)
	return resp, err
}
