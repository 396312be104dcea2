package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"hongyan/engine/atrest"
	"hongyan/engine/journal"
)

// Logs is what all groups of a node keep durably: their entries in one journal, their terms and votes, which are few and must
// be exact, in one bbolt file, as raft-boltdb lays it out.
//
//	DIR/journal/  entries (package journal)
//	DIR/raft.db   terms and votes; a key is the shard as four hexadecimal digits, a slash and raft's name
//
// With a key what entries say is encrypted in the journal, since addresses and subjects of mail are in them; indexes, terms and
// votes are not.
type Logs struct {
	journal *journal.Journal
	stable  *stable
	key     *atrest.Key // nil: in the clear
}

// OpenLogs opens or creates the logs in dir.
func OpenLogs(dir string, key *atrest.Key, log *slog.Logger) (*Logs, error) {
	if err := vfs.Default.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the logs: %w", err)
	}
	// The free list is rebuilt at start instead of being rewritten with each commit.
	opts := &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: time.Second}
	stable, err := openStable(filepath.Join(dir, "raft.db"), opts)
	if err != nil {
		return nil, fmt.Errorf("open terms and votes in %s: %w", dir, err)
	}
	j, err := journal.Open(vfs.Default, filepath.Join(dir, "journal"), journal.Options{Log: log})
	if err == nil {
		err = syncNames(vfs.Default, dir)
		if err != nil {
			err = errors.Join(err, j.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the logs: %w", err), stable.Close())
	}
	return &Logs{journal: j, stable: stable, key: key}, nil
}

// Close closes the logs. The groups have stopped.
func (l *Logs) Close() error {
	if err := errors.Join(l.journal.Close(), l.stable.Close()); err != nil {
		return fmt.Errorf("close the logs: %w", err)
	}
	return nil
}

// Journal counts what the journal did.
func (l *Logs) Journal() journal.Stats { return l.journal.Stats() }

func (l *Logs) group(shard uint32) *groupLog {
	g := &groupLog{log: l.journal.Log(shard), stable: l.stable, prefix: fmt.Sprintf("%04x/", shard)}
	if l.key != nil {
		g.cipher = l.key.Log(fmt.Sprintf("shard %04d", shard))
	}
	return g
}

// groupLog is one group's raft.LogStore and raft.StableStore.
type groupLog struct {
	log    *journal.Log
	cipher *atrest.Log // nil: in the clear
	stable *stable
	prefix string
	recent recent
}

// recent is the entry that was read last. Raft reads the last one of an idle log again and again, to send its index and term.
type recent struct {
	mu      sync.Mutex // guards the rest
	entry   raft.Log   // none if its index is 0
	changes uint64     // of the log
}

const maxRecent = 4 << 10 // bytes of data that are kept

// get gives the entry, if it is that one, and else the number of changes so far.
func (r *recent) get(index uint64) (entry raft.Log, ok bool, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.entry, index != 0 && r.entry.Index == index, r.changes
}

// put keeps an entry that was read when the log had been changed so often, unless it has been changed since.
func (r *recent) put(entry *raft.Log, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes && len(entry.Data)+len(entry.Extensions) <= maxRecent {
		r.entry = *entry
	}
}

// change forgets the entry, before a change of the log and after it.
func (r *recent) change() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entry = raft.Log{}
	r.changes++
}

var (
	_ raft.LogStore    = (*groupLog)(nil)
	_ raft.StableStore = (*groupLog)(nil)
)

// FirstIndex implements raft.LogStore.
func (g *groupLog) FirstIndex() (uint64, error) { return g.log.First(), nil }

// LastIndex implements raft.LogStore.
func (g *groupLog) LastIndex() (uint64, error) { return g.log.Last(), nil }

// GetLog implements raft.LogStore.
func (g *groupLog) GetLog(index uint64, out *raft.Log) error {
	entry, ok, changes := g.recent.get(index)
	if ok {
		*out = entry
		return nil
	}
	e, err := g.log.Get(index)
	if errors.Is(err, journal.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return err
	}
	*out = raft.Log{Index: e.Index, Term: e.Term, Type: raft.LogType(e.Kind), Data: e.Data, Extensions: e.Ext}
	if g.cipher != nil {
		if out.Data, err = g.cipher.Open(e.Data, index); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	if e.Appended != 0 {
		out.AppendedAt = time.Unix(0, e.Appended)
	}
	g.recent.put(out, changes)
	return nil
}

// StoreLog implements raft.LogStore.
func (g *groupLog) StoreLog(entry *raft.Log) error { return g.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. Entries behind a gap, as they come after a snapshot, take the place of all older ones.
func (g *groupLog) StoreLogs(entries []*raft.Log) error {
	list := make([]journal.Entry, len(entries))
	for i, e := range entries {
		list[i] = journal.Entry{Index: e.Index, Term: e.Term, Kind: uint8(e.Type), Data: e.Data, Ext: e.Extensions}
		if g.cipher != nil { // what raft has stays as it is: it is sent to followers meanwhile
			list[i].Data = g.cipher.Seal(e.Data, e.Index)
		}
		if !e.AppendedAt.IsZero() {
			list[i].Appended = e.AppendedAt.UnixNano()
		}
	}
	g.recent.change()
	defer g.recent.change()
	return g.log.Append(list)
}

// DeleteRange implements raft.LogStore. Raft takes entries away at the beginning or at the end, never in the middle.
func (g *groupLog) DeleteRange(from, to uint64) error {
	g.recent.change()
	defer g.recent.change()
	first, last := g.log.First(), g.log.Last()
	switch {
	case last == 0 || to < first || from > last:
		return nil
	case from <= first:
		return g.log.Drop(min(to, last) + 1)
	case to >= last:
		return g.log.Cut(from)
	}
	return fmt.Errorf("delete entries %d to %d of %d to %d: they lie in the middle of the log", from, to, first, last)
}

// Set implements raft.StableStore.
func (g *groupLog) Set(key, value []byte) error { return g.stable.Set(g.key(key), value) }

// Get implements raft.StableStore.
func (g *groupLog) Get(key []byte) ([]byte, error) { return g.stable.Get(g.key(key)) }

// SetUint64 implements raft.StableStore.
func (g *groupLog) SetUint64(key []byte, value uint64) error {
	return g.stable.SetUint64(g.key(key), value)
}

// GetUint64 implements raft.StableStore.
func (g *groupLog) GetUint64(key []byte) (uint64, error) { return g.stable.GetUint64(g.key(key)) }

func (g *groupLog) key(name []byte) []byte { return append([]byte(g.prefix), name...) }
