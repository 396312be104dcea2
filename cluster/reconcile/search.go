package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Bounds of step 4. A node looks through headers for a slice of time, answers how far it is, and is asked to go on; for a slice it rests as long. So a
// search takes half of one processor at most, and no memory to speak of.
const (
	sliceTime   = 50 * time.Millisecond
	askTime     = time.Second // that one question may take
	maxLooked   = 4096        // volumes in one answer
	checkEvery  = 256         // records between two looks at the clock
	searchTime  = 10 * time.Minute
	clockMargin = 24 * 3600 // seconds: a volume that was sealed so long before a message came cannot have it
)

// findRequest has a node look through its volumes from a place on.
type findRequest struct {
	Account uint64    `cbor:"1,keyasint"`
	Length  uint64    `cbor:"2,keyasint"`
	Hash    [32]byte  `cbor:"3,keyasint"`
	Saved   int64     `cbor:"4,keyasint,omitempty"` // unix seconds: volumes that were sealed long before are left out
	Volume  volume.ID `cbor:"5,keyasint,omitempty"`
	Record  uint64    `cbor:"6,keyasint,omitempty"` // in that volume, this one and earlier ones are done
	Unsure  bool      `cbor:"7,keyasint,omitempty"` // and some of them could not be read
}

type findResponse struct {
	Found  *found      `cbor:"1,keyasint,omitempty"`
	Looked []volume.ID `cbor:"2,keyasint,omitempty"` // whole, and to the end
	More   bool        `cbor:"3,keyasint,omitempty"` // go on at:
	Volume volume.ID   `cbor:"4,keyasint,omitempty"`
	Record uint64      `cbor:"5,keyasint,omitempty"`
	Unsure bool        `cbor:"6,keyasint,omitempty"`
}

// found is a record that was proved to be the message.
type found struct {
	Ref  volume.Ref `cbor:"1,keyasint"`
	Meta []byte     `cbor:"2,keyasint"` // encoded mailbox.Origin
}

// serveFind looks through this node's volumes, ascending, those without an entry as well.
func (s *Service) serveFind(ctx context.Context, _ string, req *findRequest) (*findResponse, error) {
	select {
	case s.searched <- struct{}{}:
		defer func() { <-s.searched }()
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Unavailable, "another search is under way at %s", s.cfg.Self)
	}
	resp := new(findResponse)
	pace := &pace{began: time.Now(), slice: time.Now()}
	ids := s.cfg.Volumes.List()
	slices.Sort(ids)
	for _, id := range ids {
		if id < req.Volume || !couldHold(s.entry(id), req.Saved) {
			continue
		}
		from := uint64(1)
		if id == req.Volume {
			from = req.Record + 1
		}
		at, err := s.findIn(ctx, resp, id, from, req, pace)
		if err != nil {
			return nil, err
		}
		if resp.Found != nil {
			return resp, nil
		}
		if at != 0 || len(resp.Looked) >= maxLooked {
			resp.More, resp.Volume, resp.Record = true, id, max(at, 1)-1
			if at == 0 {
				resp.Record = volume.MaxRecords // all of it
			}
			return resp, nil
		}
	}
	return resp, nil
}

func (s *Service) entry(id volume.ID) replica.Entry {
	e, _ := s.cfg.Copies.Entry(id)
	return e
}

// couldHold says whether a volume may hold a message that came at a time.
func couldHold(e replica.Entry, saved int64) bool {
	return saved == 0 || e.State != replica.Sealed || e.SealedAt == 0 || e.SealedAt+clockMargin >= saved
}

// pace is the time that one question takes.
type pace struct {
	began, slice time.Time
	n            int
}

// spent rests between slices, and says whether the question has taken its time.
func (p *pace) spent(ctx context.Context) bool {
	if p.n++; p.n%checkEvery != 0 {
		return false
	}
	if time.Since(p.slice) >= sliceTime {
		select {
		case <-time.After(sliceTime):
		case <-ctx.Done():
		}
		p.slice = time.Now()
	}
	return ctx.Err() != nil || time.Since(p.began) >= askTime
}

