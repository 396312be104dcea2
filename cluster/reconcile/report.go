package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/client"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Report is one contradiction that was found, and what was done.
type Report struct {
	Time    int64  `json:"time"` // unix seconds
	Address string `json:"address"`
	Folder  uint32 `json:"folder"`
	UID     uint32 `json:"uid,omitempty"` // 0: the folder's counts
	What    string `json:"what"`
	Done    string `json:"done"`
}

func (s *Service) report(r Report) {
	r.Time = s.cfg.Clock.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reports = append(s.reports, r); len(s.reports) > maxReports {
		s.reports = slices.Delete(s.reports, 0, len(s.reports)-maxReports)
	}
}

// Reports are the latest contradictions that this node looked into since it started.
func (s *Service) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// stats count since the start.
type stats struct {
	looks, mended, recounts, lost, open, foreign atomic.Uint64
}

// Metrics are those of what this node looked into.
func (s *Service) Metrics() prometheus.Collector {
	r := prometheus.NewRegistry()
	for _, c := range []struct {
		name, help string
		v          *atomic.Uint64
	}{
		{"looks_total", "Messages looked into since their bytes were not where their entries say, or what these say.", &s.stats.looks},
		{"mended_total", "Entries that contradicted their messages and were mended.", &s.stats.mended},
		{"recounts_total", "Folders whose counts contradicted their messages and were mended.", &s.stats.recounts},
		{"lost_total", "Messages found lost: their bytes are in no volume.", &s.stats.lost},
		{"open_total", "Messages of which nothing was proved, such as while a node is down.", &s.stats.open},
		{"foreign_total", "Entries found by a check whose records name other recipients.", &s.stats.foreign},
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hongyan_reconcile_" + c.name, Help: c.help}, func() float64 { return float64(c.v.Load()) }))
	}
	return r
}

// mendRequest has a node that keeps mail look into an entry, or with UID 0 into a folder's counts.
type mendRequest struct {
	Account uint64     `cbor:"1,keyasint"`
	Address string     `cbor:"2,keyasint"`
	Shard   uint32     `cbor:"3,keyasint"`
	Home    string     `cbor:"4,keyasint"`
	Folder  uint32     `cbor:"5,keyasint"`
	UID     uint32     `cbor:"6,keyasint,omitempty"`
	Seen    volume.Ref `cbor:"7,keyasint,omitempty"`
}

type mendResponse struct {
	Ref     volume.Ref `cbor:"1,keyasint,omitempty"`
	Changed bool       `cbor:"2,keyasint,omitempty"`
	Lost    string     `cbor:"3,keyasint,omitempty"` // why
	Gone    bool       `cbor:"4,keyasint,omitempty"` // there is no such message any more
}

// elsewhere asks a node that keeps mail.
func (s *Service) elsewhere(ctx context.Context, a client.Account, folder, uid uint32, seen volume.Ref) (mendResponse, error) {
	req := &mendRequest{Account: a.ID, Address: a.Address, Shard: s.cfg.Door().Shard(a), Home: a.Home, Folder: folder, UID: uid, Seen: seen}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	failed := errors.New("no node that keeps mail is up")
	for _, node := range s.cfg.Nodes() {
		if !s.cfg.Net.Up(node) || s.cfg.Net.InDoubt(node) {
			continue
		}
		var resp mendResponse
		failed = s.cfg.Net.Call(ctx, node, methodMend, req, &resp)
		switch {
		case failed == nil && resp.Lost != "":
			return resp, fmt.Errorf("%w: %s", client.ErrLost, resp.Lost)
		case failed == nil && resp.Gone:
			return resp, client.ErrNoMessage
		case failed == nil:
			return resp, nil
		}
		break // another one would begin from the start
	}
	return mendResponse{}, unavailable(failed)
}

func (s *Service) serveMend(ctx context.Context, _ string, req *mendRequest) (*mendResponse, error) {
	a := client.Account{ID: req.Account, Address: req.Address, Shard: req.Shard, Home: req.Home}
	resp := new(mendResponse)
	var err error
	if req.UID == 0 {
		resp.Changed, err = s.Recount(ctx, a, req.Folder)
	} else {
		resp.Ref, err = s.Mend(ctx, a, req.Folder, req.UID, req.Seen)
	}
	switch {
	case errors.Is(err, client.ErrLost):
		return &mendResponse{Lost: err.Error()}, nil
	case errors.Is(err, client.ErrNoMessage):
		return &mendResponse{Gone: true}, nil
	case err != nil:
		return nil, wire.Errorf(wire.Unavailable, "%v", err)
	}
	return resp, nil
}
