package shard

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/cluster/placement"
	"hongyan/engine/codec"
	"hongyan/engine/durable"
)

// Dir is where a replica keeps its log, below a node's data directory.
func Dir(data string, shard uint32) string {
	return filepath.Join(data, "raft", fmt.Sprintf("%04d", shard))
}

// termsEach is how many terms a second of time stands for: more than elections need, and few enough that no term is beyond what a float64 holds exactly.
const termsEach = 1 << 20

// foundingTerm is the term of a founded group's state, above all that a replica from before can have: one that was left out and comes back with its old log
// must lose every election and be overwritten. Time puts a group that is founded again above the one before, and where the clock is wrong the entry does, which a
// rebuild counts 2^32 further.
func foundingTerm(applied uint64, at time.Time) uint64 {
	return max(applied, uint64(max(at.Unix(), 0))*termsEach)
}

// Found prepares dir, which must be new, for a replica that begins with a state instead of a log: one that was rebuilt, is the
// same on all replicas, holds entries up to applied, and is durable in the index. at is when it was rebuilt, the same for all. It is not for groups that live:
// what their members promised each other is in their logs.
func Found(logs *Logs, dir string, g placement.Group, applied uint64, at time.Time) error {
	term := foundingTerm(applied, at)
	b, err := codec.Marshal(&snapshotRecord{
		Version: int(raft.SnapshotVersionMax), Index: applied, Term: term, Configuration: raft.EncodeConfiguration(membership(g)),
		ConfigIndex: applied, Applied: applied,
	})
	if err != nil {
		return err
	}
	// First: elections begin behind the state's term.
	if err := logs.group(g.Shard).SetUint64([]byte("CurrentTerm"), term); err != nil { // raft's name for it
		return fmt.Errorf("found shard %d: write its term: %w", g.Shard, err)
	}
	fs := logs.key.FS(logs.fs)
	folder := fs.PathJoin(dir, snapshotDir)
	if err := fs.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	if err := durable.Replace(fs, fs.PathJoin(folder, recordName), b, vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	if err := syncNames(fs, dir); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	return nil
}
