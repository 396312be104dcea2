package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/bench/history"
	"hongyan/bench/lab/labtest"
	"hongyan/cluster/feature"
	"hongyan/cluster/upgrade"
	"hongyan/engine/effort"
)

// TestRollingUpgrade runs a cluster of an older program, updates it node by node while mail comes in, and goes back once in between. The feature level comes
// with the last node, and then the older program is refused. By day the node that leads the directory is updated last; nightly first as well.
//
// The older program is this source with a lower level. HONGYAN_OLD names another one, such as a build of an earlier commit.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for half a minute")
	}
	bin, old := labtest.Build(t, "../.."), os.Getenv("HONGYAN_OLD")
	if old == "" {
		old = labtest.Build(t, "../..", "-ldflags=-X hongyan/cluster/feature.cap=1")
	}
	t.Run("leader last", func(t *testing.T) { rollingUpgrade(t, bin, old, false) })
	if effort.Nightly() {
		t.Run("leader first", func(t *testing.T) { rollingUpgrade(t, bin, old, true) })
	}
}

func rollingUpgrade(t *testing.T, bin, old string, leaderFirst bool) {
	r := &upgradeRun{crashRun{t: t, bin: bin, program: old, dir: t.TempDir(), history: history.New(), strict: true}}
	r.start()
	r.sendWhile(func() {
		var updated []string
		for range r.cluster.Nodes {
			n := r.next(updated, leaderFirst)
			if len(updated) == 1 {
				r.restart(updated[0], old)
				r.restart(updated[0], bin)
			}
			if s := r.status(updated); s.Level != feature.Base {
				t.Errorf("level %s, with %v updated", s.Name, updated)
			}
			r.restart(n, bin)
			updated = append(updated, n)
		}
		eventuallyWithin(t, 30*time.Second, "the level rises", func() bool { return r.status(updated).Level == feature.Newest() })
		r.refusesOld(updated[2], old, updated[0])
	})
	r.verify("")
	r.stop()
	t.Logf("%d messages acknowledged, longest stall %v", r.history.Acknowledged(), r.worst.Round(time.Millisecond))
}

type upgradeRun struct{ crashRun }

// sendWhile keeps three senders busy while f runs.
func (r *upgradeRun) sendWhile(f func()) {
	stop, last := make(chan struct{}), time.Now()
	r.last = last
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond): // the machine has other work
					r.deliver(30 * time.Second)
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	f()
}

// take says that a node is taken away; with "" that none is.
func (r *upgradeRun) take(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away, r.back = node, time.Now()
}

// restart has a node run another program.
func (r *upgradeRun) restart(node, program string) {
	r.t.Helper()
	began := time.Now()
	r.take(node)
	r.control("stop", node)
	r.control("start", node, "--program", program)
	r.take("")
	r.t.Logf("%s runs %s after %v", node, filepath.Base(filepath.Dir(program)), time.Since(began).Round(time.Millisecond))
}

// next is a node that is not updated yet: the one that leads the directory, or rather another.
func (r *upgradeRun) next(updated []string, leader bool) string {
	r.t.Helper()
	st, err := GetStatus(r.dir)
	var view clusterView
	if err == nil {
		err = json.Unmarshal(st.Cluster, &view)
	}
	if err != nil || len(view.Shards) == 0 {
		r.t.Fatalf("status of the cluster: %v", err)
	}
	var left []string
	for _, n := range r.cluster.Nodes {
		if !slices.Contains(updated, n.ID) {
			left = append(left, n.ID)
		}
	}
	for _, id := range left {
		if (id == view.Shards[0].Leader) == leader {
			return id
		}
	}
	return left[0]
}

// status is what the first of some nodes that know levels says.
func (r *upgradeRun) status(updated []string) *upgrade.Status {
	r.t.Helper()
	if len(updated) == 0 {
		return &upgrade.Status{Level: feature.Base}
	}
	c := r.reread()
	i := slices.IndexFunc(c.Nodes, func(n Member) bool { return n.ID == updated[0] })
	out, err := exec.Command(r.bin, "admin", "upgrade", "--json", "--server", c.Nodes[i].HTTP, "--token", c.AdminToken).Output()
	s := new(upgrade.Status)
	if err == nil {
		err = json.Unmarshal(out, s)
	}
	if err != nil {
		r.t.Fatalf("admin upgrade: %v: %s", err, out)
	}
	return s
}

// refusesOld starts a node with the older program, which is to say why it ends, or to be refused by the others, and then with its own again.
func (r *upgradeRun) refusesOld(node, old, witness string) {
	r.t.Helper()
	r.take(node)
	r.control("stop", node)
	start := exec.Command(r.bin, "dev", "start", node, "--program", old, "--dir", r.dir)
	if err := start.Start(); err != nil {
		r.t.Fatal(err)
	}
	var log []byte
	eventuallyWithin(r.t, 30*time.Second, "the older program is refused, with a reason", func() bool {
		log, _ = os.ReadFile(filepath.Join(r.dir, node, "node.log")) // it is there, since the node has run
		for _, n := range r.status([]string{witness}).Nodes {
			if n.ID == node && strings.Contains(n.Why, fmt.Sprintf("update %s to a program of level %d", node, feature.Newest())) {
				return true
			}
		}
		return strings.Contains(string(log), fmt.Sprintf("the program of this node knows level 1 (base) at most: update it to a program of level %d", feature.Newest()))
	})
	_ = exec.Command(r.bin, "dev", "stop", node, "--dir", r.dir).Run() // it may have ended by itself
	if err := start.Wait(); err == nil {
		r.t.Errorf("node %s serves with the older program", node)
	}
	r.control("start", node, "--program", r.bin)
	r.take("")
}