// findIn looks through a volume's records from one on. It gives where to go on, 0 if it came to the end.
func (s *Service) findIn(ctx context.Context, resp *findResponse, id volume.ID, from uint64, req *findRequest, pace *pace) (next uint64, err error) {
	vol, err := s.cfg.Volumes.Get(id)
	if err != nil {
		return 0, nil // it does not count as looked through
	}
	e := s.entry(id)
	whole := vol.Stats().Damaged == 0 && vol.Header().Generation == e.Generation && (e.State != replica.Sealed || vol.Durable() >= e.Length)
	whole = whole && (id != req.Volume || !req.Unsure)
	last := max(vol.Stats().Records, vol.Header().Records)
	for n := from; n <= last; n++ {
		if pace.spent(ctx) {
			resp.Unsure = !whole
			return n, ctx.Err()
		}
		ref := volume.Ref{Volume: id, Record: n, Length: req.Length, Hash: req.Hash}
		meta, err := proof(vol, ref, req.Account)
		if err != nil {
			whole = false
		}
		if meta != nil {
			resp.Found = &found{Ref: ref, Meta: meta}
			return 0, nil
		}
	}
	if whole {
		resp.Looked = append(resp.Looked, id)
	}
	return 0, nil
}

// proof gives the metadata of a record if it is the message that ref means by its length and hash, and was for the account; else nil. An error means that it
// cannot be told.
func proof(vol *volume.Volume, ref volume.Ref, account uint64) ([]byte, error) {
	info, err := vol.Stat(ref.Record)
	if err == nil && (info.Kind != volume.KindMessage || info.Length != ref.Length) {
		return nil, nil
	}
	var same bool
	if err == nil {
		same, err = vol.Is(ref)
	}
	if err == nil && same {
		info, err = vol.Get(ref.Record)
	}
	if errors.Is(err, volume.ErrNotFound) || errors.Is(err, keys.ErrDestroyed) {
		return nil, nil // it was cut out, or is as good as that
	}
	if err != nil || !same {
		return nil, err
	}
	origin := new(mailbox.Origin)
	if err := codec.Unmarshal(info.Meta, origin); err != nil {
		return nil, fmt.Errorf("origin of record %d of volume %s: %w", ref.Record, ref.Volume, err)
	}
	if !names(origin, account) {
		return nil, nil
	}
	return info.Meta, nil
}

// search is step 4: it asks every storage node, and says what of the cluster's volumes nobody could look through if the message was not found.
func (s *Service) search(ctx context.Context, account uint64, ref volume.Ref, saved int64) (*found, []volume.ID, error) {
	looked := make(map[volume.ID]bool)
	nodes := s.cfg.Nodes()
	for _, node := range nodes {
		req := &findRequest{Account: account, Length: ref.Length, Hash: ref.Hash, Saved: saved}
		for more := true; more && ctx.Err() == nil; {
			resp, err := ask(ctx, s, node, methodFind, req, s.serveFind)
			if err != nil {
				s.cfg.Log.Info("a node's volumes cannot be looked through for a message now", "peer", node, "err", err)
				break
			}
			if resp.Found != nil {
				return resp.Found, nil, nil
			}
			for _, id := range resp.Looked {
				looked[id] = true
			}
			more, req.Volume, req.Record, req.Unsure = resp.More, resp.Volume, resp.Record, resp.Unsure
		}
	}
	if err := s.cfg.Directory.CatchUp(ctx); err != nil {
		return nil, nil, err
	}
	entries, err := s.cfg.Directory.Volumes(ctx)
	if err != nil {
		return nil, nil, err
	}
	var unread []volume.ID
	for _, e := range entries {
		if !looked[e.ID] && couldHold(e, saved) && (e.State != replica.Sealed || e.Length > 0) {
			unread = append(unread, e.ID)
		}
	}
	return nil, s.withoutGone(ctx, entries, unread), ctx.Err()
}

// withoutGone leaves out volumes of which no copy is left: nobody will ever look through them.
func (s *Service) withoutGone(ctx context.Context, entries []replica.Entry, unread []volume.ID) []volume.ID {
	at := make(map[volume.ID][]answer)
	for some := range slices.Chunk(unread, maxRefs) {
		req := new(lookRequest)
		for _, id := range some {
			req.Refs = append(req.Refs, volume.Ref{Volume: id, Record: 1})
		}
		for _, node := range s.cfg.Nodes() {
			resp, err := ask(ctx, s, node, methodLook, req, s.serveLook)
			if err != nil || len(resp.Records) != len(some) {
				continue // its volumes stay unread
			}
			for i, id := range some {
				at[id] = append(at[id], answer{node: node, Record: resp.Records[i]})
			}
		}
	}
	return slices.DeleteFunc(unread, func(id volume.ID) bool {
		i := slices.IndexFunc(entries, func(e replica.Entry) bool { return e.ID == id })
		return i >= 0 && gone(entries[i], at[id])
	})
}
