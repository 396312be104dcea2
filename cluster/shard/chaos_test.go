package shard

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/pause"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

var (
	chaosSeed = flag.Uint64("chaos.seed", 1, "of TestChaos")
	chaosTime = flag.Duration("chaos.time", 5*time.Second, "of TestChaos")
)

// chaos is a group under which the ground moves, and what its clients were told.
type chaos struct {
	t       *testing.T
	members []*member
	disks   []*vfs.MemFS // of the indexes

	mu    sync.RWMutex // held while a member stops or starts, and read while one is looked into
	acked sync.Map     // names
	tried sync.Map
}

// Members stop with power cut under their index and come back, leadership moves and is stolen, replies are lost, logs are cut so short that
// snapshots travel. What was acknowledged is there once and is seen by every later read; what was not, at most once; and
// the replicas are the same, byte for byte.
func TestChaos(t *testing.T) {
	c := &chaos{t: t, members: startGroup(t, 3)}
	for _, m := range c.members {
		m.stop(t)
		must(t, m.db.Close())
		disk := vfs.NewCrashableMem()
		c.disks = append(c.disks, disk)
		m.db = openIndex(t, disk)
		c.start(m)
	}
	leaderOf(t, c.members)
	ctx, cancel := context.WithTimeout(t.Context(), *chaosTime)
	defer cancel()
	var work sync.WaitGroup
	for w := range 6 {
		rng := rand.New(rand.NewPCG(*chaosSeed, uint64(w)))
		work.Go(func() { c.write(ctx, w, rng) })
	}
	for r := range 3 {
		rng := rand.New(rand.NewPCG(*chaosSeed, uint64(100+r)))
		work.Go(func() { c.read(ctx, rng) })
	}
	c.disturb(ctx, rand.New(rand.NewPCG(*chaosSeed, 1000)))
	work.Wait()
	c.settle()
}

// start starts a member whose log stays short.
func (c *chaos) start(m *member) {
	m.cfg.Store = m.db.Shard(testShard)
	m.start(c.t)
	must(c.t, m.group.raft.ReloadConfig(raft.ReloadableConfig{
		TrailingLogs: 8, SnapshotInterval: 50 * time.Millisecond, SnapshotThreshold: 16,
		HeartbeatTimeout: heartbeatTimeout, ElectionTimeout: heartbeatTimeout,
	}))
}

// write proposes names of its own, one or several in an entry; each once, however often the router does.
func (c *chaos) write(ctx context.Context, w int, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		var names [][]byte
		for n := range 1 + rng.IntN(3) {
			names = append(names, fmt.Appendf(nil, "w%d-%d-%d", w, i, n))
			c.tried.Store(string(names[n]), true)
		}
		m := c.members[rng.IntN(len(c.members))]
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		counts := [][]byte{nil}
		var err error
		if len(names) == 1 {
			counts[0], _, err = m.router.Propose(try, testShard, names[0], ForPeople)
		} else {
			counts, _, err = m.router.ProposeAll(try, testShard, feature.Moves, names, ForPeople)
		}
		cancel()
		if err != nil {
			continue
		}
		for i, b := range counts {
			if count(b) != 1 {
				c.t.Errorf("%s was applied %d times", names[i], count(b))
			}
			c.acked.Store(string(names[i]), true)
		}
	}
}

// read holds a replica that has reached a read index against what had been acknowledged before that was asked for.
func (c *chaos) read(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		var before []string
		c.acked.Range(func(name, _ any) bool { before = append(before, name.(string)); return true })
		m := c.members[rng.IntN(len(c.members))]
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		if at, err := m.router.ReadIndex(try, testShard); err == nil {
			c.look(try, m, at, before)
		}
		cancel()
	}
}

func (c *chaos) look(ctx context.Context, m *member, at uint64, names []string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if m.group == nil || m.group.WaitApplied(ctx, at) != nil {
		return
	}
	for _, name := range names {
		if n, err := lookUp(m.cfg.Store, name); err == nil && n != 1 { // an error: a snapshot came in between
			c.t.Errorf("%s is there %d times on %s at %d", name, n, m.id, at)
		}
	}
}

// disturb does one thing after the other, and never stops more than one member.
func (c *chaos) disturb(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		i := rng.IntN(len(c.members))
		m := c.members[i]
		switch rng.IntN(5) {
		case 0, 1:
			c.mu.Lock()
			m.stop(c.t)
			c.crash(i, rng)
			c.mu.Unlock()
			pause.For(ctx, time.Duration(rng.IntN(700))*time.Millisecond)
			c.mu.Lock()
			c.start(m)
			c.mu.Unlock()
		case 2:
			for _, l := range c.members {
				if l.group.IsLeader() && l != m {
					_ = l.group.handOver(ctx, m.id) // may well fail
				}
			}
		case 3:
			_ = m.cfg.Transport.(elector).Elect(ctx, 0, nil) // may be too late
		case 4:
			m.peers.set(nil, func(_, method string) bool { return method == MethodPropose && rand.IntN(3) == 0 })
			pause.For(ctx, 200*time.Millisecond)
			m.peers.set(nil, nil)
		}
		pause.For(ctx, time.Duration(rng.IntN(300))*time.Millisecond)
	}
}

// crash takes from a stopped member's index what was not fsynced, or a part of that.
func (c *chaos) crash(i int, rng *rand.Rand) {
	after := c.disks[i].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	must(c.t, c.members[i].db.Close())
	c.disks[i] = after
	c.members[i].db = openIndex(c.t, after)
}

// settle waits until all replicas stand at the same entry, and compares.
func (c *chaos) settle() {
	c.t.Helper()
	leaderOf(c.t, c.members).propose(c.t, "last")
	eventually(c.t, "all at one entry", func() bool {
		at := c.members[0].group.Applied()
		return c.members[1].group.Applied() == at && c.members[2].group.Applied() == at
	})
	var first []byte
	snapshots := int64(0)
	for _, m := range c.members {
		must(c.t, m.group.Err())
		snapshots += m.machine.reloaded.Load()
		var b bytes.Buffer
		_, err := m.cfg.Store.Save(&b)
		must(c.t, err)
		if first == nil {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			c.t.Errorf("%s has another state", m.id)
		}
	}
	acked, tried := 0, 0
	c.tried.Range(func(name, _ any) bool {
		_, told := c.acked.Load(name)
		n := stored(c.t, c.members[0].cfg.Store, name.(string))
		if n > 1 || told && n != 1 {
			c.t.Errorf("%s, acknowledged %v, is there %d times", name, told, n)
		}
		tried++
		if told {
			acked++
		}
		return true
	})
	c.t.Logf("%d of %d acknowledged, %d snapshots installed", acked, tried, snapshots)
	if acked == 0 {
		c.t.Error("nothing was ever acknowledged")
	}
}
