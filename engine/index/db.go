package index

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/pebblelog"
)

// Options size the database. Zero values take the defaults.
type Options struct {
	CacheBytes    int64        // block cache shared by all shards, default 256 MiB
	MemTableBytes uint64       // one memtable, default 64 MiB; up to four may wait for a flush
	MaxOpenFiles  int          // tables held open, default 1000
	Log           *slog.Logger // default: discard
}

const (
	defaultCacheBytes    = 256 << 20
	defaultMemTableBytes = 64 << 20
	defaultMaxOpenFiles  = 1000

	// dedupWindow is how many log entries a remembered result outlives.
	dedupWindow = 1 << 18
	// sweepRows is how many rows of deleted mailboxes are swept per log entry.
	sweepRows = 2000
)

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTableBytes
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = defaultMaxOpenFiles
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// DB is the index database of one node. Safe for concurrent use.
type DB struct {
	fs       vfs.FS
	incoming string // directory for tables that Load builds
	p        *pebble.DB
	opts     *pebble.Options
	flushes  atomic.Uint64 // ended flushes: each may have moved durable state
	failure  atomic.Pointer[error]
	damage   sync.Once
	damaged  chan struct{} // closed once a damaged block was met

	flushMu sync.Mutex // one flush at a time, so that waiters share it

	mu     sync.Mutex // guards shards
	shards map[uint32]*Shard

	window uint64 // of dedup, in log entries
	sweep  int    // rows per entry
}

// Open opens or creates the database under dir. One that is damaged is set aside, and an empty one takes its place.
func Open(fs vfs.FS, dir string, o Options) (*DB, error) {
	o = o.withDefaults()
	why := fmt.Errorf("%s in it says so", damageMark)
	if !marked(fs, dir) {
		db, err := open(fs, dir, o)
		if err == nil || !damaged(err) {
			return db, err
		}
		why = err
	}
	if err := setAside(fs, dir, o.Log, why); err != nil {
		return nil, fmt.Errorf("open index %s: %w", dir, err)
	}
	return open(fs, dir, o)
}

func open(fs vfs.FS, dir string, o Options) (*DB, error) {
	db := &DB{
		fs:       fs,
		incoming: fs.PathJoin(dir, "incoming"),
		shards:   make(map[uint32]*Shard),
		damaged:  make(chan struct{}),
		window:   dedupWindow,
		sweep:    sweepRows,
	}
	pebbleDir := fs.PathJoin(dir, "pebble")
	if err := makeDirs(fs, pebbleDir); err != nil {
		return nil, fmt.Errorf("open index %s: %w", dir, err)
	}
	if err := fs.RemoveAll(db.incoming); err != nil {
		return nil, fmt.Errorf("open index %s: remove unfinished load: %w", dir, err)
	}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref() // the database holds its own reference
	db.opts = db.pebbleOptions(o, cache)
	db.opts.EventListener.DataCorruption = func(i pebble.DataCorruptionInfo) { db.corrupted(o.Log, fmt.Sprintf("%s: %v", i.Path, i.Details)) }
	p, err := pebble.Open(pebbleDir, db.opts)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", dir, err)
	}
	db.p = p
	return db, nil
}

// makeDirs makes a directory and those above it, and syncs every one that an entry was made in: pebble syncs what is in its
// directory, and a crash could still take the directory itself.
func makeDirs(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	parent := fs.PathDir(dir)
	if parent == dir {
		return nil
	}
	if err := makeDirs(fs, parent); err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDir(fs, parent)
}

// pebbleOptions say how the tree is laid out. Two of them carry invariant 1: the log is off, so a flush in order is
// what makes batches durable; and an ingestion must not wait in memory like a memtable
// (DisableIngestAsFlushable), for without a log a crash would lose it after Load had returned.
func (db *DB) pebbleOptions(o Options, cache *pebble.Cache) *pebble.Options {
	lo := &pebble.Options{
		FS:                          db.fs,
		Cache:                       cache,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                o.MaxOpenFiles,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000, // the memtables' bound holds writers back before that
		LBaseMaxBytes:               128 << 20,
		BytesPerSync:                1 << 20,
		TargetByteDeletionRate:      256 << 20, // unlinking big tables at once would stall the journal's fsync
		CompactionConcurrencyRange: func() (int, int) {
			return 1, max(1, min(4, runtime.GOMAXPROCS(0)/2))
		},
		Logger: pebblelog.Logger{Log: o.Log, What: "index", Errors: slog.LevelError}, // after its Fatalf a restart replays the Raft log
		// Called with pebble's mutex held: they must not call it.
		EventListener: &pebble.EventListener{
			FlushEnd: db.flushEnded,
			BackgroundError: func(err error) {
				db.failure.Store(&err)
				o.Log.Error("index: background work failed, will be retried", "error", err)
			},
			DiskSlow:        func(i pebble.DiskSlowInfo) { o.Log.Warn("index: slow disk", "what", i.String()) },
			WriteStallBegin: func(i pebble.WriteStallBeginInfo) { o.Log.Warn("index: writes wait", "reason", i.Reason) },
		},
	}
	lo.Experimental.DisableIngestAsFlushable = func() bool { return true }
	target := int64(4 << 20)
	for i := range lo.Levels {
		l := &lo.Levels[i]
		l.BlockSize = 16 << 10
		l.IndexBlockSize = 64 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
		// Zstandard would save a third of the space and cost 5 µs of CPU per message.
		l.Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
		lo.TargetFileSizes[i] = target
		target = min(2*target, 64<<20)
	}
	return lo
}

func (db *DB) flushEnded(i pebble.FlushInfo) {
	db.flushes.Add(1)
	if len(i.Output) > 0 {
		db.failure.Store(nil)
	}
}

// Ready says why the database cannot flush, for instance because its disk is full; nil once a flush succeeds again. Until then
// commits go on in memory until the memtables are full, and wait then.
func (db *DB) Ready() error {
	if err := db.failure.Load(); err != nil {
		return fmt.Errorf("index: %w", *err)
	}
	return nil
}

// Close flushes and closes the database. All Txns and Views must have ended.
func (db *DB) Close() error {
	flushed := db.Flush()
	if err := errors.Join(flushed, db.p.Close()); err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// Flush makes everything committed so far durable, for all shards.
func (db *DB) Flush() error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if err := db.p.Flush(); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}

// Shard is the part of the database that belongs to one shard; it always exists, perhaps empty.
func (db *DB) Shard(id uint32) *Shard {
	db.mu.Lock()
	defer db.mu.Unlock()
	s := db.shards[id]
	if s == nil {
		s = &Shard{db: db, k: keys(id)}
		db.shards[id] = s
	}
	return s
}
