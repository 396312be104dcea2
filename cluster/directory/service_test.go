package directory

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
)

// outside is the service of a node without a replica, before two nodes that answer look-ups as a test wants.
func outside(t *testing.T, answer func(node string, req *LookupRequest) (*LookupResponse, error)) *Service {
	t.Helper()
	nets := transporttest.Nodes(t, "f1", "v1", "l1")
	for _, n := range nets[1:] {
		transport.HandleUnary(n, MethodHoldings, func(context.Context, string, *HoldingsRequest) (*HoldingsResponse, error) { return nil, errNoReplica })
		transport.HandleUnary(n, MethodLookup, func(_ context.Context, _ string, req *LookupRequest) (*LookupResponse, error) {
			return answer(n.ID(), req)
		})
	}
	host := shard.NewHost(nets[0])
	groups := []placement.Group{{Voters: []string{"v1"}, Learners: []string{"l1"}}}
	s := NewService(shard.NewRouter("f1", nets[0], host, groups), host, nets[0], nil)
	for _, n := range nets {
		n.Serve()
	}
	for _, n := range nets[1:] {
		for !nets[0].Up(n.ID()) {
			if t.Context().Err() != nil {
				t.Fatal("no connection")
			}
			time.Sleep(time.Millisecond)
		}
	}
	return s
}

// An account that one replica does not know yet is asked for afresh, and only then is it said not to exist; a node that cannot
// answer is passed over.
func TestLookupWithoutReplica(t *testing.T) {
	late := Account{ID: 1, Address: "late@a.test"}
	var fresh []string
	s := outside(t, func(node string, req *LookupRequest) (*LookupResponse, error) {
		if req.Fresh {
			fresh = append(fresh, req.Address)
		}
		switch {
		case req.Address == "broken@a.test":
			return nil, wire.Errorf(wire.Unavailable, "no")
		case node == "v1" && req.Address == "learner@a.test":
			return nil, wire.Errorf(wire.Unavailable, "no")
		case req.Address == "learner@a.test":
			return &LookupResponse{Account: &Account{ID: 2}, Local: true}, nil
		case req.Address == late.Address && req.Fresh:
			return &LookupResponse{Account: &late, Local: true}, nil
		case req.Address == "x@elsewhere.test":
			return &LookupResponse{}, nil
		}
		return &LookupResponse{Local: true}, nil
	})
	for address, want := range map[string]error{
		"Late@a.test": nil, "learner@a.test": nil, "nobody@a.test": ErrNoAccount, "x@elsewhere.test": ErrNotLocal,
		"broken@a.test": wire.ErrUnavailable, "junk": ErrInvalidAddress,
	} {
		if _, err := s.Lookup(t.Context(), address); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	if len(fresh) < 3 {
		t.Errorf("asked afresh only for %q", fresh)
	}
	if _, err := s.Refresh(t.Context(), "nobody@a.test"); !errors.Is(err, ErrNoAccount) {
		t.Error(err)
	}
	for name, ask := range map[string]func() error{
		"volumes":   func() error { _, err := s.Volumes(t.Context()); return err },
		"shards":    func() error { _, err := s.Shards(); return err },
		"addresses": func() error { _, err := s.Addresses(); return err },
		"holdings":  func() error { _, err := s.Holdings(t.Context()); return err },
	} {
		if err := ask(); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("%s without a replica: %v", name, err)
		}
	}
}

// TestHome takes no home for a domain where no node keeps mail, whatever its policy is, and however long its name.
func TestHome(t *testing.T) {
	s := outside(t, func(string, *LookupRequest) (*LookupResponse, error) { return &LookupResponse{}, nil })
	s.Known = func() *Topology {
		return &Topology{Version: 1, Nodes: []Node{{ID: "v1", Region: "south", Roles: []string{"storage"}}, {ID: "f1", Region: "sea", Roles: []string{"frontend"}},
			{ID: "x1", Region: "gone", Roles: []string{"storage"}, Removed: true}}}
	}
	for _, home := range []string{"atlantis", "sea", "gone", strings.Repeat("south", 10_000)} {
		err := s.SetPolicy(t.Context(), SetPolicy{Domain: "a.test", Home: &home})
		if !errors.Is(err, wire.ErrInvalid) || !strings.Contains(err.Error(), "expected one of south") || len(err.Error()) > 2*maxRegion {
			t.Errorf("home %.20q: %v", home, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, home := range []string{"south", ""} {
		if err := s.SetPolicy(ctx, SetPolicy{Domain: "a.test", Home: &home}); err == nil || errors.Is(err, wire.ErrInvalid) {
			t.Errorf("home %q, where nobody leads: %v", home, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"A@B.Test": "a@b.test", " a@b.test\r\n": "a@b.test", `"a@b"@c.test`: `"a@b"@c.test`,
		"": "", "a": "", "@b": "", "a@": "", "a b@c": "", "<a@b>": "", "a\x00@b": "",
	} {
		got, err := Canonical(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
		if again, err := Canonical(got); want != "" && (again != got || err != nil) {
			t.Errorf("%q: the canonical form has another one: %q, %v", in, again, err)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("A@B.Test")
	f.Add("İ@İ.test") // lower case is longer
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Canonical(in)
		if err != nil {
			return
		}
		if again, err := Canonical(got); err != nil || again != got {
			t.Fatalf("%q: %q, then %q, %v", in, got, again, err)
		}
		if len(got) > maxAddress || DomainOf(got) == "" {
			t.Fatalf("%q: %q", in, got)
		}
	})
}
