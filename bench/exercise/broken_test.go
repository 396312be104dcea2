package exercise

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/engine/effort"
)

// faultVariable selects the fault of the broken build. One build has them all: linking takes longer than a run.
const faultVariable = "HONGYAN_TEST_FAULT"

// faults are what a mail system must not do, and the rules that it breaks then.
var faults = []struct {
	name  string
	patch patch
	rules []string // at least one of them
	crash bool     // seen only behind a crash of all nodes
}{
	{
		name: "250 before the commit", rules: []string{"lost"}, crash: true,
		patch: patch{
			file: "cluster/client/early.go",
			old:  `e.take(m.propose(ctx, e.shard, e.id, e.command(m.message, early)))`,
			new: `switch fault := os.Getenv("` + faultVariable + `"); {
			case fault == "250 before the commit" && !e.appends:
				go func() {
					time.Sleep(200 * time.Millisecond)
					_, _ = m.propose(context.WithoutCancel(ctx), e.shard, e.id, e.command(m.message, early))
				}()
			case fault == "doubled delivery" && e.id[0]%3 == 0 && !e.appends:
				e.take(m.propose(ctx, e.shard, e.id, e.command(m.message, early)))
				_, _ = m.propose(ctx, e.shard, shard.NewRequestID(), e.command(m.message, early))
			default:
				e.take(m.propose(ctx, e.shard, e.id, e.command(m.message, early)))
			}`,
		},
	},
	{name: "doubled delivery", rules: []string{"doubled"}},
	{
		name: "lost flag", rules: []string{"flags", "resurrected"},
		patch: patch{
			file: "cluster/mailbox/machine.go",
			old:  `return m.storeIn(t, c.Store, index.AllFlags())`,
			new: `if os.Getenv("` + faultVariable + `") == "lost flag" && now%2 == 0 && c.Store.Op == uint8(index.OpAdd) {
			return &Result{}, nil
		}
		return m.storeIn(t, c.Store, index.AllFlags())`,
		},
	},
	{
		name: "stale read", rules: []string{"stale"},
		patch: patch{
			file: "cluster/client/query.go",
			old:  `if strong {`,
			new:  `if strong && os.Getenv("` + faultVariable + `") != "stale read" {`,
		},
	},
}

// TestBrokenBuildsAreCaught breaks the program in four ways (three of them only in the nightly run), one after the other, and has the checker find each in the ordeal that
// the sound program passes.
func TestBrokenBuildsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("runs five clusters for a minute")
	}
	sound := build(t)
	patches := []patch{
		{"cluster/client/early.go", "\t\"errors\"\n", "\t\"errors\"\n\t\"os\"\n"},
		{"cluster/client/early.go", "\t\"sync\"\n", "\t\"sync\"\n\t\"time\"\n"},
		{"cluster/client/query.go", "\t\"io\"\n", "\t\"io\"\n\t\"os\"\n"},
		{"cluster/mailbox/machine.go", "\t\"errors\"\n", "\t\"errors\"\n\t\"os\"\n"},
	}
	for _, f := range faults {
		if f.patch.file != "" {
			patches = append(patches, f.patch)
		}
	}
	broken := build(t, patches...)
	t.Run("sound", func(t *testing.T) {
		for _, v := range ordeal(t, startCluster(t, sound), killAll) {
			t.Error(v)
		}
	})
	for i, f := range faults {
		if !effort.Nightly() && i > 0 {
			continue // a quarter of a minute each
		}
		t.Run(f.name, func(t *testing.T) {
			t.Setenv(faultVariable, f.name) // the nodes have it from here
			crash := killAll
			if !f.crash {
				crash = nil
			}
			found := ordeal(t, startCluster(t, broken), crash)
			t.Log(summary(found))
			if !slices.ContainsFunc(found, func(v history.Violation) bool { return slices.Contains(f.rules, v.Rule) }) {
				t.Errorf("none of %v among %d violations", f.rules, len(found))
			}
			shown := map[string]bool{}
			for _, v := range found {
				if !shown[v.Rule] {
					t.Log(v)
				}
				shown[v.Rule] = true
			}
		})
	}
}

// How long an ordeal is: until so many operations were noted, however slow the machine.
const (
	enoughOperations = 500
	longestOrdeal    = 2 * time.Minute
)

// ordeal exercises a cluster while nodes stop for a moment in turn, then crashes it if there is a way to, under load, and checks everything.
func ordeal(t *testing.T, c *cluster, crash func(*cluster, *history.History, load.Target)) []history.Violation {
	t.Helper()
	h := history.New()
	ctx, end := context.WithTimeout(context.Background(), longestOrdeal)
	defer end()
	target := c.target()
	var work sync.WaitGroup
	work.Go(func() {
		stats, err := Run(ctx, Options{Target: target, History: h, Seed: 1, Clients: 5, Mailboxes: 2, Timeout: 5 * time.Second})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%+v", stats)
	})
	for i := 0; h.Len() < enoughOperations && ctx.Err() == nil; i++ {
		time.Sleep(200 * time.Millisecond)
		n := c.nodes[i%len(c.nodes)]
		c.signal(syscall.SIGSTOP, n)
		time.Sleep(200 * time.Millisecond) // an election takes longer
		c.signal(syscall.SIGCONT, n)
	}
	if crash != nil {
		crash(c, h, target)
	}
	end()
	work.Wait()
	if crash != nil {
		c.stop()
		c.start()
	}
	ctx, end = context.WithTimeout(context.Background(), longestOrdeal)
	defer end()
	if err := Final(ctx, c.target(), h); err != nil {
		t.Error(err)
	}
	c.stop()
	began := time.Now()
	found := h.Check(ctx, history.CheckOptions{})
	t.Logf("%d operations checked in %s: %d violations", h.Len(), time.Since(began).Round(time.Millisecond), len(found))
	return found
}

// killAll kills every node at once, as a power cut does whose disks keep what was written, right after some more deliveries by many senders
// were acknowledged.
func killAll(c *cluster, h *history.History, target load.Target) {
	r, err := newRun(Options{Target: target, History: h, Mailboxes: 2, Timeout: 5 * time.Second, Tag: "storm"})
	if err != nil {
		c.Fatal(err)
	}
	ctx, end := context.WithTimeout(context.Background(), longestOrdeal)
	defer end()
	var senders sync.WaitGroup
	for i := range 6 {
		s := &client{run: r, name: fmt.Sprintf("storm%d", i+1), random: rand.New(rand.NewPCG(2, uint64(i))), senders: map[string]*sender{}}
		senders.Go(func() {
			defer s.hangUp()
			for ctx.Err() == nil {
				s.deliver(s.node(s.random, ""), r.boxes[0])
			}
		})
	}
	for enough := h.Acknowledged() + 60; h.Acknowledged() < enough && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	c.signal(syscall.SIGKILL, c.nodes...)
	end()
	senders.Wait()
}

// summary counts violations by rule.
func summary(found []history.Violation) map[string]int {
	out := map[string]int{}
	for _, v := range found {
		out[v.Rule]++
	}
	return out
}
