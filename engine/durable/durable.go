// Package durable holds the one step that every file which must survive a power cut needs beside its own fsync: that of
// the directory it is named in. It keeps nothing; a crash before SyncDir returns may leave the directory as it was before.
package durable

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SyncDir makes what was created, renamed or removed in a directory durable.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
