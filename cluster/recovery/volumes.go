package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// foundRequest asks a node for the volumes on its disk.
type foundRequest struct{}

type foundResponse struct {
	Found    []foundVolume `cbor:"1,keyasint,omitempty"`
	Unopened []volume.ID   `cbor:"2,keyasint,omitempty"` // that may be of this kind
}

// foundVolume is a whole file of a volume with at least one record.
type foundVolume struct {
	Header volume.Header `cbor:"1,keyasint"`
	Length int64         `cbor:"2,keyasint"`
}

func (r *Recovery) serveFound(context.Context, string, *foundRequest) (*foundResponse, error) {
	resp := new(foundResponse)
	for _, id := range r.cfg.Volumes.List() {
		v, err := r.cfg.Volumes.Get(id)
		if err != nil {
			r.cfg.Log.Warn("a volume cannot be opened, so it is not entered", "volume", id, "err", err)
			resp.Unopened = append(resp.Unopened, id)
			continue
		}
		e, known := r.cfg.Entry(id)
		if h := v.Header(); v.Stats().Records > 0 && (!known || e.Generation < h.Generation) {
			resp.Found = append(resp.Found, foundVolume{Header: h, Length: v.Stats().Bytes})
		}
	}
	return resp, nil
}

// note enters the file if it is of the latest generation that was found. known is one more than the directory's, 0 if it does not know the volume.
func (f *foundVolume) note(found map[volume.ID]*directory.Found, node string, known uint32) {
	if known > f.Header.Generation {
		return
	}
	old := found[f.Header.ID]
	switch {
	case old == nil || old.Header.Generation < f.Header.Generation:
		found[f.Header.ID] = &directory.Found{Header: f.Header, Length: f.Length, Nodes: []string{node}}
	case old.Header.Generation == f.Header.Generation && !slices.Contains(old.Nodes, node):
		old.Nodes = append(old.Nodes, node)
		old.Length = min(old.Length, f.Length)
	}
}

// endUnknown is the end of step 4, once every node has said what it has. A shard may refer to volumes that the directory does not know, and that nobody has: what was
// acknowledged of them stays in its folders, as of others of which no copy is left. Package settle would take them for volumes without records. It is done for those that only a node may
// have that does not answer, too: until then whole shards are not shown.
func (r *Recovery) endUnknown(ctx context.Context, job *Job) error {
	if !job.unsure {
		return nil
	}
	behind := slices.ContainsFunc(job.Shards, func(s ShardResult) bool { return s.Shard == placement.DirectoryShard && s.Recovered })
	for {
		marked, silent, err := r.markers(ctx)
		if err != nil {
			return err
		}
		nowhere, err := r.keepUnknown(ctx, marked)
		if err != nil {
			return err
		}
		r.update(func() {
			job.Notes += silent
			job.nowhere = append(job.nowhere, nowhere...)
			slices.Sort(job.nowhere)
			job.nowhere = slices.Compact(job.nowhere)
		})
		if silent != "" || len(nowhere) == 0 && job.Notes != "" && !job.mayForget(behind) {
			return nil
		}
		if len(nowhere) == 0 {
			return r.cfg.Directory.ForgetRecovery(ctx, placement.DirectoryShard)
		}
		if !pause.For(ctx, r.moves) { // an account may have taken a marker along to a shard that was asked before
			return ctx.Err()
		}
	}
}

// keepUnknown has shards keep what they have of volumes that the directory does not know, and says which those are.
func (r *Recovery) keepUnknown(ctx context.Context, marked map[uint32][]volume.ID) (nowhere []volume.ID, err error) {
	if err := r.cfg.Directory.CatchUp(ctx); err != nil { // a volume is opened before it is referred to
		return nil, err
	}
	known, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for number, ids := range marked {
		for _, id := range ids {
			if slices.ContainsFunc(known, func(e replica.Entry) bool { return e.ID == id }) {
				continue
			}
			nowhere = append(nowhere, id)
			c := &mailbox.Command{Settle: &mailbox.Settle{Volume: id, Last: volume.MaxRecords}}
			if why, err := r.propose(ctx, number, shard.NewRequestID(), c); err != nil || why != "" {
				return nil, errors.Join(err, wire.Errorf(wire.Unavailable, "keep what shard %d has of volume %s: %s", number, id, why))
			}
		}
	}
	return nowhere, nil
}

// markers asks every mailbox shard which volumes it has markers of, and says which do not answer.
func (r *Recovery) markers(ctx context.Context) (marked map[uint32][]volume.ID, silent string, err error) {
	founding, err := r.cfg.Directory.Founding()
	if err != nil {
		return nil, "", err
	}
	marked = make(map[uint32][]volume.ID)
	for _, g := range r.cfg.Topology().Groups {
		if g.Shard == placement.DirectoryShard || slices.Contains(founding, g.Shard) { // which have none yet
			continue
		}
		try, cancel := context.WithTimeout(ctx, surveyTimeout)
		resp, err := r.known(try, slices.Concat(g.Voters, g.Learners), &knownRequest{Shard: g.Shard})
		cancel()
		if err != nil || !resp.Tells {
			silent += fmt.Sprintf("shard %d does not say which volumes it refers to, so those that nobody has are not known. ", g.Shard)
			continue
		}
		marked[g.Shard] = resp.Marked
	}
	return marked, silent, ctx.Err()
}
