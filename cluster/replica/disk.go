package replica

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/pause"
	"hongyan/engine/volume"
)

// fullness is whether this node's disk takes volumes. It ends only when clearly more is free than made it begin,
// so that a node at the edge does not open and seal volumes in turn.
type fullness struct {
	mu  sync.Mutex
	err error // guarded by mu; nil while there is room
}

func (f *fullness) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// set notes why the disk counts as full and reports whether that is new.
func (f *fullness) set(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := (f.err == nil) != (err == nil)
	f.err = err
	return changed
}

// watchDisk looks how much is free beyond the reserve.
func (m *Manager) watchDisk() {
	for {
		free, err := m.cfg.Volumes.FreeBytes()
		if errors.Is(err, vfs.ErrUnsupported) {
			return // a file system without a size: a write that fails will tell
		}
		if err != nil {
			m.log.Warn("free space unknown", "err", err)
		} else {
			m.noteFree(free)
		}
		if !pause.For(m.ctx, diskEvery) {
			return
		}
	}
}

func (m *Manager) noteFree(free uint64) {
	was := m.full.reason() != nil
	switch {
	case free < diskLow:
		if m.full.set(fmt.Errorf("%w: %d bytes free beyond the reserve", volume.ErrFull, free)) {
			m.log.Error("disk full, volumes go to other nodes", "free", free)
		}
		m.mu.Lock()
		own := m.primaries()
		m.mu.Unlock()
		for _, p := range own {
			p.retire()
		}
	case was && free < diskEnough:
		m.full.set(fmt.Errorf("%w: %d bytes free beyond the reserve, taken up again at %d", volume.ErrFull, free, uint64(diskEnough)))
	case was:
		m.full.set(nil)
		m.log.Info("disk has room again", "free", free)
		m.kick()
	}
}
