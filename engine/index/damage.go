package index

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/atrest"
	"hongyan/engine/durable"
)

// A database whose files are damaged is not mended: every shard in it has replicas on other nodes, which are whole. Open sets
// it aside and begins with an empty one, which the shards then fill from their peers (cluster/shard, Recover). Damage that is found
// later, when a block is read, leaves a mark, so that the next Open does that.

const damageMark = "DAMAGED"

// damaged tells lost and garbled files from a disk that does not answer now, is full, or is in use.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, iofs.ErrNotExist) || errors.Is(err, atrest.ErrWrongKey) || errors.Is(err, atrest.ErrPlain)
}

// setAside has Open begin anew.
func setAside(fs vfs.FS, dir string, log *slog.Logger, why error) error {
	to, err := durable.SetAside(fs, dir)
	if err != nil {
		return fmt.Errorf("the damaged index: %w", err)
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
func (db *DB) corrupted(log *slog.Logger, what string) {
	db.damage.Do(func() {
		log.Error("index: damaged, to be fetched from other nodes at the next start", "what", what)
		if err := db.Distrust(); err != nil {
			log.Error("index: the mark of the damage may not last", "error", err)
		}
		close(db.damaged)
	})
}

// Distrust has the next Open set the database aside: it belongs to logs that cannot be trusted any more.
func (db *DB) Distrust() error {
	mark := db.fs.PathJoin(db.fs.PathDir(db.incoming), damageMark)
	if err := durable.Replace(db.fs, mark, nil, vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("mark the index as damaged: %w", err)
	}
	return nil
}

// Damaged is closed when a damaged block was met: the process should end, and the next Open begins anew.
func (db *DB) Damaged() <-chan struct{} { return db.damaged }
