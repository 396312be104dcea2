// Package custody is about the master keys of the cluster's nodes: what each node's files are wrapped by, and their rotation, asked
// of any node for all of them.
//
// Every storage node has master keys of its own (package keys), in a file or behind a command, and no key ever leaves it: what is
// said between nodes are the names of keys and counts of files. A rotation is made node by node: the master keys are loaded again, one
// is added if none was since, and then every key file is wrapped by the newest. Files already wrapped by it are left alone, so a rotation that
// was interrupted, by a crash or by the caller's deadline, is ended by asking again. The package keeps nothing.
package custody

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine"
	"hongyan/engine/keys"
)

const (
	methodKeys = "keys.report"
	// defaultWait is for all nodes together, if the caller sets no bound.
	defaultWait = 20 * time.Second
)

// Config is what a Service needs.
type Config struct {
	ID    string
	Net   *transport.Net
	Nodes func() []string // that keep mail, this one among them if it does
	Store *engine.Store   // nil on a node that keeps nothing
	Ring  *keys.Keyring   // nil: what the node keeps is not encrypted
	Log   *slog.Logger
}

// Service answers for this node and asks the others.
type Service struct{ cfg Config }

// Report is a node's answer.
type Report struct {
	Node      string `cbor:"1,keyasint" json:"node"`
	Keys      []Use  `cbor:"2,keyasint,omitempty" json:"keys"`               // the newest last; none: nothing is encrypted
	Plain     int    `cbor:"3,keyasint,omitempty" json:"plain_volumes"`      // that were begun before there was a key
	PlainRest bool   `cbor:"4,keyasint,omitempty" json:"index_in_the_clear"` // and so were index and logs
	Left      int    `cbor:"5,keyasint,omitempty" json:"files_left"`         // that need another key than the newest
	Error     string `cbor:"6,keyasint,omitempty" json:"error,omitempty"`    // what failed; the rest was done
}

// Use is a master key, by its name, and how many files it wraps.
type Use struct {
	Key   string `cbor:"1,keyasint" json:"key"`
	Files int    `cbor:"2,keyasint,omitempty" json:"files"`
}

// Request asks a node for its report, after a rotation or as it is.
type Request struct {
	Rewrap bool `cbor:"1,keyasint,omitempty"` // load the master keys again, and wrap by the newest what is not
	NewKey bool `cbor:"2,keyasint,omitempty"` // before that make sure that there is another newest key than before
}

// New registers the service. It is of use once the network serves.
func New(cfg Config) *Service {
	s := &Service{cfg}
	transport.HandleUnary(cfg.Net, methodKeys, s.serve)
	return s
}

func (s *Service) serve(ctx context.Context, from string, req *Request) (*Report, error) {
	r := s.report(ctx, req)
	if req.Rewrap {
		s.cfg.Log.Info("keys wrapped anew", "asked_by", from, "newest", r.newest(), "left", r.Left, "error", r.Error)
	}
	return r, nil
}

// report does what is asked here.
func (s *Service) report(ctx context.Context, req *Request) *Report {
	r := &Report{Node: s.cfg.ID}
	if s.cfg.Store == nil {
		return r
	}
	r.PlainRest = s.cfg.Store.Key == nil
	if s.cfg.Ring == nil {
		r.Plain = len(s.cfg.Store.Volumes.List())
		if req.Rewrap {
			r.Error = "the node's configuration has no encryption section"
		}
		return r
	}
	if err := s.renew(ctx, req); err != nil {
		r.Error = err.Error()
		return r
	}
	look := s.cfg.Store.KeyUse
	if req.Rewrap {
		// What is left of the time is for the answer.
		ctx, cancel := context.WithTimeout(ctx, part(ctx, 2))
		defer cancel()
		look = func() (*engine.KeyUse, error) { return s.cfg.Store.Rewrap(ctx) }
	}
	use, err := look()
	if err != nil {
		r.Error = err.Error()
	}
	r.Plain, r.Left = use.Plain, use.Left
	known := s.cfg.Ring.IDs()
	for _, id := range known {
		r.Keys = append(r.Keys, Use{id, use.Masters[id]})
	}
	for _, id := range slices.Sorted(maps.Keys(use.Masters)) {
		if !slices.Contains(known, id) { // it was taken away while files need it: they are open, so Rewrap mends that
			r.Keys = slices.Insert(r.Keys, 0, Use{id, use.Masters[id]})
		}
	}
	return r
}

func (s *Service) renew(ctx context.Context, req *Request) error {
	switch {
	case req.NewKey:
		return s.cfg.Ring.Rotate(ctx)
	case req.Rewrap:
		return s.cfg.Ring.Reload(ctx)
	}
	return nil
}

func (r *Report) newest() string {
	if len(r.Keys) == 0 {
		return ""
	}
	return r.Keys[len(r.Keys)-1].Key
}

// Ask asks every node that keeps mail, or only the one named, in turn: nodes on one machine may share a file of keys.
func (s *Service) Ask(ctx context.Context, node string, req Request) ([]Report, error) {
	nodes := s.cfg.Nodes()
	if node != "" {
		if !slices.Contains(nodes, node) {
			return nil, wire.Errorf(wire.NotFound, "%q is no node that keeps mail", node)
		}
		nodes = []string{node}
	}
	var all []Report
	for i, id := range nodes {
		all = append(all, s.ask(ctx, id, len(nodes)-i, &req))
	}
	return all, nil
}

// ask gives one of several nodes that are still to be asked its share of the time.
func (s *Service) ask(ctx context.Context, node string, of int, req *Request) (r Report) {
	ctx, cancel := context.WithTimeout(ctx, part(ctx, of))
	defer cancel()
	if err := s.cfg.Net.Call(ctx, node, methodKeys, req, &r); err != nil {
		return Report{Node: node, Error: err.Error()}
	}
	return r
}

// part is one of several parts of the time that is left.
func part(ctx context.Context, of int) time.Duration {
	left := defaultWait
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	return left / time.Duration(of)
}
