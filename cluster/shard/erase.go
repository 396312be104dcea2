package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/cluster/wire"
	"hongyan/engine/durable"
	"hongyan/engine/index"
)

// Files in a replica's folder that say what it is.
const (
	joinsName = "joins" // it was made for a group that lived
	goneName  = "gone"  // it is being erased
)

// Replicas lists the shards that have a folder below a node's data directory, those that are being erased apart.
func Replicas(fs vfs.FS, data string) (kept, gone []uint32, err error) {
	root := fs.PathJoin(data, "raft")
	names, err := fs.List(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list replicas: %w", err)
	}
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil { // the journal, terms and votes
			continue
		}
		going, err := exists(fs, fs.PathJoin(root, name, goneName))
		if err != nil {
			return nil, nil, fmt.Errorf("replica of shard %d: %w", n, err)
		}
		if going {
			gone = append(gone, uint32(n))
		} else {
			kept = append(kept, uint32(n))
		}
	}
	slices.Sort(kept)
	return kept, gone, nil
}

func exists(fs vfs.FS, path string) (bool, error) {
	_, err := fs.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// mark makes an empty file that says something by being there.
func mark(fs vfs.FS, dir, name string) error {
	return durable.Replace(fs, fs.PathJoin(dir, name), nil, vfs.WriteCategoryUnspecified)
}

// readMarks reads what the folder says of the replica, and marks one that joins.
func (g *Group) readMarks(fs vfs.FS) error {
	joins, err := exists(fs, fs.PathJoin(g.cfg.Dir, joinsName))
	if err != nil {
		return err
	}
	g.unfilled.Store(joins || g.cfg.Joins)
	if g.cfg.Joins && !joins {
		if err := mark(fs, g.cfg.Dir, joinsName); err != nil {
			return err
		}
	}
	g.floor, err = readFloor(fs, g.cfg.Dir)
	return err
}

// Filled says whether the replica has had all that its leader had at some time: from then on what it lacks is what any replica may lack.
func (g *Group) Filled() bool { return !g.unfilled.Load() && g.Applied() > 0 }

// Fill is to be called when the replica has applied a read index.
func (g *Group) Fill() error {
	if !g.unfilled.Load() {
		return nil
	}
	fs := g.cfg.Logs.fs
	err := fs.Remove(fs.PathJoin(g.cfg.Dir, joinsName))
	if err == nil {
		err = durable.SyncDir(fs, g.cfg.Dir)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("shard %d: replica is filled: %w", g.Shard(), err)
	}
	g.unfilled.Store(false)
	return nil
}

// position is the last entry of a log.
type position struct{ term, index uint64 }

// A replica that is made anew where one was erased must not vote before it has again what that one had: a member that was left behind, and knows of no change
// since, would count both as the same voter. So an erased replica leaves its last position behind, beside its folder.
const floorSuffix = ".floor"

func readFloor(fs vfs.FS, dir string) (p position, err error) {
	f, err := fs.Open(dir + floorSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	var b [16]byte
	_, err = io.ReadFull(f, b[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return p, fmt.Errorf("read %s: %w", dir+floorSuffix, err)
	}
	return position{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, nil
}

// writeFloor raises the floor to a position.
func writeFloor(fs vfs.FS, dir string, p position) error {
	old, err := readFloor(fs, dir)
	if err != nil || !old.before(p) {
		return err
	}
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.term), p.index)
	return durable.Replace(fs, dir+floorSuffix, b, vfs.WriteCategoryUnspecified)
}

func (p position) before(other position) bool {
	return p.term < other.term || p.term == other.term && p.index < other.index
}

// guarded is the part of our transport that keeps a replica from voting.
type guarded interface{ Guard(f func() error) }

// mayVote is an error while the log lacks what an erased replica had here.
func (g *Group) mayVote() error {
	if g.above.Load() {
		return nil
	}
	if !g.started.Load() {
		return wire.Errorf(wire.Unavailable, "shard %d: the replica starts", g.Shard())
	}
	if g.last().before(g.floor) {
		return wire.Errorf(wire.Unavailable, "shard %d: this replica was made anew and lacks what one here had before", g.Shard())
	}
	g.above.Store(true)
	return nil
}

// last is where the replica's log ends, whether it runs or has stopped; what cannot be read counts as term 0.
func (g *Group) last() position {
	have := position{index: g.raft.LastIndex()}
	var last raft.Log
	if err := g.log.GetLog(have.index, &last); err == nil {
		have.term = last.Term
	} else if list, err := g.fsm.snaps.List(); err == nil && len(list) > 0 && list[0].Index == have.index {
		have.term = list[0].Term
	}
	return have
}

// Erase forgets a replica that does not run: its log, its state and its folder. Its term, its vote and its last position stay, for one that is made here
// again must not vote twice in a term, nor for whom it would not have voted. A crash leaves the folder marked, and Erase is to be called again before Start.
func Erase(logs *Logs, dir string, shard uint32, store *index.Shard) error {
	fs := logs.fs
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("erase replica of shard %d: %w", shard, err)
	}
	if err := mark(fs, dir, goneName); err != nil {
		return fmt.Errorf("erase replica of shard %d: %w", shard, err)
	}
	// A record that cannot be read says nothing: what is damaged is to be erased, too.
	if r, err := readRecord(logs.key.FS(fs), fs.PathJoin(dir, snapshotDir)); err == nil && r != nil {
		if err := writeFloor(fs, dir, position{r.Term, r.Index}); err != nil {
			return fmt.Errorf("erase replica of shard %d: %w", shard, err)
		}
	}
	l := logs.journal.Log(shard)
	if last := l.Last(); last > 0 {
		e, err := l.Get(last)
		if err == nil {
			err = writeFloor(fs, dir, position{e.Term, e.Index})
		}
		if err != nil {
			return fmt.Errorf("erase replica of shard %d: %w", shard, err)
		}
		if err := l.Drop(last + 1); err != nil {
			return fmt.Errorf("erase replica of shard %d: %w", shard, err)
		}
	}
	if err := store.Clear(); err != nil {
		return fmt.Errorf("erase replica of shard %d: %w", shard, err)
	}
	if err := fs.RemoveAll(dir); err != nil {
		return fmt.Errorf("erase replica of shard %d: %w", shard, err)
	}
	if err := durable.SyncDir(fs, fs.PathDir(dir)); err != nil {
		return fmt.Errorf("erase replica of shard %d: %w", shard, err)
	}
	return nil
}
