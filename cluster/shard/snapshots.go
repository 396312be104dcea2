package shard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"hongyan/engine/codec"
	"hongyan/engine/durable"
	"hongyan/engine/index"
)

// snapshotStore is the raft.SnapshotStore of a state machine that lives on disk.
//
// A snapshot that this replica takes is only a few bytes: the index up to which its state is
// flushed. What is sent to a follower is read from the index at that moment and may be newer than these
// bytes say; the follower's state machine passes over the entries that it then already holds. What is listed
// never goes back: raft takes snapshots in one goroutine and installs those of others in another.
//
// A snapshot arrives in steps, and a crash after each leaves a replica that can go on:
//
//  1. It goes to a file. A crash leaves the old state; the file is removed.
//  2. It replaces the state in the index. A crash leaves a state that is ahead of the log.
//  3. It is listed.
//  4. The log is dropped, unless it continues the snapshot: it may hold entries of a leader that lost. What a
//     crash kept is dropped at start.
//
// The files:
//
//	DIR/snapshot       what is listed (codec, temporary name and rename)
//	DIR/received.tmp   arriving, or waiting to be installed; removed at start
//	DIR/outgoing-*.tmp being sent; removed at start
type snapshotStore struct {
	fs    vfs.FS
	dir   string
	store *index.Shard
	logs  raft.LogStore

	mu      sync.Mutex // guards the fields below
	current *snapshotRecord
	pending *snapshotRecord
	serial  int
}

// snapshotRecord is the file DIR/snapshot.
type snapshotRecord struct {
	Version       int    `cbor:"1,keyasint"` // of raft's snapshot format
	Index         uint64 `cbor:"2,keyasint"`
	Term          uint64 `cbor:"3,keyasint"`
	Configuration []byte `cbor:"4,keyasint"` // raft.EncodeConfiguration
	ConfigIndex   uint64 `cbor:"5,keyasint"`
	Applied       uint64 `cbor:"6,keyasint,omitempty"` // in the flushed state: Index may be of a barrier, which no state holds
	size          int64  // of a received file
}

const (
	snapshotDir  = "snapshot" // in a replica's folder
	recordName   = "snapshot"
	receivedName = "received.tmp"
	// pendingID and currentID are the only names that snapshots have here.
	pendingID = "received"
	currentID = "current"
)

// openSnapshots opens or creates dir and ends what a crash left half done.
func openSnapshots(fs vfs.FS, dir string, shard uint32, store *index.Shard, logs raft.LogStore) (*snapshotStore, error) {
	s := &snapshotStore{fs: fs, dir: dir, store: store, logs: logs}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	for _, n := range names {
		if n != recordName {
			if err := fs.Remove(fs.PathJoin(dir, n)); err != nil {
				return nil, fmt.Errorf("remove leftover %s: %w", n, err)
			}
		}
	}
	if s.current, err = readRecord(fs, dir); err != nil || s.current == nil {
		return s, err
	}
	applied, err := store.Applied()
	if err != nil {
		return nil, err
	}
	if applied < s.current.Applied {
		return nil, &LostError{Shard: shard, Has: applied, Least: s.current.Applied}
	}
	return s, s.dropLog(s.current)
}

// readRecord gives what is listed in dir, nil if nothing is.
func readRecord(fs vfs.FS, dir string) (*snapshotRecord, error) {
	b, err := readFile(fs, fs.PathJoin(dir, recordName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	r := new(snapshotRecord)
	if err == nil {
		err = codec.Unmarshal(b, r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the snapshot record in %s: %w", dir, err)
	}
	return r, nil
}

// dropLog is step 4.
func (s *snapshotStore) dropLog(rec *snapshotRecord) error {
	first, errFirst := s.logs.FirstIndex()
	last, errLast := s.logs.LastIndex()
	if err := errors.Join(errFirst, errLast); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if last == 0 || first > rec.Index {
		return nil
	}
	var at raft.Log
	err := s.logs.GetLog(rec.Index, &at)
	if err == nil && at.Term == rec.Term {
		return nil // so that all before it is the same, too
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return fmt.Errorf("read log entry %d: %w", rec.Index, err)
	}
	if err := s.logs.DeleteRange(first, last); err != nil {
		return fmt.Errorf("drop the log that a snapshot replaced: %w", err)
	}
	return nil
}

func readFile(fs vfs.FS, path string) (b []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// Create implements raft.SnapshotStore, for a snapshot of our own and for one that arrives.
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	rec := &snapshotRecord{Version: int(v), Index: index, Term: term, Configuration: raft.EncodeConfiguration(c), ConfigIndex: configIndex}
	return &snapshotSink{owner: s, record: rec}, nil
}

// listed is what is listed, the zero record if nothing is.
func (s *snapshotStore) listed() snapshotRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return snapshotRecord{}
	}
	return *s.current
}

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{s.current.meta(currentID)}, nil
}

