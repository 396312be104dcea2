package shard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
)

// A leader whose store fails gives its office to a replica that can answer, and is not given it back for being at home.
func TestBrokenLeaderAbdicates(t *testing.T) {
	members := startGroup(t, 3, "v1")
	eventually(t, "leadership at home", func() bool { return members[0].group.IsLeader() })
	members[1].propose(t, "x")
	members[0].machine.fails.Store(true)
	if n := members[1].propose(t, "x"); n != 2 {
		t.Fatalf("counted %d", n)
	}
	if n := members[2].propose(t, "x"); n != 3 {
		t.Fatalf("counted %d", n)
	}
	next := leaderOf(t, members[1:])
	if next.group.caughtUp(t.Context(), "v1") {
		t.Error("a replica that applies nothing counts as caught up")
	}
	if why := members[0].router.Ready(); len(why) != 1 {
		t.Errorf("not ready for %v", why)
	}
}

// A leader whose disk is full stops flushing, and soon applying. It hands over before its callers notice much, and leads again
// when there is room and it is at home.
func TestFullDiskAbdicates(t *testing.T) {
	members := startGroup(t, 3, "v1")
	eventually(t, "leadership at home", func() bool { return members[0].group.IsLeader() })
	members[0].full.Store(true)
	for i := uint64(1); members[0].group.IsLeader(); i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, _, err := members[1].router.Propose(ctx, testShard, []byte("heavy"), ForPeople)
		cancel()
		must(t, err)
		if i > 100 {
			t.Fatal("it leads on")
		}
	}
	next := leaderOf(t, members[1:])
	if next.group.caughtUp(t.Context(), "v1") {
		t.Error("a replica whose disk is full counts as caught up")
	}
	if n := members[2].propose(t, "x"); n != 1 {
		t.Errorf("counted %d", n)
	}
	members[0].full.Store(false)
	eventually(t, "leadership at home again", func() bool { return members[0].group.IsLeader() })
}

// confirmations makes a group that believes to lead term 5 of three or five voters, and answers its questions about terms.
func confirmations(answer func(voter string) (uint64, error)) *Group {
	g := &Group{cfg: Config{Self: "v1", Group: placement.Group{Shard: testShard}}}
	g.cfg.Peers = termPeers(answer)
	return g
}

type termPeers func(voter string) (uint64, error)

func (termPeers) Up(string) bool                   { return true }
func (termPeers) InDoubt(string) bool              { return false }
func (termPeers) Doubted(string) <-chan struct{}   { return nil }
func (termPeers) RTT(string) (time.Duration, bool) { return 0, true }

func (p termPeers) CallSound(ctx context.Context, node, method string, req, resp any) error {
	return p.Call(ctx, node, method, req, resp)
}

func (p termPeers) Call(ctx context.Context, node, _ string, _, resp any) error {
	term, err := p(node)
	if errors.Is(err, context.DeadlineExceeded) { // silence
		<-ctx.Done()
		return ctx.Err()
	}
	resp.(*ConfirmResponse).Term = term
	return err
}

