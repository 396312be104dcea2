package index

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/atrest"
	"hongyan/engine/durable"
)

// A database whose files are damaged is not mended: every shard in it has replicas on other nodes, which are whole. Open sets
// it aside and begins with an empty one, which the shards then fill from their peers (cluster/shard, Recover). Damage that is found
// later, when a block is read, leaves a mark, so that the next Open does that.

const (
	damageMark  = "DAMAGED"
	asideSuffix = ".damaged-"
)

// damaged tells lost and garbled files from a disk that does not answer now, is full, or is in use.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, iofs.ErrNotExist) || errors.Is(err, atrest.ErrWrongKey) || errors.Is(err, atrest.ErrPlain)
}

// setAside renames the database's directory, so that somebody may look at it, and removes the one before it.
func setAside(fs vfs.FS, dir string, log *slog.Logger, why error) error {
	parent, name := fs.PathDir(dir), fs.PathBase(dir)
	names, err := fs.List(parent)
	if err != nil {
		return fmt.Errorf("set the damaged index aside: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, name+asideSuffix) {
			if err := fs.RemoveAll(fs.PathJoin(parent, n)); err != nil {
				return fmt.Errorf("remove an older damaged index: %w", err)
			}
		}
	}
	to := dir + asideSuffix + time.Now().UTC().Format("20060102T150405")
	if err := fs.Rename(dir, to); err != nil {
		return fmt.Errorf("set the damaged index aside: %w", err)
	}
	if err := durable.SyncDir(fs, parent); err != nil {
		return fmt.Errorf("set the damaged index aside: %w", err)
	}
	log.Error("index: damaged, set aside; its shards are fetched from other nodes", "was", dir, "now", to, "error", why)
	return nil
}

// marked says whether damage was found in the database before.
func marked(fs vfs.FS, dir string) bool {
	_, err := fs.Stat(fs.PathJoin(dir, damageMark))
	return err == nil
}

// corrupted is told of a damaged block that was met. Only its first call does anything.
func (db *DB) corrupted(dir string, log *slog.Logger, what string) {
	db.damage.Do(func() {
		log.Error("index: damaged, to be fetched from other nodes at the next start", "what", what)
		if f, err := db.fs.Create(db.fs.PathJoin(dir, damageMark), vfs.WriteCategoryUnspecified); err != nil {
			log.Error("index: the mark of the damage could not be made", "error", err)
		} else if err := errors.Join(f.Sync(), f.Close()); err != nil {
			log.Error("index: the mark of the damage may not last", "error", err)
		}
		close(db.damaged)
	})
}

// Damaged is closed when a damaged block was met: the process should end, and the next Open begins anew.
func (db *DB) Damaged() <-chan struct{} { return db.damaged }
