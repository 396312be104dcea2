//go:build !linux

package volume

import "github.com/cockroachdb/pebble/v2/vfs"

// forgetPages does nothing: there is no such advice on this system.
func forgetPages(vfs.File, int64, int64) {}

// sameFile cannot tell here.
func sameFile(vfs.FileInfo, vfs.File) bool { return true }
