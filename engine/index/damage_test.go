package index

import (
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDamage garbles or takes a database's files: Open sets it aside and begins anew. What damage leaves readable until a block is
// asked for is found then, and set aside at the next Open.
func TestDamage(t *testing.T) {
	for _, suffix := range []string{".sst", "MANIFEST-", "marker.manifest"} {
		t.Run(suffix, func(t *testing.T) {
			fs := vfs.NewMem()
			db := openAt(t, fs)
			for i := uint64(1); i <= 50; i++ {
				entry(t, db.Shard(1), i, func(tx *Txn) { busyEntry(t, tx, i) })
			}
			must(t, db.Flush())
			closeTest(t, db)
			garble(t, fs, "/node/index/pebble", suffix)
			db = openAt(t, fs)
			if applied, err := db.Shard(1).Applied(); err != nil {
				select {
				case <-db.Damaged():
				default:
					t.Fatalf("a read failed with %v, and nobody was told of damage", err)
				}
				_ = db.Close() // it may fail: the database is damaged
				db = openAt(t, fs)
			} else if applied != 0 {
				t.Fatalf("applied %d is read from garbled files", applied)
			}
			if applied, err := db.Shard(1).Applied(); err != nil || applied != 0 {
				t.Errorf("the new index stands at %d, %v", applied, err)
			}
			closeTest(t, db)
			names, err := fs.List("/node")
			must(t, err)
			if suffix == ".sst" && len(names) != 2 { // without the others pebble begins an empty database by itself
				t.Errorf("want the index and the one set aside, got %q", names)
			}
		})
	}
}

func openAt(t *testing.T, fs vfs.FS) *DB {
	t.Helper()
	db, err := Open(fs, "/node/index", small())
	must(t, err)
	return db
}

// garble overwrites the files whose names have a part, from their beginning; markers are removed.
func garble(t *testing.T, fs vfs.FS, dir, part string) {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	done := 0
	for _, name := range names {
		if !strings.Contains(name, part) {
			continue
		}
		done++
		path := fs.PathJoin(dir, name)
		if strings.HasPrefix(name, "marker") {
			must(t, fs.Remove(path))
			continue
		}
		f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		must(t, err)
		info, err := f.Stat()
		must(t, err)
		b := make([]byte, info.Size())
		if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0x5a
		}
		_, err = f.WriteAt(b, 0)
		must(t, err)
		must(t, f.Close())
	}
	if done == 0 {
		t.Fatalf("no file named %s in %q", part, names)
	}
}
