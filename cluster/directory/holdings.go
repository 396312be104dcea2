package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hongyan/cluster/replica"
)

// MethodHoldings asks a node with a replica what every node keeps.
const MethodHoldings = "directory.holdings"

// holdingsTimeout bounds the wait for an answer.
const holdingsTimeout = 10 * time.Second

// HoldingsRequest asks for it.
type HoldingsRequest struct{}

// HoldingsResponse has the topology, and what each node keeps that keeps anything of volumes, both of one moment.
type HoldingsResponse struct {
	Topology Topology          `cbor:"1,keyasint"`
	Volumes  []replica.Holding `cbor:"2,keyasint,omitempty"`
}

// On is what a node keeps of volumes.
func (r *HoldingsResponse) On(node string) replica.Holding {
	for _, h := range r.Volumes {
		if h.Node == node {
			return h
		}
	}
	return replica.Holding{Node: node}
}

// Holdings says what every node keeps, with all that was acknowledged before the call. It comes from this node's replica, or from another node that has one;
// what cannot be learned is an error: a node that seems to keep nothing gets switched off.
func (s *Service) Holdings(ctx context.Context) (*HoldingsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, holdingsTimeout)
	defer cancel()
	if s.Own() {
		return s.serveHoldings(ctx, "", &HoldingsRequest{})
	}
	resp, err := askReplica[HoldingsResponse](ctx, s, MethodHoldings, &HoldingsRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask a node with the directory what each node keeps, as this one has none: %w", err)
	}
	return resp, nil
}

func (s *Service) serveHoldings(ctx context.Context, _ string, _ *HoldingsRequest) (resp *HoldingsResponse, err error) {
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	t, err := readTopology(v)
	if err != nil {
		return nil, err
	}
	sum := make(replica.Holdings)
	err = each(v, volumeTable, func(e *replica.Entry) error {
		sum.Add(*e)
		return nil
	})
	resp = &HoldingsResponse{Topology: *t}
	for _, n := range t.Nodes {
		if h := sum[n.ID]; h != nil {
			resp.Volumes = append(resp.Volumes, *h)
		}
	}
	return resp, err
}
