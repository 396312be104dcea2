package textsearch

import (
	"context"
	"slices"
	"sync"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/fulltext"
)

const (
	methodReport  = "textsearch.report"
	methodRebuild = "textsearch.rebuild"
	reportWait    = 10 * time.Second
)

// Report is the state of one node's index.
type Report struct {
	Node      string  `cbor:"1,keyasint" json:"node"`
	Error     string  `cbor:"2,keyasint,omitempty" json:"error,omitempty"` // why there is no report
	Off       bool    `cbor:"3,keyasint,omitempty" json:"off"`             // the node keeps no index
	Shards    int     `cbor:"4,keyasint,omitempty" json:"shards"`          // that it indexes
	Mailboxes uint64  `cbor:"5,keyasint,omitempty" json:"mailboxes"`
	Messages  uint64  `cbor:"6,keyasint,omitempty" json:"messages"`    // expunged ones too, until they are merged away
	Waiting   int     `cbor:"7,keyasint,omitempty" json:"waiting"`     // mailboxes of which something is not indexed yet
	Lag       float64 `cbor:"8,keyasint,omitempty" json:"lag_seconds"` // of the oldest delivery that is not indexed
	Bytes     uint64  `cbor:"9,keyasint,omitempty" json:"bytes"`       // on disk
	Paused    bool    `cbor:"10,keyasint,omitempty" json:"paused"`     // for the disk is nearly full
}

type reportRequest struct{}

func (s *Service) serveReport(context.Context, string, *reportRequest) (*Report, error) {
	r := s.Report()
	return &r, nil
}

// serveRebuild throws this node's index away and begins a new one.
func (s *Service) serveRebuild(_ context.Context, from string, _ *reportRequest) (*Report, error) {
	if s.cfg.DB == nil {
		return nil, wire.Errorf(wire.NotFound, "%s keeps no full-text index", s.cfg.Net.ID())
	}
	if err := s.rebuild(); err != nil {
		return nil, err
	}
	s.cfg.Log.Info("full-text index: made anew", "asked_by", from)
	r := s.Report()
	return &r, nil
}

// Report describes this node's index.
func (s *Service) Report() Report {
	r := Report{Node: s.cfg.Net.ID(), Off: s.cfg.DB == nil}
	if r.Off {
		return r
	}
	var mine []uint32
	s.mu.Lock()
	for number, f := range s.shards {
		if f.mine {
			mine = append(mine, number)
		}
	}
	s.mu.Unlock()
	r.Shards, r.Bytes, r.Paused = len(mine), s.cfg.DB.DiskBytes(), s.full()
	r.Waiting, r.Lag = s.lag()
	for _, number := range mine {
		err := s.cfg.DB.States(number, func(st fulltext.State) error {
			r.Mailboxes++
			r.Messages += st.Messages
			return nil
		})
		if err != nil {
			r.Error = err.Error()
		}
	}
	return r
}

// lag is what waits, and for how many seconds fresh mail has waited.
func (s *Service) lag() (waiting int, seconds float64) {
	waiting, since := s.queue.waiting()
	if !since.IsZero() {
		seconds = time.Since(since).Seconds()
	}
	return waiting, seconds
}

// Reports asks every node that keeps mail.
func (s *Service) Reports(ctx context.Context) []Report { return s.everywhere(ctx, methodReport, "") }

// Rebuild has one node, or all if node is "", throw its index away and begin a new one.
func (s *Service) Rebuild(ctx context.Context, node string) ([]Report, error) {
	if node != "" && !slices.Contains(s.cfg.Nodes(), node) {
		return nil, wire.Errorf(wire.NotFound, "%q is no node that keeps mail", node)
	}
	return s.everywhere(ctx, methodRebuild, node), nil
}

func (s *Service) everywhere(ctx context.Context, method, only string) []Report {
	ctx, stop := context.WithTimeout(ctx, reportWait)
	defer stop()
	nodes := s.cfg.Nodes()
	if only != "" {
		nodes = []string{only}
	}
	out := make([]Report, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			var r Report
			if err := s.cfg.Net.Call(ctx, node, method, &reportRequest{}, &r); err != nil {
				r = Report{Node: node, Error: err.Error()}
			}
			out[i] = r
		})
	}
	wg.Wait()
	return out
}
