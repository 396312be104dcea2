// Package durable holds what files that must survive a power cut need beside their own fsync: that of the directory they are named in, and for
// small ones the whole way there. It keeps nothing; a crash before SyncDir or Replace returns may leave the directory as it was before, and of Replace the
// temporary file.
package durable

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// TemporarySuffix is of the name under which Replace writes.
const TemporarySuffix = ".tmp"

// Replace writes a small file whole and durably, for its owner's eyes only: temporary name, fsync, rename, fsync of the directory. After an error there is
// the file of before or the new one.
func Replace(fs vfs.FS, path string, content []byte, category vfs.DiskWriteCategory) error {
	tmp := path + TemporarySuffix
	f, err := fs.Create(tmp, category)
	if err != nil {
		return fmt.Errorf("create %s: %w", tmp, err)
	}
	if fd := f.Fd(); fd != vfs.InvalidFd {
		err = unix.Fchmod(int(fd), 0o600)
	}
	if err == nil {
		_, err = f.Write(slices.Clone(content)) // a file may encrypt what it is given in place
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tmp, err), fs.Remove(tmp))
	}
	if err := fs.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("rename %s: %w", tmp, err), fs.Remove(tmp))
	}
	return SyncDir(fs, fs.PathDir(path))
}

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
