package scenario

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/lab/labtest"
	"hongyan/bench/load"
	"hongyan/bench/report"
)

// launch runs a cluster of three nodes with that many accounts until the test ends. Its volumes age as LaunchOptions.Settle says.
func launch(t testing.TB, accounts int, settle time.Duration) *Env {
	t.Helper()
	h, err := lab.Launch(t.Context(), lab.LaunchOptions{Exe: labtest.Build(t, "../.."), Dir: t.TempDir(), Accounts: accounts, Restart: "never", Settle: settle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := h.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	target, err := load.FromCluster(c)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProgress(t.Output(), false)
	t.Cleanup(p.Close)
	return &Env{Target: target, Lab: h, Progress: p, Log: slog.New(slog.DiscardHandler)}
}

// asPeer is the same cluster as another server, of which nothing but its addresses and processes is known.
func (e *Env) asPeer(t testing.TB) *Env {
	t.Helper()
	pids, err := e.pids()
	if err != nil {
		t.Fatal(err)
	}
	peer := &Env{Target: e.Target, PIDs: pids, Options: e.Options, Progress: e.Progress, Log: e.Log}
	peer.Target.Name = "other"
	peer.Target.Nodes = e.Target.Nodes[:1]
	peer.Target.Accounts = e.Target.Accounts[:len(e.Target.Accounts)/2]
	return peer
}

// measured are the metrics that a scenario promises, and the bounds of what they may be.
type measured struct {
	ids         string // with spaces between
	least, most float64
}

func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for a while")
	}
	e := launch(t, 24, 0)
	for _, run := range []struct {
		scenario Scenario
		options  Options
		peer     bool
		want     []measured
	}{
		{reading, Options{Time: time.Second, Messages: 10, Short: true}, true, []measured{
			{"reading.list50.p50 reading.fetch.p50 reading.select.p50 reading.status.p50 reading.store.p50 reading.search.p50 reading.pop3.p50", 1e-6, 30},
			{"reading.list50.p99 reading.fetch.p99 reading.select.p99 reading.status.p99 reading.store.p99 reading.search.p99 reading.pop3.p99", 1e-6, 30},
			{"reading.rate reading.peer.rate reading.cpu_per_1000", 1e-3, 1e6},
			{"reading.rate.peer_ratio reading.fetch.peer_ratio reading.pop3.peer_ratio", 1e-3, 1e3},
			{"reading.errors.share", 0, 0},
		}},
		{idle, Options{Time: time.Second, Sessions: 30, Rate: 20, Short: true}, false, []measured{
			{"idle.notice.p50 idle.notice.near.p50", 0, 10},
			{"idle.notice.p99 idle.notice.near.p99 idle.notice.far.p50 idle.notice.far.p99 idle.notice.scheduled.p99 idle.notice.wan.p50 idle.notice.wan.p99", 1e-6, 20},
			{"idle.sessions", 30, 30},
			{"idle.memory_per_session", -1e7, 1e7},
			{"idle.cpu idle.cpu.before", 0, 16},
			{"idle.errors.share", 0, 0},
		}},
		{mailbox, Options{Time: time.Second, Messages: 1000, Short: true}, false, []measured{
			{"mailbox.messages", 1000, 1000},
			{"mailbox.select.p50 mailbox.status.p50 mailbox.list50.p50 mailbox.search_header.p50 mailbox.flag.p50 mailbox.deliver.p50", 1e-6, 30},
			{"mailbox.select.p99 mailbox.status.p99 mailbox.list50.p99 mailbox.search_header.p99 mailbox.flag.p99 mailbox.deliver.p99", 1e-6, 30},
			{"mailbox.select.growth mailbox.status.growth mailbox.list50.growth mailbox.search_header.growth mailbox.flag.growth mailbox.deliver.growth", 1e-3, 1e3},
			{"mailbox.fill.rate mailbox.memory.before mailbox.memory.after", 1, 1e10},
			{"mailbox.errors.share", 0, 0},
		}},
	} {
		t.Run(run.scenario.Name, func(t *testing.T) {
			env := *e
			env.Options = run.options
			env.Options.Seed = 1
			if run.peer {
				env.Peer = env.asPeer(t)
			}
			check(t, run.scenario, &env, run.want)
		})
	}
}

// check runs a scenario and holds its section against what it promises.
func check(t *testing.T, s Scenario, e *Env, want []measured) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if why := s.Missing(e); why != "" {
		t.Fatal(why)
	}
	r := report.Report{Sections: []report.Section{s.Section(ctx, e)}}
	section := &r.Sections[0]
	if section.Failed != "" {
		t.Fatalf("failed: %s\n%s", section.Failed, strings.Join(section.Notes, "\n"))
	}
	if section.Scenario != s.Name || section.Summary == "" || len(section.Charts) == 0 || len(section.Tables) == 0 || len(section.Settings) == 0 || len(section.Latencies) == 0 {
		t.Errorf("a part of the section is missing: %+v", section)
	}
	seen := make(map[string]bool)
	for _, m := range section.Metrics {
		if seen[m.ID] {
			t.Errorf("%s is there twice", m.ID)
		}
		seen[m.ID] = true
	}
	for _, w := range want {
		for id := range strings.FieldsSeq(w.ids) {
			switch m := r.Find(id); {
			case m == nil:
				t.Errorf("%s was not measured", id)
			case !(m.Value >= w.least && m.Value <= w.most):
				t.Errorf("%s is %g %s, expected %g to %g\n%s", id, m.Value, m.Unit, w.least, w.most, strings.Join(section.Notes, "\n"))
			}
		}
	}
}
