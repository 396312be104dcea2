package shard

import (
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/cluster/placement"
	"hongyan/engine/codec"
	"hongyan/engine/durable"
)

// foundingTerm is the term of a founded group's state. Elections begin behind it.
const foundingTerm = 1

// Dir is where a replica keeps its log, below a node's data directory.
func Dir(data string, shard uint32) string {
	return filepath.Join(data, "raft", fmt.Sprintf("%04d", shard))
}

// Found prepares dir, which must be new, for a replica that begins with a state instead of a log: one that was rebuilt, is the
// same on all replicas, holds entries up to applied, and is durable in the index. It is not for groups that live: what their
// members promised each other is in their logs.
func Found(fs vfs.FS, dir string, g placement.Group, applied uint64) error {
	b, err := codec.Marshal(&snapshotRecord{
		Version: int(raft.SnapshotVersionMax), Index: applied, Term: foundingTerm, Configuration: raft.EncodeConfiguration(membership(g)),
		ConfigIndex: applied, Applied: applied,
	})
	if err != nil {
		return err
	}
	at := fs.PathJoin(dir, "snapshot")
	if err := fs.MkdirAll(at, 0o700); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	if err := durable.Replace(fs, fs.PathJoin(at, recordName), b, vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	if err := syncNames(fs, dir); err != nil {
		return fmt.Errorf("found shard %d: %w", g.Shard, err)
	}
	return nil
}
