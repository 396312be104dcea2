package transport_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
)

// sumFSM is a state machine whose state is a running hash, so that replicas are equal only after equal logs. padding
// makes its snapshots large.
type sumFSM struct {
	mu      sync.Mutex
	count   uint64
	sum     [32]byte
	padding int
}

func (f *sumFSM) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	f.sum = sha256.Sum256(append(f.sum[:], l.Data...))
	return f.count
}

func (f *sumFSM) state() (uint64, [32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count, f.sum
}

func (f *sumFSM) Snapshot() (raft.FSMSnapshot, error) {
	count, sum := f.state()
	b := append(binary.LittleEndian.AppendUint64(nil, count), sum[:]...)
	return fsmBytes(append(b, make([]byte, f.padding)...)), nil
}

func (f *sumFSM) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count = binary.LittleEndian.Uint64(b)
	copy(f.sum[:], b[8:40])
	return r.Close()
}

type fsmBytes []byte

func (b fsmBytes) Persist(sink raft.SnapshotSink) error {
	if _, err := io.Copy(sink, bytes.NewReader(b)); err != nil {
		return err
	}
	return sink.Close()
}
func (fsmBytes) Release() {}

// member is one node's replica of a group.
type replica struct {
	*raft.Raft
	fsm *sumFSM
}

const shard = 7

func startReplica(t *testing.T, n *transport.Net, padding int) *replica {
	t.Helper()
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(n.ID())
	config.HeartbeatTimeout, config.ElectionTimeout = 500*time.Millisecond, 500*time.Millisecond
	config.LeaderLeaseTimeout = 400 * time.Millisecond
	config.CommitTimeout = 10 * time.Millisecond
	config.SnapshotThreshold, config.TrailingLogs = 1<<40, 16
	level := hclog.Off
	if os.Getenv("RAFT_LOG") != "" {
		level = hclog.Debug
	}
	config.Logger = hclog.New(&hclog.LoggerOptions{Name: n.ID(), Level: level})
	fsm := &sumFSM{padding: padding}
	store := &aheadStore{InmemStore: raft.NewInmemStore(), group: n.RaftGroup(shard).(aheadSender), slow: time.Millisecond}
	r, err := raft.NewRaft(config, fsm, store, store, raft.NewInmemSnapshotStore(), n.RaftGroup(shard))
	if err != nil {
		t.Fatal(err)
	}
	store.raft.Store(r)
	t.Cleanup(func() {
		n.RaftGroup(shard).(raft.WithClose).Close()
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return &replica{r, fsm}
}

func bootstrap(t *testing.T, r *replica, nets ...*transport.Net) {
	t.Helper()
	var servers []raft.Server
	for _, n := range nets {
		servers = append(servers, raft.Server{ID: raft.ServerID(n.ID()), Address: raft.ServerAddress(n.ID())})
	}
	if err := r.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		t.Fatal(err)
	}
}

func leader(t *testing.T, replicas ...*replica) *replica {
	t.Helper()
	var found *replica
	eventually(t, "a leader is elected", func() bool {
		for _, r := range replicas {
			if r.State() == raft.Leader && r.VerifyLeader().Error() == nil {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// apply commits n entries through whoever leads.
func apply(t *testing.T, n int, replicas ...*replica) {
	t.Helper()
	for done := 0; done < n; {
		l := leader(t, replicas...)
		var futures []raft.ApplyFuture
		for i := done; i < min(n, done+500); i++ {
			futures = append(futures, l.Apply(fmt.Appendf(nil, "entry %d", i), 5*time.Second))
		}
		for _, f := range futures {
			if f.Error() == nil {
				done++
			}
		}
	}
}

func same(t *testing.T, replicas ...*replica) {
	t.Helper()
	eventually(t, "all replicas are equal", func() bool {
		count, sum := replicas[0].fsm.state()
		for _, r := range replicas[1:] {
			if c, s := r.fsm.state(); c != count || s != sum {
				return false
			}
		}
		return true
	})
}

func threeReplicas(t *testing.T) (replicas []*replica, nets []*transport.Net, relays map[string]*relay) {
	nets, relays = relayed(t, nil, "a", "b", "c")
	for _, n := range nets {
		n.Serve()
	}
	for _, n := range nets {
		replicas = append(replicas, startReplica(t, n, 0))
	}
	bootstrap(t, replicas[0], nets...)
	return replicas, nets, relays
}

func TestRaftReplicates(t *testing.T) {
	replicas, _, _ := threeReplicas(t)
	start := time.Now()
	apply(t, 10_000, replicas...)
	t.Logf("10,000 entries in %v", time.Since(start))
	same(t, replicas...)
	if count, _ := replicas[0].fsm.state(); count < 10_000 {
		t.Fatalf("%d entries applied", count)
	}
}

func TestRaftSurvivesConnectionDrops(t *testing.T) {
	replicas, _, relays := threeReplicas(t)
	apply(t, 100, replicas...)
	for range 5 {
		for _, r := range relays {
			r.set(true, false)
			r.set(false, false)
		}
		apply(t, 200, replicas...)
	}
	same(t, replicas...)
}

// A leader that is cut off is replaced; when it comes back it catches up, soon.
func TestRaftFailover(t *testing.T) {
	replicas, _, relays := threeReplicas(t)
	apply(t, 100, replicas...)
	old := leader(t, replicas...)
	var rest []*replica
	for i, id := range []string{"a", "b", "c"} {
		if replicas[i] != old {
			rest = append(rest, replicas[i])
			continue
		}
		for _, other := range []string{"a", "b", "c"} {
			if other != id {
				relays[id+other].set(true, false)
				relays[other+id].set(true, false)
				defer relays[id+other].set(false, false)
				defer relays[other+id].set(false, false)
			}
		}
	}
	start := time.Now()
	apply(t, 100, rest...)
	t.Logf("first commits %v after the leader was cut off", time.Since(start))
	eventually(t, "the old leader steps down", func() bool { return old.State() != raft.Leader })
	time.Sleep(3 * time.Second) // enough for raft to have backed off, had it been failing
	for _, r := range relays {
		r.set(false, false)
	}
	start = time.Now()
	apply(t, 100, replicas...)
	same(t, replicas...)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("caught up only after %v", d)
	}
}

func TestRaftLeadershipTransfer(t *testing.T) {
	replicas, _, _ := threeReplicas(t)
	apply(t, 100, replicas...)
	for range 3 {
		l := leader(t, replicas...)
		if err := l.LeadershipTransfer().Error(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another leads", func() bool { return l.State() != raft.Leader })
		apply(t, 10, replicas...)
	}
	same(t, replicas...)
}

// A node that joins when the log has been cut gets a snapshot, of several megabytes, while commits go on.
func TestRaftInstallsSnapshot(t *testing.T) {
	nets, _ := relayed(t, nil, "a", "b", "c")
	for _, n := range nets {
		n.Serve()
	}
	first := []*replica{startReplica(t, nets[0], 20<<20), startReplica(t, nets[1], 20<<20)}
	bootstrap(t, first[0], nets[0], nets[1])
	apply(t, 1000, first...)
	for _, r := range first { // either may lead when c joins
		if err := r.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	late := startReplica(t, nets[2], 20<<20)
	eventually(t, "c is a voter", func() bool {
		return leader(t, first...).AddVoter("c", "c", 0, 10*time.Second).Error() == nil
	})
	apply(t, 100, first...)
	same(t, first[0], first[1], late)
	if s := late.Stats()["last_snapshot_index"]; s == "0" {
		t.Error("c caught up without a snapshot")
	}
}