func (r *snapshotRecord) meta(id string) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersion(r.Version), ID: id, Index: r.Index, Term: r.Term,
		Configuration: raft.DecodeConfiguration(r.Configuration), ConfigurationIndex: r.ConfigIndex, Size: r.size,
	}
}

// Open implements raft.SnapshotStore: the received file for its installation, or the state as
// it is now, spooled to a file since the receiver wants to know the size beforehand.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	rec, name := s.current, ""
	if id == pendingID {
		rec, name = s.pending, receivedName
	} else {
		s.serial++
		name = fmt.Sprintf("outgoing-%d.tmp", s.serial)
	}
	s.mu.Unlock()
	if rec == nil {
		return nil, nil, fmt.Errorf("open snapshot %q in %s: %w", id, s.dir, os.ErrNotExist)
	}
	path := s.fs.PathJoin(s.dir, name)
	meta := rec.meta(id)
	if id != pendingID {
		size, err := s.spool(path)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("spool a snapshot: %w", err), s.fs.Remove(path))
		}
		meta.Size = size
	}
	f, err := s.fs.Open(path)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open snapshot %s: %w", path, err), s.fs.Remove(path))
	}
	return meta, &spooled{File: f, fs: s.fs, path: path}, nil
}

func (s *snapshotStore) spool(path string) (size int64, err error) {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := s.store.Save(f); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// spooled is a snapshot file that is gone once it has been read.
type spooled struct {
	vfs.File
	fs     vfs.FS
	path   string
	closed bool
}

// Close may be called twice: raft does so after an installation.
func (s *spooled) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.File.Close(), s.fs.Remove(s.path))
}

// installed is steps 3 and 4 for the received snapshot: the state up to applied is durable in the index.
func (s *snapshotStore) installed(applied uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.pending
	if rec == nil {
		return errors.New("no snapshot was being installed")
	}
	s.pending = nil
	rec.Applied = applied
	if s.current == nil || s.current.Index < rec.Index {
		if err := s.list(rec); err != nil {
			return err
		}
	}
	return s.dropLog(rec)
}

// taken lists a snapshot of this replica's own. A newer one may have arrived meanwhile.
func (s *snapshotStore) taken(rec *snapshotRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.current == nil || s.current.Index < rec.Index:
		return s.list(rec)
	case s.current.Index == rec.Index:
		return nil
	}
	return fmt.Errorf("snapshot of entry %d is not needed: that of %d was installed", rec.Index, s.current.Index)
}

// list writes the record durably. The caller holds mu.
func (s *snapshotStore) list(rec *snapshotRecord) error {
	b, err := codec.Marshal(rec)
	if err != nil {
		return err
	}
	if err := durable.Replace(s.fs, s.fs.PathJoin(s.dir, recordName), b, vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("write the snapshot record: %w", err)
	}
	s.current = rec
	return nil
}

// snapshotSink takes what arrives into a file; for a snapshot of our own nothing is written.
type snapshotSink struct {
	owner  *snapshotStore
	record *snapshotRecord
	local  bool
	file   vfs.File
	done   bool
}

func (k *snapshotSink) ID() string {
	if k.local {
		return currentID
	}
	return pendingID
}

func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.file == nil {
		f, err := k.owner.fs.Create(k.owner.fs.PathJoin(k.owner.dir, receivedName), vfs.WriteCategoryUnspecified)
		if err != nil {
			return 0, fmt.Errorf("create a file for a snapshot: %w", err)
		}
		k.file = f
	}
	n, err := k.file.Write(p)
	k.record.size += int64(n)
	return n, err
}

// Close ends the sink: a snapshot of our own is listed at once, a received one after its installation. Raft takes its own on
// another goroutine, so one may end while, or after, a newer one is installed: it is not listed then, for the log behind it
// may be gone.
func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.file != nil {
		if err := k.file.Close(); err != nil {
			return fmt.Errorf("close a received snapshot: %w", err)
		}
	}
	if k.local {
		return k.owner.taken(k.record)
	}
	k.owner.mu.Lock()
	defer k.owner.mu.Unlock()
	k.owner.pending = k.record
	return nil
}

// Cancel drops what was written.
func (k *snapshotSink) Cancel() error {
	if k.done || k.file == nil {
		return nil
	}
	k.done = true
	return errors.Join(k.file.Close(), k.owner.fs.Remove(k.owner.fs.PathJoin(k.owner.dir, receivedName)))
}
