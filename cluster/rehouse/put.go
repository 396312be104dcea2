package rehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/volume"
)

const (
	methodPut = "rehouse.put" // append this record again, under another policy
	putWait   = 2 * time.Minute
	maxBefore = 16 // places that a record names
)

type putRequest struct {
	Ref    volume.Ref     `cbor:"1,keyasint"`
	Home   string         `cbor:"2,keyasint"`
	Policy *policy.Policy `cbor:"3,keyasint,omitempty"`
}

type putResponse struct {
	Ref volume.Ref `cbor:"1,keyasint"`
}

// put has a node with the bytes append them again.
func (r *Rehouser) put(ctx context.Context, e *replica.Entry, ref volume.Ref, to replica.Place) (volume.Ref, error) {
	if err := r.rate.WaitN(ctx, int(min(ref.Length, bytesPerSecond))); err != nil {
		return volume.Ref{}, err
	}
	ctx, stop := context.WithTimeout(ctx, putWait)
	defer stop()
	req := &putRequest{Ref: ref, Home: to.Home, Policy: to.Policy.Stored()}
	failed := error(wire.Errorf(wire.Unavailable, "volume %s lies on no node", e.ID))
	for _, node := range e.Sources() {
		resp := new(putResponse)
		if node == r.cfg.Self {
			resp, failed = r.servePut(ctx, node, req)
		} else {
			failed = r.cfg.Net.Call(ctx, node, methodPut, req, resp)
		}
		if failed == nil {
			r.metrics.bytes.Add(float64(ref.Length))
			return resp.Ref, nil
		}
	}
	return volume.Ref{}, fmt.Errorf("put record %d of volume %s again: %w", ref.Record, ref.Volume, failed)
}

// servePut is step 2 on a node with the bytes.
func (r *Rehouser) servePut(ctx context.Context, _ string, req *putRequest) (*putResponse, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Overloaded, "%d records are put again already", atOnce)
	}
	meta, content, err := r.open(ctx, req.Ref)
	if err != nil {
		return nil, err
	}
	placed, err := r.cfg.Door().AgainUnder(ctx, replica.Place{Home: req.Home, Policy: policy.Of(req.Policy)}, req.Ref, meta, content)
	if err = errors.Join(err, content.Close()); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "%v", err)
	}
	return &putResponse{Ref: placed.Ref}, nil
}

// open gives a record's content, and the metadata that it is to have at its new place.
func (r *Rehouser) open(ctx context.Context, ref volume.Ref) (meta []byte, content io.ReadCloser, err error) {
	vol, err := r.cfg.Volumes.Get(ref.Volume)
	switch {
	case err == nil:
		var info volume.Info
		if info, err = vol.Get(ref.Record); err == nil {
			content, err = vol.OpenRef(ref, 0, ref.Length)
		}
		meta = info.Meta
	case errors.Is(err, volume.ErrNotFound):
		meta, content, err = r.openCold(ctx, ref)
	}
	if err != nil {
		return nil, nil, err
	}
	if meta, err = moved(meta, ref); err != nil {
		return nil, nil, errors.Join(err, content.Close())
	}
	return meta, content, nil
}

func (r *Rehouser) openCold(ctx context.Context, ref volume.Ref) (meta []byte, content io.ReadCloser, err error) {
	e, known, err := r.cfg.Directory.Volume(ctx, ref.Volume)
	if err != nil {
		return nil, nil, err
	}
	if !known || e.Cold == nil {
		return nil, nil, wire.Errorf(wire.NotFound, "%s has no copy of volume %s", r.cfg.Self, ref.Volume)
	}
	if meta, err = r.cfg.Cold.Meta(ctx, e, ref.Record); err != nil {
		return nil, nil, err
	}
	content, err = r.cfg.Cold.Open(ctx, e, ref, 0, ref.Length)
	return meta, content, err
}

// moved is a record's metadata with the place where it was.
func moved(meta []byte, from volume.Ref) ([]byte, error) {
	o := new(mailbox.Origin)
	if err := codec.Unmarshal(meta, o); err != nil {
		return nil, fmt.Errorf("origin of record %d of volume %s: %w", from.Record, from.Volume, err)
	}
	o.Before = append(o.Before, mailbox.Former{Volume: from.Volume, Record: from.Record})
	o.Before = o.Before[max(0, len(o.Before)-maxBefore):]
	return codec.Marshal(o)
}
