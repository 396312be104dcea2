package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/clock"
	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Methods of the nodes that keep mail. MethodRescue and MethodFence are package cluster's.
const (
	MethodSurvey = "recovery.survey"
	MethodRescue = "recovery.rescue"
	MethodFence  = "recovery.fence"
	methodFound  = "recovery.found"
	methodKnown  = "recovery.known"
	methodMail   = "recovery.mail"
)

// Waits.
const (
	surveyTimeout = 10 * time.Second
	reportTimeout = 6 * time.Second // twice what a leader without followers takes to notice
	rescueTimeout = 30 * time.Second
	leaderTimeout = 30 * time.Second
	sealTimeout   = 60 * time.Second // for volumes that the lost ones had open
	mailTimeout   = time.Hour        // for one node to look through its volumes for one shard
	retryPause    = 200 * time.Millisecond
	spreadTimeout = time.Second     // for open volumes to tell how far they are on a second disk
	movePause     = 5 * time.Second // longer than an account that moves is frozen (package relocate), with what its shard has marked
)

// RescueRequest has the survivor's node take step 2 or 3. Lost are fenced there from before the replica starts; Topology is the version that the node
// waits for before, 0 for the directory itself.
type RescueRequest struct {
	Rescue   shard.Rescue `cbor:"1,keyasint"`
	Lost     []string     `cbor:"2,keyasint"`
	Topology uint64       `cbor:"3,keyasint,omitempty"`
}

// RescueResponse says that the replica runs, alone.
type RescueResponse struct{}

// FenceRequest tells a node of a topology that may have given it up.
type FenceRequest struct {
	Topology *directory.Topology `cbor:"1,keyasint"`
}

// FenceResponse is the version that it goes by now.
type FenceResponse struct {
	Version uint64 `cbor:"1,keyasint"`
}

// Config is what a Recovery needs.
type Config struct {
	Self      string
	Net       *transport.Net
	Router    *shard.Router
	Host      *shard.Host
	Directory *directory.Service
	Topology  func() *directory.Topology                                                                      // as this node knows it
	Kept      func() ([]uint32, error)                                                                        // shards with a replica on this node's disk
	End       func(shard uint32) (term, last uint64)                                                          // of the log of one that does not run, 0 if that cannot be read
	Entry     func(volume.ID) (replica.Entry, bool)                                                           // of the volume table, as this node knows it
	Whole     func(node string, e replica.Entry) bool                                                         // whether a node says that its copy is whole
	Spread    func(ctx context.Context, id volume.ID, record uint64) (through uint64, sealed bool, err error) // see replica.Manager
	Volumes   *volume.Set
	Index     *index.DB
	Clock     *clock.Clock
	Log       *slog.Logger
}

// Recovery is one node's part in recoveries, and the one that it was asked for.
type Recovery struct {
	cfg   Config
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	work  sync.WaitGroup
	moves time.Duration // movePause

	mu  sync.Mutex // guards job
	job *Job       // the last one
}

// New registers what a node that keeps mail answers.
func New(cfg Config) *Recovery {
	r := &Recovery{cfg: cfg, moves: movePause}
	r.ctx, r.stop = context.WithCancel(context.Background())
	transport.HandleUnary(cfg.Net, MethodSurvey, r.serveSurvey)
	transport.HandleUnary(cfg.Net, methodFound, r.serveFound)
	transport.HandleUnary(cfg.Net, methodKnown, r.serveKnown)
	transport.HandleUnary(cfg.Net, methodMail, r.serveMail)
	return r
}

// Close ends a recovery that this node drives; another node may be asked to go on.
func (r *Recovery) Close() {
	r.stop()
	r.work.Wait()
}

// SurveyRequest asks a node what it has.
type SurveyRequest struct{}

func (r *Recovery) serveSurvey(ctx context.Context, _ string, _ *SurveyRequest) (*Answer, error) {
	groups := r.cfg.Host.Groups()
	reports := make([]*shard.Report, len(groups))
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var work sync.WaitGroup
	for i, g := range groups {
		work.Go(func() { reports[i] = g.Report(ctx) })
	}
	work.Wait()
	a := new(Answer)
	running := make(map[uint32]bool)
	for _, report := range reports {
		running[report.Shard] = true
		a.Replicas = append(a.Replicas, *report)
	}
	kept, err := r.cfg.Kept()
	if err != nil {
		return nil, err
	}
	a.Idle = slices.DeleteFunc(kept, func(number uint32) bool { return running[number] })
	for _, number := range a.Idle {
		if term, last := r.cfg.End(number); term > 0 {
			a.Replicas = append(a.Replicas, shard.Report{Shard: number, LastTerm: term, Last: last, Filled: true, Broken: "it does not run"})
		}
	}
	for _, p := range r.cfg.Net.Peers() {
		if r.cfg.Net.Up(p.ID) {
			a.Reaches = append(a.Reaches, p.ID)
		}
	}
	return a, nil
}

