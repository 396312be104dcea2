package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// askShard is how long one voter of a shard is waited for; a folder of a million messages is read in a second or two.
const askShard = 20 * time.Second

// shardRequest asks the leader of a shard.
type shardRequest struct {
	Shard   uint32    `cbor:"1,keyasint"`
	Account uint64    `cbor:"2,keyasint"`
	Volume  volume.ID `cbor:"3,keyasint,omitempty"` // whether the shard may refer to it in vain
	Folder  uint32    `cbor:"4,keyasint,omitempty"` // hold its counts against its messages
}

type shardResponse struct {
	Early bool         `cbor:"1,keyasint,omitempty"`
	Audit *index.Audit `cbor:"2,keyasint,omitempty"`
}

// leader asks the node that leads the shard.
func (s *Service) leader(ctx context.Context, req *shardRequest) (*shardResponse, error) {
	group, ok := s.cfg.Router.Group(req.Shard)
	if !ok {
		return nil, wire.Errorf(wire.Unavailable, "there is no shard %d", req.Shard)
	}
	failed := error(wire.Errorf(wire.Unavailable, "shard %d has no voters", req.Shard))
	for _, node := range group.Voters {
		one, cancel := context.WithTimeout(ctx, askShard)
		resp, err := ask(one, s, node, methodShard, req, s.serveShard)
		cancel()
		if err == nil {
			return resp, nil
		}
		if !errors.Is(err, wire.ErrNotLeader) || errors.Is(failed, wire.ErrUnavailable) {
			failed = fmt.Errorf("ask %s about shard %d: %w", node, req.Shard, err)
		}
	}
	return nil, failed
}

// serveShard answers from this node's replica if it leads, at a state that holds all that was acknowledged before.
func (s *Service) serveShard(ctx context.Context, _ string, req *shardRequest) (resp *shardResponse, err error) {
	g, ok := s.cfg.Host.Group(req.Shard)
	if !ok || !g.IsLeader() {
		return nil, wire.Errorf(wire.NotLeader, "%s does not lead shard %d", s.cfg.Self, req.Shard)
	}
	at, err := s.cfg.Router.ReadIndex(ctx, req.Shard)
	if err == nil {
		err = g.WaitApplied(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.Readable(req.Account); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "%v", err)
	}
	resp = new(shardResponse)
	if req.Volume != 0 {
		if resp.Early, err = v.IsEarly(req.Volume); err != nil {
			return nil, err
		}
	}
	if req.Folder == 0 {
		return resp, nil
	}
	resp.Audit, err = v.Audit(req.Account, req.Folder)
	if errors.Is(err, index.ErrNoMailbox) || errors.Is(err, index.ErrNoAccount) {
		return nil, wire.Errorf(wire.NotFound, "%v", err)
	}
	return resp, err
}

// audit holds a folder's counts against its messages, at the leader.
func (s *Service) audit(ctx context.Context, a client.Account, folder uint32) (*index.Audit, error) {
	resp, err := s.leader(ctx, &shardRequest{Shard: s.cfg.Door().Shard(a), Account: a.ID, Folder: folder})
	if err != nil {
		return nil, err
	}
	if resp.Audit == nil {
		return nil, wire.Errorf(wire.Internal, "no answer about folder %d", folder)
	}
	return resp.Audit, nil
}

// recount mends a folder's counts, if they contradict its messages at the leader too.
func (s *Service) recount(ctx context.Context, a client.Account, folder uint32) (bool, error) {
	audit, err := s.audit(ctx, a, folder)
	if err != nil {
		return false, unavailable(err)
	}
	if !audit.Contradicts() { // it was mended meanwhile; if it was not, it is the index of a single replica that is wrong
		return false, nil
	}
	changed, err := s.cfg.Door().Recount(ctx, a, folder)
	if err != nil || !changed {
		return false, err
	}
	s.stats.recounts.Add(1)
	what := miscounted(audit)
	s.cfg.Log.Warn("folder's counts that contradicted its messages mended", "account", a.Address, "folder", audit.Says.Name, "why", what)
	s.report(Report{Address: a.Address, Folder: folder, What: what, Done: "counted anew"})
	return true, nil
}

// miscounted says what of a folder's counts is wrong.
func miscounted(a *index.Audit) (what string) {
	add := func(name string, says, counts uint64) {
		if says != counts {
			what += fmt.Sprintf("%s %d, by its messages %d; ", name, says, counts)
		}
	}
	s, c := &a.Says, &a.Counts
	add("messages", uint64(s.Messages), uint64(c.Messages))
	add("unseen", uint64(s.Unseen), uint64(c.Unseen))
	add("deleted", uint64(s.Deleted), uint64(c.Deleted))
	add("size", s.Size, c.Size)
	add("next UID", uint64(s.UIDNext), uint64(c.UIDNext))
	add("highest modseq", s.HighestModSeq, c.HighestModSeq)
	if n := len(a.Unlisted); n > 0 {
		what += fmt.Sprintf("%d not listed; ", n)
	}
	if a.Flagged > 0 {
		what += fmt.Sprintf("%d wrong in the lists of flags; ", a.Flagged)
	}
	if what == "" {
		return ""
	}
	return what[:len(what)-2]
}