// A read index needs a majority that is in no later term. Silence, failures and later terms are not that.
func TestConfirm(t *testing.T) {
	const term = 5
	three, five := []string{"v1", "v2", "v3"}, []string{"v1", "v2", "v3", "v4", "v5"}
	silent, down := context.DeadlineExceeded, wire.ErrUnavailable
	for _, c := range []struct {
		name    string
		voters  []string
		answers map[string]any // a term or an error
		ok      bool
	}{
		{"alone", []string{"v1"}, nil, true},
		{"all", three, map[string]any{"v2": 5, "v3": 5}, true},
		{"one is silent", three, map[string]any{"v2": silent, "v3": 5}, true},
		{"one is down", three, map[string]any{"v2": down, "v3": 5}, true},
		{"one lags behind", three, map[string]any{"v2": 3, "v3": down}, true},
		{"one has a later leader", three, map[string]any{"v2": 6, "v3": 5}, true}, // which no majority elected yet
		{"deposed, one is silent", three, map[string]any{"v2": 6, "v3": silent}, false},
		{"deposed", three, map[string]any{"v2": 6, "v3": 6}, false},
		{"cut off", three, map[string]any{"v2": down, "v3": silent}, false},
		{"two of four others", five, map[string]any{"v2": 5, "v3": down, "v4": 5, "v5": 7}, true},
		{"one of four others", five, map[string]any{"v2": 5, "v3": down, "v4": 6, "v5": 7}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := confirmations(func(voter string) (uint64, error) {
				if n, ok := c.answers[voter].(int); ok {
					return uint64(n), nil
				}
				return 0, c.answers[voter].(error)
			})
			if err := g.confirm(t.Context(), c.voters, term); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A leader that was cut off gives no read index, although it does not know yet that others have elected another.
func TestDeposedLeaderGivesNoReadIndex(t *testing.T) {
	members := startGroup(t, 3)
	old := leaderOf(t, members)
	others(members, old)[0].propose(t, "x")
	_, err := old.group.ReadIndex(t.Context())
	must(t, err)
	must(t, old.net.Close())
	if at, err := old.group.ReadIndex(t.Context()); err == nil {
		t.Fatalf("cut off, it still gave %d", at)
	}
	next := leaderOf(t, others(members, old))
	if n := next.propose(t, "x"); n != 2 {
		t.Errorf("counted %d", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	at, err := next.router.ReadIndex(ctx, testShard)
	if err != nil || at < next.group.Applied() {
		t.Errorf("the new leader gave %d, %v", at, err)
	}
	if at, err := old.group.ReadIndex(t.Context()); err == nil {
		t.Errorf("deposed, it gave %d", at)
	}
}

// The word of one of three voters, that it was in no later term when the read had begun, makes a majority with the leader's own.
func TestVouchedReadIndex(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	voter := others(members, leader)[0]
	voter.propose(t, "x")
	term := leader.group.raft.CurrentTerm()
	for _, c := range []struct {
		name, voter string
		term        uint64
		ok          bool
	}{
		{"in its term", voter.id, term, true},
		{"behind", voter.id, term - 1, true}, // it has voted in no later one either
		{"in a later term", voter.id, term + 1, false},
		{"no voter", "somebody", term, false},
		{"nobody", "", term, false},
		{"the leader itself", leader.id, term, false},
	} {
		if at, ok := leader.group.vouched(c.voter, c.term); ok != c.ok || ok && at < leader.group.Applied() {
			t.Errorf("%s: %d, %v", c.name, at, ok)
		}
	}
	if _, ok := voter.group.vouched(others(members, leader)[1].id, term); ok {
		t.Error("a follower took a voter's word")
	}
	ready := leader.group.ready.Swap(term - 1)
	if _, ok := leader.group.vouched(voter.id, term); ok {
		t.Error("before the barrier of its term")
	}
	leader.group.ready.Store(ready)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var asked atomic.Int64
	leader.peers.set(func(_, method string) error {
		if method == MethodConfirm {
			asked.Add(1)
		}
		return nil
	}, nil)
	for _, m := range others(members, leader) {
		if at, err := m.router.ReadIndex(ctx, testShard); err != nil || at < leader.group.Applied() {
			t.Errorf("%s: %d, %v", m.id, at, err)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the leader asked for %d terms", n)
	}
	if _, err := leader.router.ReadIndex(ctx, testShard); err != nil || asked.Load() == 0 {
		t.Errorf("for itself it asked for %d terms, %v", asked.Load(), err)
	}
}

// Of five voters it takes one more.
func TestVouchedOfFive(t *testing.T) {
	members := startGroup(t, 5)
	leader := leaderOf(t, members)
	if _, ok := leader.group.vouched(others(members, leader)[0].id, leader.group.raft.CurrentTerm()); ok {
		t.Error("two of five are no majority")
	}
}

// A voter that has moved to a later term makes the leader refuse, also while it still believes to lead.
func TestReadIndexOfAnEarlierTerm(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	ready := leader.group.ready.Swap(leader.group.ready.Load() - 1)
	if _, err := leader.group.ReadIndex(t.Context()); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("before the barrier of its term: %v", err)
	}
	leader.group.ready.Store(ready)
	follower := others(members, leader)[0]
	if _, err := follower.group.ReadIndex(t.Context()); !errors.Is(err, wire.ErrNotLeader) {
		t.Errorf("from a follower: %v", err)
	}
}

// Callers that come while a round is under way get one that begins later, together.
func TestRoundsAreShared(t *testing.T) {
	var r rounds
	var ran atomic.Int64
	gate := make(chan struct{})
	run := func(context.Context) (uint64, error) {
		n := ran.Add(1)
		<-gate
		return uint64(n), nil
	}
	results := make(chan uint64, 11)
	ask := func() {
		at, err := r.join(context.Background(), run)
		if err != nil {
			t.Error(err)
		}
		results <- at
	}
	go ask()
	eventually(t, "the first round", func() bool { return ran.Load() == 1 })
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(ask)
	}
	eventually(t, "the second round's callers", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.next != nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.join(ctx, run); err == nil {
		t.Error("a caller whose time is up got an index")
	}
	close(gate)
	waiting.Wait()
	early := 0
	for range 11 {
		if <-results == 1 {
			early++
		}
	}
	if early != 1 {
		t.Errorf("%d callers share the first round, which had begun before ten of them came", early)
	}
}

// The node of a leader is gone: the survivors elect at once, well before Raft's own timers would begin.
func TestTakeOver(t *testing.T) {
	members := startGroup(t, 3)
	old := leaderOf(t, members)
	others(members, old)[0].propose(t, "x")
	rest := others(members, old)
	term := rest[0].group.raft.CurrentTerm()
	must(t, old.net.Close())
	next := leaderOf(t, rest)
	if n := next.propose(t, "x"); n != 2 {
		t.Errorf("counted %d", n)
	}
	if now := next.group.raft.CurrentTerm(); now > term+4 { // on a busy machine an election takes longer than standPatience, and is begun again
		t.Errorf("%d elections", now-term)
	}
}

// One voter alone that loses the leader's node elects nobody, and neither does one whose leader has been replaced meanwhile.
func TestFalseAlarm(t *testing.T) {
	members := startGroup(t, 3)
	leader := leaderOf(t, members)
	term := leader.group.raft.CurrentTerm()
	for _, m := range others(members, leader) {
		eventually(t, "a follower that knows its leader", func() bool { return m.group.Leader() == leader.id })
	}
	alone := others(members, leader)[0]
	alone.peers.doubts(leader.id)
	ctx, cancel := context.WithTimeout(t.Context(), 2*suspectTimeout)
	defer cancel()
	alone.host.takeOver(ctx, leader.id, nil)
	alone.host.takeOver(ctx, "somebody else", nil)
	leader.propose(t, "x")
	if leader.group.raft.CurrentTerm() != term || !leader.group.IsLeader() {
		t.Error("a false alarm changed the leader")
	}
}

func TestBestSurvivor(t *testing.T) {
	g := &roster{preferred: []string{"v3"}, Group: placement.Group{Voters: []string{"v1", "v2", "v3"}}}
	at := func(node string, term, index uint64) survivor {
		return survivor{node, Stand{Fit: true, Term: term, Index: index}}
	}
	unfit := at("v3", 9, 9)
	unfit.Fit = false
	for _, c := range []struct {
		name      string
		survivors []survivor
		want      string
	}{
		{"the longer log", []survivor{at("v1", 2, 7), at("v2", 2, 9)}, "v2"},
		{"the later term before the longer log", []survivor{at("v1", 3, 7), at("v2", 2, 9)}, "v1"},
		{"at home", []survivor{at("v2", 2, 9), at("v3", 2, 9)}, "v3"},
		{"the membership's order", []survivor{at("v2", 2, 9), at("v1", 2, 9)}, "v1"},
		{"one that works", []survivor{unfit, at("v1", 2, 7)}, "v1"},
		{"nobody who does not work", []survivor{unfit}, ""},
	} {
		if got := g.best(c.survivors); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Votes count of those who are voters when they are counted: a replica that became one of a single voter while it asked stands for nothing.
func TestMajorityOfVoters(t *testing.T) {
	for _, c := range []struct {
		voters, of []string
		want       bool
	}{
		{[]string{"v1"}, []string{"v2"}, false},
		{[]string{"v1"}, []string{"v1", "v2"}, true},
		{[]string{"v1", "v2", "v3"}, []string{"v1", "v4", "v5"}, false},
		{[]string{"v1", "v2", "v3"}, []string{"v3", "v1"}, true},
		{nil, []string{"v1"}, false},
	} {
		of := make(map[string]Stand)
		for _, v := range c.of {
			of[v] = Stand{Fit: true}
		}
		r := &roster{Group: placement.Group{Voters: c.voters}}
		list, ok := r.majority(of)
		if ok != c.want || slices.ContainsFunc(list, func(s survivor) bool { return !slices.Contains(c.voters, s.node) }) {
			t.Errorf("%v of %v: %v, %v", c.of, c.voters, list, ok)
		}
	}
}

// A node at home that comes and goes gets leadership back ever more seldom; one that stayed well for long, soon.
func TestHandOversAreSpaced(t *testing.T) {
	var h homeward
	now := time.Unix(0, 0)
	var waits []time.Duration
	for range 8 {
		began := now
		for !h.clear(now) {
			now = now.Add(time.Second)
		}
		waits = append(waits, now.Sub(began))
		h.taken(now)
	}
	want := []time.Duration{0, 10, 20, 40, 80, 160, 300, 300}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Fatalf("waits %v", waits)
		}
	}
	now = now.Add(time.Hour)
	h.taken(now)
	if h.clear(now.Add(homeRetry-1)) || !h.clear(now.Add(homeRetry)) {
		t.Errorf("after an hour the pause is %v", h.pause)
	}
}

// Leadership comes home once the voter there is up and has caught up.
func TestLeadershipComesHome(t *testing.T) {
	members := startGroup(t, 3, "v2")
	eventually(t, "leadership at home", func() bool { return members[1].group.IsLeader() })
	members[1].stop(t)
	away := leaderOf(t, others(members, members[1]))
	away.propose(t, "x")
	members[1].start(t)
	eventually(t, "leadership at home again", func() bool { return members[1].group.IsLeader() })
	if n := members[0].propose(t, "x"); n != 2 {
		t.Errorf("counted %d", n)
	}
}
