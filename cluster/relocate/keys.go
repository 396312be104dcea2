package relocate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// methodKeys asks a node with a replica of a shard for an account's keys.
const methodKeys = "relocate.keys"

// Bounds of an answer.
const (
	applyTimeout = 5 * time.Second // for a replica to apply what it has to know
	framePairs   = 2048
	frameBytes   = 256 << 10
	maxMarkers   = 1024
)

// part is which of an account's keys are asked for.
type part uint8

const (
	all   part = 0
	small part = 1 // index.View.AccountSmall
	since part = 2 // index.View.AccountSince
	none  part = 3 // the head only
	fresh part = 4 // index.View.AccountRecent
)

// keysRequest asks for an account as a replica has it that has applied Min.
type keysRequest struct {
	Shard   uint32       `cbor:"1,keyasint"`
	Account uint64       `cbor:"2,keyasint"`
	Min     uint64       `cbor:"3,keyasint,omitempty"`
	Part    part         `cbor:"4,keyasint,omitempty"`
	Bases   []index.Base `cbor:"5,keyasint,omitempty"` // since
	Saved   int64        `cbor:"6,keyasint,omitempty"` // fresh
}

// keysFrame has a part of the keys. The first one says where the account is, at which entry the answer stands, and which volumes the shard may refer
// to in vain. The end of the stream is the end of the keys.
type keysFrame struct {
	State   index.PlaceState `cbor:"1,keyasint,omitempty"`
	To      uint32           `cbor:"2,keyasint,omitempty"` // of a place that names a shard
	Applied uint64           `cbor:"3,keyasint,omitempty"`
	Markers []index.Early    `cbor:"4,keyasint,omitempty"`
	Pairs   []index.Pair     `cbor:"5,keyasint,omitempty"`
	Removes [][]byte         `cbor:"6,keyasint,omitempty"` // since
}

// serveKeys answers for this node's replica.
func (r *Relocator) serveKeys(ctx context.Context, _ string, s *transport.Stream) error {
	var req keysRequest
	if err := s.RecvValue(&req); err != nil {
		return err
	}
	return r.produce(ctx, &req, func(f *keysFrame) error { return s.SendValue(f) })
}

// produce reads an account from one view of this node's replica.
func (r *Relocator) produce(ctx context.Context, req *keysRequest, emit func(*keysFrame) error) (err error) {
	g, ok := r.cfg.Host.Group(req.Shard)
	if !ok {
		return wire.Errorf(wire.NotFound, "this node runs no replica of shard %d", req.Shard)
	}
	wait, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := g.WaitApplied(wait, req.Min); err != nil {
		return err
	}
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	frames := &frames{emit: emit}
	if err := frames.head(v, req.Account); err != nil {
		return err
	}
	switch req.Part {
	case all:
		err = v.Account(req.Account, frames.put)
	case small:
		err = v.AccountSmall(req.Account, frames.put)
	case since:
		err = v.AccountSince(req.Account, req.Bases, frames.put, frames.remove)
	case fresh:
		err = v.AccountRecent(req.Account, req.Saved, frames.put)
	case none:
	default:
		return wire.Errorf(wire.Invalid, "part %d of an account's keys", req.Part)
	}
	if err != nil {
		return err
	}
	return emit(&frames.keysFrame)
}

// frames cuts an answer into messages.
type frames struct {
	keysFrame
	size int
	emit func(*keysFrame) error
}

// head says in the first frame what it is to say.
func (f *frames) head(v *index.View, account uint64) (err error) {
	place, err := v.Place(account)
	if err != nil {
		return err
	}
	early, err := v.EarlyVolumes()
	if err != nil {
		return err
	}
	if len(early) > maxMarkers {
		return wire.Errorf(wire.Unavailable, "%d volumes are not settled yet", len(early))
	}
	f.State, f.To = place.State, place.Shard
	for _, e := range early {
		if e.Last > 0 {
			f.Markers = append(f.Markers, e)
		}
	}
	f.Applied, err = v.Applied()
	return err
}

func (f *frames) put(key, value []byte) error {
	f.Pairs = append(f.Pairs, index.Pair{Key: slices.Clone(key), Value: slices.Clone(value)})
	return f.added(len(key) + len(value))
}

func (f *frames) remove(key []byte) error {
	f.Removes = append(f.Removes, slices.Clone(key))
	return f.added(len(key))
}

func (f *frames) added(n int) error {
	if f.size += n; f.size < frameBytes && len(f.Pairs)+len(f.Removes) < framePairs {
		return nil
	}
	full := f.keysFrame
	f.keysFrame, f.size = keysFrame{}, 0
	return f.emit(&full)
}

// keys are an account's, one after the other.
type keys struct {
	first *keysFrame
	next  func() (*keysFrame, error) // io.EOF at the end
	frame *keysFrame
	rest  []index.Pair
	close func()
}

// open begins to read an account at a replica that has applied req.Min: here, or at the nearest node that answers.
func (r *Relocator) open(ctx context.Context, req keysRequest) (*keys, error) {
	group, ok := r.cfg.Router.Group(req.Shard)
	if !ok {
		return nil, wire.Errorf(wire.NotFound, "there is no shard %d", req.Shard)
	}
	last := error(wire.Errorf(wire.Unavailable, "no node with a replica of shard %d is up", req.Shard))
	for _, node := range r.cfg.Net.Nearest(group.Replicas()) {
		k, err := r.openAt(ctx, node, &req)
		if err == nil {
			return k, nil
		}
		last = fmt.Errorf("%s: %w", node, err)
	}
	return nil, fmt.Errorf("read account %d in shard %d: %w", req.Account, req.Shard, last)
}

func (r *Relocator) openAt(ctx context.Context, node string, req *keysRequest) (*keys, error) {
	ctx, cancel := context.WithCancel(ctx)
	k := &keys{close: cancel}
	if node == r.cfg.Self {
		k.next = r.here(ctx, req)
	} else {
		s, err := r.cfg.Net.Open(ctx, node, methodKeys)
		if err != nil {
			cancel()
			return nil, err
		}
		k.close = func() { cancel(); s.Close() }
		if err := s.SendValue(req); err != nil {
			k.close()
			return nil, err
		}
		k.next = func() (*keysFrame, error) {
			f := new(keysFrame)
			return f, s.RecvValue(f)
		}
	}
	first, err := k.next()
	if err != nil {
		k.close()
		return nil, err
	}
	k.first, k.frame, k.rest = first, first, first.Pairs
	return k, nil
}

// here produces the frames in a goroutine, which ends with ctx.
func (r *Relocator) here(ctx context.Context, req *keysRequest) func() (*keysFrame, error) {
	frames, failed := make(chan *keysFrame, 2), make(chan error, 1)
	r.work.Go(func() {
		err := r.produce(ctx, req, func(f *keysFrame) error {
			select {
			case frames <- f:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			failed <- err
		}
		close(frames)
	})
	return func() (*keysFrame, error) {
		if f, ok := <-frames; ok {
			return f, nil
		}
		select {
		case err := <-failed:
			return nil, err
		default:
			return nil, io.EOF
		}
	}
}

// advance goes to the next frame; ok is false behind the last.
func (k *keys) advance() (ok bool, err error) {
	f, err := k.next()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	k.frame, k.rest = f, f.Pairs
	return true, nil
}

// pair gives the next key; ok is false behind the last.
func (k *keys) pair() (p index.Pair, ok bool, err error) {
	for len(k.rest) == 0 {
		if ok, err := k.advance(); !ok {
			return p, false, err
		}
	}
	p, k.rest = k.rest[0], k.rest[1:]
	return p, true, nil
}
