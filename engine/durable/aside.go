package durable

import (
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const asideSuffix = ".damaged-"

// SetAside renames a damaged file or directory, so that somebody may look at it, removes the one that was set aside before it, and gives its new path. After
// an error it may be in either place.
func SetAside(fs vfs.FS, path string) (to string, err error) {
	parent, name := fs.PathDir(path), fs.PathBase(path)
	names, err := fs.List(parent)
	if err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, name+asideSuffix) {
			if err := fs.RemoveAll(fs.PathJoin(parent, n)); err != nil {
				return "", fmt.Errorf("remove what was set aside before: %w", err)
			}
		}
	}
	to = path + asideSuffix + time.Now().UTC().Format("20060102T150405")
	if err := fs.Rename(path, to); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	return to, SyncDir(fs, parent)
}