// survey is step 1: every node that answers is asked.
func (r *Recovery) survey(ctx context.Context) (*directory.Topology, map[string]*Answer, error) {
	t := r.cfg.Topology()
	if t.Version == 0 {
		return nil, nil, wire.Errorf(wire.Invalid, "%s does not know the cluster: ask a node that kept mail before", r.cfg.Self)
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	answers := make(map[string]*Answer)
	for _, n := range t.Nodes {
		if !n.Stores() || !r.cfg.Net.Up(n.ID) {
			continue
		}
		work.Go(func() {
			a := new(Answer)
			err := r.cfg.Net.Call(ctx, n.ID, MethodSurvey, &SurveyRequest{}, a)
			if err != nil {
				r.cfg.Log.Warn("a node does not say what it has of the shards", "peer", n.ID, "err", err)
				a = nil
			}
			mu.Lock()
			defer mu.Unlock()
			if a != nil {
				answers[n.ID] = a
			}
		})
	}
	work.Wait()
	return t, answers, nil
}

// Plan says what a recovery would do now.
func (r *Recovery) Plan(ctx context.Context) (*Plan, error) {
	t, answers, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	p := Judge(t, answers)
	return p, r.count(p)
}

// count enters the accounts of each shard, as this node's replica of the directory has them.
func (r *Recovery) count(p *Plan) error {
	if !r.cfg.Directory.Own() {
		return nil
	}
	accounts, err := r.cfg.Directory.Accounts()
	if err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	at := make(map[uint32]*ShardPlan)
	for i := range p.Shards {
		at[p.Shards[i].Shard] = &p.Shards[i]
	}
	for _, a := range accounts {
		s := at[a.Shard]
		if s == nil {
			continue
		}
		s.Accounts++
		if s.State != Lives && len(s.Addresses) < maxAddresses {
			s.Addresses = append(s.Addresses, a.Address)
		}
	}
	return nil
}

// Request is what an operator wants.
type Request struct {
	Lost   []string `json:"lost"`             // declared lost for ever
	Shards []uint32 `json:"shards,omitempty"` // only these; none: all that need it
	// Settled says that the messages which an earlier recovery listed have been seen to. Until then nothing is collected.
	Settled bool `json:"settled,omitempty"`
}

// Start begins a recovery and returns at once, or says why it must not be.
func (r *Recovery) Start(ctx context.Context, req Request) (*Job, error) {
	t, answers, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	p := Judge(t, answers)
	if err := p.mayDrive(r.cfg.Self, r.cfg.Directory.Own()); err != nil {
		return nil, err
	}
	lost, back, err := r.takenBack(t, p, req.Lost)
	if err != nil {
		return nil, err
	}
	if len(back) == 0 {
		err = p.Check(t, answers, req.Lost, req.Shards)
	}
	if err != nil {
		return nil, err
	}
	if err := r.count(p); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.job != nil && !r.job.Done {
		return nil, wire.Errorf(wire.Invalid, "a recovery is under way: %s", r.job.Step)
	}
	now := r.cfg.Clock.Now().Unix()
	job := &Job{Started: now, Lost: lost, Step: "begins", settled: req.Settled, back: back}
	for _, number := range p.wanted(req.Shards) {
		i := slices.IndexFunc(p.Shards, func(s ShardPlan) bool { return s.Shard == number })
		job.Shards = append(job.Shards, ShardResult{ShardPlan: p.Shards[i]})
	}
	if i := slices.IndexFunc(p.Shards, func(s ShardPlan) bool { return s.Shard == placement.DirectoryShard && s.State == Recover }); i >= 0 &&
		!slices.ContainsFunc(job.Shards, func(s ShardResult) bool { return s.Shard == placement.DirectoryShard }) {
		job.Shards = slices.Insert(job.Shards, 0, ShardResult{ShardPlan: p.Shards[i]})
	}
	r.job = job
	r.cfg.Log.Warn("recovery begins", "lost", req.Lost, "shards", p.wanted(req.Shards))
	r.work.Go(func() { r.run(r.ctx, job) })
	return job.copy(), nil
}

// takenBack parts the nodes that are declared lost when nothing is left of a recovery but to look for mail: those that are still given up, and those that were
// taken in again since, with other disks. Before that nobody counts as taken back.
func (r *Recovery) takenBack(t *directory.Topology, p *Plan, lost []string) (still, back []string, err error) {
	if !r.cfg.Directory.Own() || len(p.wanted(nil)) > 0 {
		return lost, nil, nil
	}
	notes, err := r.cfg.Directory.RecoveryNotes()
	if err != nil || len(notes) == 0 {
		return lost, nil, err
	}
	for _, id := range lost {
		if n, known := t.Node(id); known && !n.Fenced() {
			back = append(back, id)
		} else {
			still = append(still, id)
		}
	}
	return still, back, nil
}

// Job is the recovery that this node was asked for last, nil if there was none.
func (r *Recovery) Job() *Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.job == nil {
		return nil
	}
	return r.job.copy()
}
