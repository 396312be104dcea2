package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

// A node that has lost the leader while others reach it, since one link is cut, goes around: it has one of them pass its request on.
// One hop only, so that requests never circle.

// MethodRelay has a node pass a request on to a leader that it reaches.
const MethodRelay = "shard.relay"

// RelayRequest names the leader and has one of the requests.
type RelayRequest struct {
	Leader    string            `cbor:"1,keyasint"`
	Propose   *ProposeRequest   `cbor:"2,keyasint,omitempty"`
	ReadIndex *ReadIndexRequest `cbor:"3,keyasint,omitempty"`
	Method    string            `cbor:"4,keyasint,omitempty"` // of another request, which is Body
	Body      codec.Raw         `cbor:"5,keyasint,omitempty"`
}

// RelayResponse has that request's response.
type RelayResponse struct {
	Propose   *ProposeResponse   `cbor:"1,keyasint,omitempty"`
	ReadIndex *ReadIndexResponse `cbor:"2,keyasint,omitempty"`
	Body      codec.Raw          `cbor:"3,keyasint,omitempty"`
}

// behind is the leader that a node named which this node cannot reach and that one can; "" if it did not.
func (r *Router) behind(node string, err error) string {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.NotLeader || e.Hint == "" || node == r.self || e.Hint == r.self || !r.peers.InDoubt(e.Hint) {
		return ""
	}
	return e.Hint
}

// around has a node pass a request on to the leader.
func (r *Router) around(ctx context.Context, patience time.Duration, by, leader, method string, req, resp any) error {
	relayed := &RelayRequest{Leader: leader}
	switch req := req.(type) {
	case *ProposeRequest:
		relayed.Propose = req
	case *ReadIndexRequest:
		relayed.ReadIndex = req
	default:
		body, err := codec.Marshal(req)
		if err != nil {
			return err
		}
		relayed.Method, relayed.Body = method, body
	}
	var got RelayResponse
	if err := r.attempt(ctx, patience, by, MethodRelay, relayed, &got); err != nil {
		return err
	}
	switch resp := resp.(type) {
	case *ProposeResponse:
		if got.Propose != nil {
			*resp = *got.Propose
			return nil
		}
	case *ReadIndexResponse:
		if got.ReadIndex != nil {
			*resp = *got.ReadIndex
			return nil
		}
	default:
		if len(got.Body) > 0 {
			return codec.Unmarshal(got.Body, resp)
		}
	}
	return wire.Errorf(wire.Internal, "%s passed a %T on and gave no answer", by, req)
}

// relay passes another node's request on. The deadline has travelled with it.
func (h *Host) relay(ctx context.Context, from string, req *RelayRequest) (*RelayResponse, error) {
	out := new(RelayResponse)
	var err error
	switch {
	case req.Propose != nil:
		out.Propose = new(ProposeResponse)
		err = h.peers.CallSound(ctx, req.Leader, MethodPropose, req.Propose, out.Propose)
	case req.ReadIndex != nil:
		out.ReadIndex = new(ReadIndexResponse)
		err = h.peers.CallSound(ctx, req.Leader, MethodReadIndex, req.ReadIndex, out.ReadIndex)
	case req.Method != "":
		err = h.peers.CallSound(ctx, req.Leader, req.Method, req.Body, &out.Body)
	default:
		err = wire.Errorf(wire.Invalid, "a request that this version does not know")
	}
	if err != nil {
		return nil, fmt.Errorf("for %s: %w", from, err)
	}
	return out, nil
}
