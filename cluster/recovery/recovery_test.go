package recovery

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

// TestGiveUpLooksAgain has a node come back between the check and step 2, of a recovery in which the directory lives: it is not given up.
func TestGiveUpLooksAgain(t *testing.T) {
	nets := transporttest.Nodes(t, "a", "b")
	a, b := nets[0], nets[1]
	host := shard.NewHost(a)
	router := shard.NewRouter("a", a, host, nil)
	r := New(Config{
		Self: "a", Net: a, Router: router, Host: host, Directory: directory.NewService(router, host, a, nil), Topology: five, Log: slog.New(slog.DiscardHandler),
		Kept: func() ([]uint32, error) { return nil, nil },
	})
	defer r.Close()
	transport.HandleUnary(b, MethodSurvey, func(context.Context, string, *SurveyRequest) (*Answer, error) {
		return &Answer{Replicas: []shard.Report{of(1, "abc", 2, 9)}}, nil
	})
	a.Serve()
	b.Serve()
	for deadline := time.Now().Add(10 * time.Second); !a.Up("b"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("b is not up")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // nobody has a directory here
	defer cancel()
	job := &Job{Lost: []string{"b"}, Shards: []ShardResult{{ShardPlan: ShardPlan{Shard: 1, State: Recover, Survivor: "a"}}}}
	if err := r.giveUp(ctx, job); err == nil || !strings.Contains(err.Error(), "b answers, so it is not lost") {
		t.Errorf("%v", err)
	}
}

// TestSurveyOfIdle says of replicas that do not run where their logs end, as far as that can be read.
func TestSurveyOfIdle(t *testing.T) {
	net := transporttest.Nodes(t, "a")[0]
	ends := func(number uint32) (term, last uint64) {
		return map[uint32]uint64{4: 7}[number], map[uint32]uint64{4: 90}[number]
	}
	r := New(Config{Self: "a", Net: net, Host: shard.NewHost(net), Kept: func() ([]uint32, error) { return []uint32{4, 5}, nil }, End: ends})
	defer r.Close()
	a, err := r.serveSurvey(t.Context(), "b", nil)
	if err != nil || !slices.Equal(a.Idle, []uint32{4, 5}) || len(a.Replicas) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := a.Replicas[0]; got.Shard != 4 || got.LastTerm != 7 || got.Last != 90 || got.Votes() {
		t.Errorf("%+v", got)
	}
}
