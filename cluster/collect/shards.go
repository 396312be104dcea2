package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// methodReferences asks a node with a replica of a shard what it refers to.
const methodReferences = "collect.references"

// Bounds of asking.
const (
	condemnTimeout = 10 * time.Second
	askTimeout     = 30 * time.Second
	applyTimeout   = 5 * time.Second // for a replica to apply what it has to know
	frameRefs      = 4096
)

// referencesRequest asks for the references to a volume, of a state that has applied Min.
type referencesRequest struct {
	Shard  uint32    `cbor:"1,keyasint"`
	Volume volume.ID `cbor:"2,keyasint"`
	Floor  uint32    `cbor:"3,keyasint,omitempty"` // the volume must have been condemned for at least that generation
	Min    uint64    `cbor:"4,keyasint,omitempty"`
}

// referencesFrame has a part of the answer: of each reference the record, the account and the mailbox. The end of the stream is the end
// of the answer; there is at least one frame.
type referencesFrame struct {
	Floor     uint32   `cbor:"1,keyasint,omitempty"`
	Records   []uint32 `cbor:"2,keyasint,omitempty"`
	Accounts  []uint64 `cbor:"3,keyasint,omitempty"`
	Mailboxes []uint32 `cbor:"4,keyasint,omitempty"`
	Early     bool     `cbor:"5,keyasint,omitempty"` // some of them may be in vain (package settle)
}

// Cluster is the shards of a real cluster. It implements Shards.
type Cluster struct {
	net       *transport.Net
	router    *shard.Router
	host      *shard.Host
	store     *index.DB // nil on a node without replicas
	directory *directory.Service

	mu sync.Mutex
	at map[condemned]uint64 // guarded by mu; log entries of Condemn, for the questions that follow
}

type condemned struct {
	shard uint32
	id    volume.ID
}

// NewCluster registers what this node answers for its replicas.
func NewCluster(net *transport.Net, router *shard.Router, host *shard.Host, store *index.DB, dir *directory.Service) *Cluster {
	c := &Cluster{net: net, router: router, host: host, store: store, directory: dir, at: make(map[condemned]uint64)}
	net.Handle(methodReferences, c.serve)
	return c
}

// All implements Shards.
func (c *Cluster) All(ctx context.Context) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := c.directory.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	notes, err := c.directory.RecoveryNotes()
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	if len(notes) > 0 { // what no folder has yet is not dead
		return nil, wire.Errorf(wire.Unavailable, "shard %d was recovered, and its messages are looked for in volumes (see `hongyan admin recover`): nothing is collected", notes[0].Shard)
	}
	t, err := c.directory.Topology()
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	founding, err := c.directory.Founding()
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	var list []uint32
	for _, g := range t.Groups { // one that is being founded has no account, hence refers to nothing
		if !slices.Contains(founding, g.Shard) {
			list = append(list, g.Shard)
		}
	}
	if !slices.Contains(list, placement.DirectoryShard) { // else nothing would be live
		return nil, errors.New("list the shards: the directory knows of none yet")
	}
	return list, nil
}

// Moved implements Shards.
func (c *Cluster) Moved(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	n, err := c.directory.Moved(ctx)
	if err != nil {
		return 0, fmt.Errorf("count the accounts that have moved: %w", err)
	}
	return n, nil
}

// Condemn implements Shards. The directory has condemned what it has begun to compact: its replicas must have applied that.
func (c *Cluster) Condemn(ctx context.Context, shard uint32, id volume.ID, generation uint32) error {
	ctx, cancel := context.WithTimeout(ctx, condemnTimeout)
	defer cancel()
	propose := c.propose
	if shard == placement.DirectoryShard {
		propose = func(ctx context.Context, shard uint32, _ volume.ID, _ uint32) (uint64, error) {
			return c.router.ReadIndex(ctx, shard)
		}
	}
	at, err := propose(ctx, shard, id, generation)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[condemned{shard, id}] = at
	return nil
}

// propose enters the command in a mailbox shard's log and says where.
func (c *Cluster) propose(ctx context.Context, number uint32, id volume.ID, generation uint32) (uint64, error) {
	condemn := &mailbox.Command{Condemn: &mailbox.Condemn{Volume: id, Generation: generation}}
	_, at, err := condemn.Commit(func(body []byte) ([]byte, uint64, error) {
		return c.router.Propose(ctx, number, body, shard.Background)
	})
	return at, err
}

