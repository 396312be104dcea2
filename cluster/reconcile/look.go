package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// maxRefs is how many references one question is about.
const maxRefs = 500

// lookRequest asks a node what its copies have at some places.
type lookRequest struct {
	Account uint64       `cbor:"1,keyasint"`
	Refs    []volume.Ref `cbor:"2,keyasint"`
	Deep    bool         `cbor:"3,keyasint,omitempty"` // read the bytes; of one reference
}

type lookResponse struct {
	Records []Record `cbor:"1,keyasint"` // one of each
}

func (s *Service) serveLook(ctx context.Context, from string, req *lookRequest) (*lookResponse, error) {
	if len(req.Refs) > maxRefs || req.Deep && len(req.Refs) != 1 {
		return nil, wire.Errorf(wire.Limit, "%s asks about %d records at once", from, len(req.Refs))
	}
	resp := &lookResponse{Records: make([]Record, len(req.Refs))}
	for i, ref := range req.Refs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		resp.Records[i] = s.look(ref, req.Account, req.Deep)
	}
	return resp, nil
}

// look says what this node's copy has.
func (s *Service) look(ref volume.Ref, account uint64, deep bool) Record {
	vol, err := s.cfg.Volumes.Get(ref.Volume)
	if errors.Is(err, volume.ErrNotFound) {
		return Record{State: NoCopy}
	}
	if err != nil {
		return Record{State: Unreadable}
	}
	r := Record{State: Other, Generation: vol.Header().Generation, Durable: vol.Durable()}
	same, err := vol.Is(ref)
	if same {
		r.State = Same
	}
	if err == nil {
		r.Facts, err = factsOf(vol, ref.Record, account, deep)
	}
	switch {
	case errors.Is(err, volume.ErrNotFound):
		r.State = NoRecord
	case errors.Is(err, keys.ErrDestroyed):
		r.State = Erased
	case err != nil:
		r.State, r.Facts = Unreadable, nil
	}
	return r
}

// factsOf reads what a record says of itself. A record that is no message says nothing.
func factsOf(vol *volume.Volume, record, account uint64, deep bool) (*Facts, error) {
	info, err := vol.Get(record)
	if err != nil || info.Kind != volume.KindMessage {
		return nil, err
	}
	origin := new(mailbox.Origin)
	if err := codec.Unmarshal(info.Meta, origin); err != nil {
		return nil, fmt.Errorf("origin of record %d of volume %s: %w", record, vol.Header().ID, err)
	}
	f := &Facts{Length: info.Length, Named: names(origin, account), Date: origin.Date, Zone: origin.Zone}
	if !deep || !f.Named { // nobody is told of mail that is not his
		return f, nil
	}
	f.Meta = info.Meta
	ref := volume.Ref{Volume: vol.Header().ID, Record: record, Length: info.Length}
	m, err := origin.Message(ref, true, func(w io.Writer) error {
		content, err := vol.Open(record, 0, info.Length)
		if err != nil {
			return err
		}
		n, err := io.Copy(w, content)
		if err = errors.Join(err, content.Close()); err == nil && uint64(n) != info.Length {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	f.Hash, f.Summary = m.Ref.Hash, m.Summary
	same, err := vol.Is(m.Ref)
	if err == nil && !same {
		err = fmt.Errorf("record %d of volume %s has other bytes than its header says", record, vol.Header().ID)
	}
	return f, err
}

// names says whether a message was for an account.
func names(o *mailbox.Origin, account uint64) bool {
	for _, t := range o.Targets {
		if t.Account == account {
			return true
		}
	}
	return false
}
