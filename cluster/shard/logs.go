package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
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
	fs      vfs.FS // of the journal, and of the groups' snapshot records
	journal *journal.Journal
	stable  func(shard uint32) raft.StableStore // terms and votes
	close   func() error                        // that store
	key     *atrest.Key                         // nil: in the clear
}

// lockWait is how long another process is waited for that has the terms and votes open.
const lockWait = time.Second

// OpenLogs opens or creates the logs in dir. A *DamagedError means that they lack something of what the node has promised.
func OpenLogs(dir string, key *atrest.Key, log *slog.Logger) (*Logs, error) {
	if err := vfs.Default.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the logs: %w", err)
	}
	if err := checkLogs(dir); err != nil {
		return nil, err
	}
	// The free list is rebuilt at start instead of being rewritten with each commit.
	opts := &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: lockWait}
	db, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, termsName), BoltOptions: opts, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, fmt.Errorf("open terms and votes in %s: %w", dir, err)
	}
	j, err := journal.Open(vfs.Default, filepath.Join(dir, journalName), journal.Options{Log: log})
	if err == nil {
		err = syncNames(vfs.Default, dir)
		if err != nil {
			err = errors.Join(err, j.Close())
		}
	}
	if err != nil {
		if corrupt := (*journal.CorruptError)(nil); errors.As(err, &corrupt) {
			err = &DamagedError{Dir: dir, Why: err}
		}
		return nil, errors.Join(fmt.Errorf("open the logs: %w", err), db.Close())
	}
	t := &terms{db: db}
	l := &Logs{fs: vfs.Default, journal: j, stable: func(shard uint32) raft.StableStore { return groupTerms{t, shard} }, close: db.Close, key: key}
	if err := l.checkVotes(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open the logs: %w", err), l.Close())
	}
	return l, nil
}

// Close closes the logs. The groups have stopped.
func (l *Logs) Close() error {
	if err := errors.Join(l.journal.Close(), l.close()); err != nil {
		return fmt.Errorf("close the logs: %w", err)
	}
	return nil
}

// Journal counts what the journal did.
func (l *Logs) Journal() journal.Stats { return l.journal.Stats() }

// Failed is why the journal takes nothing any more, nil if it does.
func (l *Logs) Failed() error { return l.journal.Failed() }

// Stalled is how long the journal's write that is under way has taken, 0 while there is none.
func (l *Logs) Stalled() time.Duration { return l.journal.Stalled() }

// Longest is how long the journal's longest write took that has ended since Longest was asked last, 0 if none has.
func (l *Logs) Longest() time.Duration { return l.journal.Longest() }

func (l *Logs) group(shard uint32) *groupLog {
	g := &groupLog{StableStore: l.stable(shard), log: l.journal.Log(shard)}
	if l.key != nil {
		g.cipher = l.key.Log(fmt.Sprintf("shard %04d", shard))
	}
	return g
}

// groupLog is one group's raft.LogStore and raft.StableStore.
type groupLog struct {
	raft.StableStore
	log    *journal.Log
	cipher *atrest.Log // nil: in the clear
	recent recent
	ahead  func([]*raft.Log) // is shown what is about to be stored; may be nil
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
	if e, ok := g.recent.get(index); ok {
		*out = *e
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
	return nil
}

// StoreLog implements raft.LogStore.
func (g *groupLog) StoreLog(entry *raft.Log) error { return g.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. Entries behind a gap, as they come after a snapshot, take the place of all older ones.
func (g *groupLog) StoreLogs(entries []*raft.Log) error {
	if g.ahead != nil && len(entries) > 0 {
		g.ahead(entries)
	}
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
	if err := g.log.Append(list); err != nil {
		g.recent.forget() // it may have replaced some of them
		return err
	}
	if len(entries) > 0 {
		g.recent.add(entries)
	}
	return nil
}

// DeleteRange implements raft.LogStore. Raft takes entries away at the beginning or at the end, never in the middle.
//
// At the end it does so only to store others in their place right afterwards, which replaces them in one write: so nothing is written here. Were they gone and the others
// could not be stored, the log would end before the entry that raft takes for its last, and what it stores next would lie behind a gap.
func (g *groupLog) DeleteRange(from, to uint64) error {
	g.recent.forget()
	first, last := g.log.First(), g.log.Last()
	switch {
	case last == 0 || to < first || from > last:
		return nil
	case from <= first:
		return g.log.Drop(min(to, last) + 1)
	case to >= last:
		return nil
	}
	return fmt.Errorf("delete entries %d to %d of %d to %d: they lie in the middle of the log", from, to, first, last)
}
