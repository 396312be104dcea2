package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
)

// Arrived notes that an account is about to become a shard's. It must be called before the shard shows it. What this node knew of the account is from when it was
// in the shard before, and somebody may have got it elsewhere since.
func (s *Service) Arrived(shard uint32, account uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.arrived[shard] == nil {
		s.arrived[shard] = make(arrivals)
	}
	s.arrived[shard].add(account, time.Now())
	if t := s.tables[shard]; t != nil {
		delete(t.held, account)
	}
}

// serveWho answers a leader: see asked.
func (s *Service) serveWho(_ context.Context, _ string, req *whoRequest) (*whoResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.mine[req.Account]
	if l == nil {
		return &whoResponse{}, nil
	}
	l.asked = time.Now()
	return &whoResponse{Session: l.session, Has: l.asked.Before(l.until)}, nil
}

// serveAsk answers a node.
func (s *Service) serveAsk(ctx context.Context, _ string, req *askRequest) (*askResponse, error) {
	if len(req.Claims) > maxClaims {
		return nil, wire.Errorf(wire.Limit, "%d claims", len(req.Claims))
	}
	answers := make([]answer, len(req.Claims))
	for i, c := range req.Claims { // before the office is confirmed: then what is read here was the leader's state
		var away *index.MovedError
		switch err := s.shards.Readable(req.Shard, c.Account); {
		case errors.As(err, &away):
			answers[i] = answer{Verdict: moved, Shard: away.Shard, At: away.At}
		case err != nil:
			return nil, err
		}
	}
	office, err := s.shards.Office(ctx, req.Shard) // step 2
	if err != nil {
		return nil, err
	}
	for i, c := range req.Claims {
		if answers[i].Verdict != 0 {
			continue
		}
		by := holder{req.Node, c.Session}
		switch c.Kind {
		case take:
			answers[i].Verdict, err = s.take(ctx, req.Shard, office, c.Account, by)
		case renew:
			answers[i].Verdict, err = s.extend(req.Shard, office, c.Account, by)
		case release:
			answers[i].Verdict, err = s.free(req.Shard, office, c.Account, by)
		default:
			err = wire.Errorf(wire.Invalid, "claim of kind %d", c.Kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return &askResponse{Answers: answers}, nil
}

// in is the table of a term. The caller holds the lock.
func (s *Service) in(shard uint32, o Office) (*table, error) {
	t := s.tables[shard]
	switch {
	case t == nil || t.Term < o.Term:
		t = newTable(o, time.Now())
		s.tables[shard] = t
	case t.Term > o.Term:
		return nil, wire.Errorf(wire.NotLeader, "shard %d: term %d is over", shard, o.Term)
	}
	return t, nil
}

// term is how long a lease may count by this node's clock. At feature.Brisk no node runs a program any more that holds its own for longer than Hold.
func (s *Service) term() time.Duration {
	if s.shards.Level() >= feature.Brisk {
		return Term
	}
	return formerTerm
}

// doubt says how long somebody whom this leader does not know of may have an account. The caller holds the lock.
func (s *Service) doubt(shard uint32, t *table, account uint64, now time.Time) time.Duration {
	at, arrived := s.arrived[shard][account]
	return t.doubtful(at, arrived, now, s.term())
}

// take is steps 3 to 5.
func (s *Service) take(ctx context.Context, shard uint32, o Office, account uint64, by holder) (verdict, error) {
	for {
		s.mu.Lock()
		t, err := s.in(shard, o)
		if err != nil {
			s.mu.Unlock()
			return 0, err
		}
		now := time.Now()
		other := t.of(account, now)
		if other == nil || other.holder == by {
			certain := other != nil && other.sure || s.doubt(shard, t, account, now) <= 0
			t.put(account, by, certain, now, s.term())
			s.mu.Unlock()
			if certain {
				return granted, nil
			}
			return s.inquire(ctx, shard, o, account, by)
		}
		known := other.holder
		s.mu.Unlock()
		resp, err := s.who(ctx, known.node, account) // step 3
		if err != nil || resp.Session == known.session {
			return held, nil
		}
		s.mu.Lock()
		if again := t.held[account]; again != nil && again.holder == known {
			delete(t.held, account)
		}
		s.mu.Unlock()
	}
}

// inquire is step 4, for a session that is noted already, so that no other one gets in between.
func (s *Service) inquire(ctx context.Context, shard uint32, o Office, account uint64, by holder) (verdict, error) {
	nodes := []string{s.nodes.ID()}
	for _, p := range s.nodes.Peers() {
		if p.ID != s.nodes.ID() {
			nodes = append(nodes, p.ID)
		}
	}
	type reply struct {
		whoResponse
		err error
	}
	replies := make([]reply, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() { replies[i].whoResponse, replies[i].err = s.who(ctx, node, account) })
	}
	wg.Wait()
	silent := false
	var found *holder
	for i, r := range replies {
		silent = silent || r.err != nil
		if h := (holder{nodes[i], r.Session}); r.Has && h != by {
			found = &h
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.in(shard, o)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	noted := t.of(account, now)
	switch {
	case noted == nil: // the account went away and came back meanwhile
		return unsure, nil
	case noted.holder != by:
		return held, nil
	case found != nil:
		t.put(account, *found, true, now, s.term())
		return held, nil
	case silent && s.doubt(shard, t, account, now) > 0:
		if !noted.sure {
			delete(t.held, account)
		}
		return unsure, nil
	}
	t.put(account, by, true, now, s.term())
	return granted, nil
}

// who asks a node for its session of an account. One whose program is older has none that count.
func (s *Service) who(ctx context.Context, node string, account uint64) (whoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, whoTime)
	defer cancel()
	var resp whoResponse
	err := s.nodes.CallSound(ctx, node, methodWho, &whoRequest{Account: account}, &resp)
	if wire.NotKnown(err) {
		return whoResponse{}, nil
	}
	return resp, err
}

// extend renews. A session that says it has an account which nobody is known to have is believed while others may have it, as far as it goes: it may renew
// further while it has it, and takes it by step 4 once it has not.
func (s *Service) extend(shard uint32, o Office, account uint64, by holder) (verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.in(shard, o)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	known := t.of(account, now)
	doubt := s.doubt(shard, t, account, now) > 0
	if known == nil && !doubt || known != nil && known.holder != by {
		return held, nil
	}
	t.put(account, by, known != nil && known.sure || !doubt, now, s.term())
	return granted, nil
}

// free ends a lease.
func (s *Service) free(shard uint32, o Office, account uint64, by holder) (verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.in(shard, o)
	if err != nil {
		return 0, err
	}
	if known := t.of(account, time.Now()); known != nil && known.holder == by {
		delete(t.held, account)
	}
	return granted, nil
}