// References implements Shards. All voters are asked at once, and a majority must answer.
func (c *Cluster) References(ctx context.Context, shard uint32, id volume.ID, floor uint32, fn func(index.Reference)) (uint32, error) {
	group, ok := c.router.Group(shard)
	if !ok {
		return 0, wire.Errorf(wire.NotFound, "there is no shard %d", shard)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	at, err := c.router.ReadIndex(ctx, shard)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	req := referencesRequest{Shard: shard, Volume: id, Floor: floor, Min: max(at, c.at[condemned{shard, id}])}
	delete(c.at, condemned{shard, id})
	c.mu.Unlock()
	type answer struct {
		refs  []index.Reference
		floor uint32
		err   error
	}
	answers := make(chan answer, len(group.Voters))
	for _, node := range group.Voters {
		go func() {
			var a answer
			a.refs, a.floor, a.err = c.askOne(ctx, node, &req)
			if a.err != nil {
				a.err = fmt.Errorf("%s: %w", node, a.err)
			}
			answers <- a
		}()
	}
	need, lowest := len(group.Voters)/2+1, uint32(math.MaxUint32)
	var reasons error
	for range group.Voters {
		a := <-answers
		if a.err != nil {
			reasons = errors.Join(reasons, a.err)
			continue
		}
		lowest = min(lowest, a.floor)
		for _, r := range a.refs {
			fn(r)
		}
		if need--; need == 0 {
			return lowest, nil
		}
	}
	return 0, wire.Errorf(wire.Unavailable, "no majority of the voters answers: %v", reasons)
}

// Estimate implements Shards: the nearest voter is asked, this node if it is one.
func (c *Cluster) Estimate(ctx context.Context, shard uint32, id volume.ID, fn func(index.Reference)) error {
	group, ok := c.router.Group(shard)
	if !ok {
		return wire.Errorf(wire.NotFound, "there is no shard %d", shard)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	up := c.net.Nearest(group.Voters)
	if len(up) == 0 {
		return wire.Errorf(wire.Unavailable, "no voter of shard %d is up", shard)
	}
	refs, _, err := c.askOne(ctx, up[0], &referencesRequest{Shard: shard, Volume: id})
	for _, r := range refs {
		fn(r)
	}
	return err
}

func (c *Cluster) askOne(ctx context.Context, node string, req *referencesRequest) (refs []index.Reference, floor uint32, err error) {
	s, err := c.net.Open(ctx, node, methodReferences)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	if err := s.SendValue(req); err != nil {
		return nil, 0, err
	}
	for first := true; ; first = false {
		var f referencesFrame
		err := s.RecvValue(&f)
		switch {
		case errors.Is(err, io.EOF) && !first:
			return refs, floor, nil
		case err != nil:
			return nil, 0, err
		case len(f.Records) != len(f.Accounts) || len(f.Records) != len(f.Mailboxes):
			return nil, 0, wire.Errorf(wire.Invalid, "frame of %d records, %d accounts, %d mailboxes", len(f.Records), len(f.Accounts), len(f.Mailboxes))
		case f.Early:
			return nil, 0, wire.Errorf(wire.Unavailable, "early entries of the volume are not settled yet")
		case first:
			if floor = f.Floor; floor < req.Floor {
				return nil, 0, wire.Errorf(wire.Unavailable, "condemned for generation %d, asked for %d", floor, req.Floor)
			}
		}
		for i, n := range f.Records {
			if n == 0 || n > volume.MaxRecords {
				return nil, 0, wire.Errorf(wire.Invalid, "reference to record %d", n)
			}
			refs = append(refs, index.Reference{Record: uint64(n), Account: f.Accounts[i], Mailbox: f.Mailboxes[i]})
		}
	}
}

// serve answers for this node's replica, from one view of it.
func (c *Cluster) serve(ctx context.Context, _ string, s *transport.Stream) error {
	var req referencesRequest
	if err := s.RecvValue(&req); err != nil {
		return err
	}
	g, ok := c.host.Group(req.Shard)
	if !ok || c.store == nil {
		return wire.Errorf(wire.NotFound, "this node runs no replica of shard %d", req.Shard)
	}
	wait, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := g.WaitApplied(wait, req.Min); err != nil {
		return err
	}
	if req.Shard == placement.DirectoryShard {
		return c.serveDirectory(&req, s)
	}
	return answer(c.store.Shard(req.Shard), &req, func(f *referencesFrame) error { return s.SendValue(f) })
}

// answer sends what one view of a shard refers to, if it has condemned the volume.
func answer(store *index.Shard, req *referencesRequest, send func(*referencesFrame) error) (err error) {
	v := store.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	floor, err := v.Floor(req.Volume)
	if err != nil {
		return err
	}
	f := &frames{floor: floor, send: send}
	if f.early, err = v.IsEarly(req.Volume); err != nil {
		return err
	}
	if floor >= req.Floor {
		err = v.References(req.Volume, f.add)
	}
	if err != nil {
		return err
	}
	return f.flush()
}

// serveDirectory answers for the directory: a volume is condemned there once a compaction of it was begun.
func (c *Cluster) serveDirectory(req *referencesRequest, s *transport.Stream) error {
	attempt, records, err := c.directory.References(req.Volume)
	if err != nil {
		return err
	}
	f := &frames{floor: attempt, send: func(f *referencesFrame) error { return s.SendValue(f) }}
	for _, n := range records {
		if err := f.add(index.Reference{Record: n}); err != nil {
			return err
		}
	}
	return f.flush()
}

// frames cuts an answer into messages.
type frames struct {
	floor uint32
	early bool
	next  referencesFrame
	send  func(*referencesFrame) error
}

func (f *frames) add(r index.Reference) error {
	f.next.Records = append(f.next.Records, uint32(r.Record))
	f.next.Accounts = append(f.next.Accounts, r.Account)
	f.next.Mailboxes = append(f.next.Mailboxes, r.Mailbox)
	if len(f.next.Records) < frameRefs {
		return nil
	}
	return f.flush()
}

// flush sends what was gathered; the last frame may be empty.
func (f *frames) flush() error {
	full := f.next
	full.Floor, full.Early = f.floor, f.early
	f.next = referencesFrame{}
	return f.send(&full)
}
