package volume

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// forgetPages drops the clean pages of a part of the file from the page cache. It is advice: a file system may keep them.
func forgetPages(f vfs.File, off, n int64) {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		_ = unix.Fadvise(int(fd), off, n, unix.FADV_DONTNEED) // nothing is wrong if it is not taken
	}
}

// sameFile says no only if it is sure.
func sameFile(info vfs.FileInfo, f vfs.File) bool {
	open, err := f.Stat()
	if err != nil {
		return true
	}
	a, ok := info.Sys().(*syscall.Stat_t)
	b, ok2 := open.Sys().(*syscall.Stat_t)
	return !ok || !ok2 || a.Dev == b.Dev && a.Ino == b.Ino
}
