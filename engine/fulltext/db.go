package fulltext

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/codec"
	"hongyan/engine/pebblelog"
)

const (
	cacheBytes    = 32 << 20
	memTableBytes = 16 << 20
	maxOpenFiles  = 500
	writeBatch    = 1 << 20 // bytes of a merged segment that are written at once
)

// ErrClosed is of a database that is closed, or that could not be opened again.
var ErrClosed = errors.New("the full-text index is closed")

// DB is the full-text index of a node. Safe for concurrent use.
type DB struct {
	fs  vfs.FS
	dir string
	log *slog.Logger

	damaged atomic.Bool // what pebble read last had a wrong checksum

	life sync.RWMutex // held for reading while the database is used, for writing while it is exchanged; guards p
	p    *pebble.DB   // nil when closed

	change sync.Mutex // held while an entry is changed; guards made
	made   uint64     // the last segment's id
}

// Open opens or creates the index in dir. One that cannot be opened, or is of another format, is removed and begun anew.
func Open(fs vfs.FS, dir string, log *slog.Logger) (*DB, error) {
	db := &DB{fs: fs, dir: dir, log: log}
	if err := db.open(); err != nil {
		return nil, fmt.Errorf("open the full-text index %s: %w", dir, err)
	}
	return db, nil
}

// open is called with life held, or before anybody knows of db.
func (db *DB) open() error {
	p, err := db.try()
	if err == nil {
		db.p = p
		return nil
	}
	db.log.Warn("full-text index: made anew", "dir", db.dir, "why", err)
	if err := db.fs.RemoveAll(db.dir); err != nil {
		return fmt.Errorf("remove the old one: %w", err)
	}
	db.damaged.Store(false)
	db.p, err = db.try()
	return err
}

var errFormat = errors.New("it is of another format")

func (db *DB) try() (*pebble.DB, error) {
	if err := db.fs.MkdirAll(db.dir, 0o700); err != nil {
		return nil, err
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref() // the database holds its own reference
	p, err := pebble.Open(db.dir, db.options(cache))
	if err != nil {
		return nil, err
	}
	if err := checkFormat(p); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// checkFormat looks whether p is ours, or marks an empty one. The mark is the first of what is written, so it is there if anything is.
func checkFormat(p *pebble.DB) error {
	v, closer, err := p.Get(formatKey)
	if err == nil {
		ok := len(v) == 1 && v[0] == format
		if err := closer.Close(); err != nil || !ok {
			return errors.Join(errFormat, err)
		}
		return nil
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	it, err := p.NewIter(nil)
	if err != nil {
		return err
	}
	some := it.First()
	if err := it.Close(); err != nil || some {
		return errors.Join(errFormat, err)
	}
	return p.Set(formatKey, []byte{format}, pebble.NoSync)
}

func (db *DB) options(cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:                          db.fs,
		Cache:                       cache,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 3,
		MaxOpenFiles:                maxOpenFiles,
		L0CompactionThreshold:       4,
		LBaseMaxBytes:               64 << 20,
		BytesPerSync:                1 << 20,
		TargetByteDeletionRate:      128 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		Logger:                      pebblelog.Logger{Log: db.log, What: "full-text index", Errors: slog.LevelWarn},
		// Called with pebble's mutex held: they must not call it.
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { db.log.Warn("full-text index: background work failed, will be retried", "error", err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				db.log.Warn("full-text index: damaged", "file", i.Path, "details", i.Details)
				db.damaged.Store(true)
			},
		},
	}
	target := int64(4 << 20)
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize = 16 << 10
		l.IndexBlockSize = 64 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
		l.Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
		o.TargetFileSizes[i] = target
		target = min(2*target, 32<<20)
	}
	return o
}

// Damaged says that the database is damaged: Rebuild it.
func (db *DB) Damaged() bool { return db.damaged.Load() }

// failed notes damage that an error tells of.
func (db *DB) failed(err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, errDamage) {
		db.damaged.Store(true)
	}
	return err
}

// errDamage is of values that do not decode.
var errDamage = errors.New("the full-text index is damaged")

// Rebuild removes everything and begins anew. It waits for searches under way.
func (db *DB) Rebuild() error {
	db.life.Lock()
	defer db.life.Unlock()
	if db.p == nil {
		return ErrClosed
	}
	if err := db.p.Close(); err != nil { // of what is removed
		db.log.Info("full-text index: closed to be made anew", "err", err)
	}
	db.p = nil
	if err := db.fs.RemoveAll(db.dir); err != nil {
		return fmt.Errorf("remove the full-text index: %w", err)
	}
	db.damaged.Store(false)
	if err := db.open(); err != nil {
		return fmt.Errorf("begin a new full-text index: %w", err)
	}
	return nil
}

// Close closes the database; what was indexed is flushed.
func (db *DB) Close() error {
	db.life.Lock()
	defer db.life.Unlock()
	if db.p == nil {
		return nil
	}
	p := db.p
	db.p = nil
	if err := errors.Join(p.Flush(), p.Close()); err != nil {
		return fmt.Errorf("close the full-text index: %w", err)
	}
	return nil
}

// Flush writes what was indexed to the disk, so that a crash forgets nothing of it.
func (db *DB) Flush() error {
	err := db.use(func(p *pebble.DB) error { return p.Flush() })
	if err != nil {
		return fmt.Errorf("flush the full-text index: %w", err)
	}
	return nil
}

// use calls fn with the open database.
func (db *DB) use(fn func(p *pebble.DB) error) error {
	db.life.RLock()
	defer db.life.RUnlock()
	if db.p == nil {
		return ErrClosed
	}
	return db.failed(fn(db.p))
}

// DiskBytes is the size of the index on disk.
func (db *DB) DiskBytes() (n uint64) {
	if err := db.use(func(p *pebble.DB) error { n = p.Metrics().DiskSpaceUsage(); return nil }); err != nil {
		return 0
	}
	return n
}

// segmentID is one that was never used before, also by a database that was removed since.
func (db *DB) segmentID() uint64 {
	db.made = max(db.made+1, uint64(time.Now().UnixNano()))
	return db.made
}

// readEntry gives nil for a mailbox of which nothing is known.
func readEntry(r pebble.Reader, m Mailbox) (*entry, error) {
	v, closer, err := r.Get(m.entry())
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("entry of %v: %w", m, err)
	}
	e, err := decodeEntry(v)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: entry of %v: %w", errDamage, m, err), closer.Close())
	}
	return e, closer.Close()
}

func putEntry(b *pebble.Batch, m Mailbox, e *entry) error {
	v, err := codec.Marshal(e)
	if err != nil {
		return err
	}
	return b.Set(m.entry(), v, nil)
}
