package client

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/volume"
)

// shrinking is a file system on which others use up the space.
type shrinking struct {
	vfs.FS
	free uint64
}

func (s *shrinking) GetDiskUsage(string) (vfs.DiskUsage, error) {
	s.free -= min(s.free, 1<<20)
	return vfs.DiskUsage{AvailBytes: s.free}, nil
}

// A large draft gives up while the space that it must leave is there; one that fits into memory needs none.
func TestDraftLeavesTheReserve(t *testing.T) {
	fs := &shrinking{FS: vfs.NewMem(), free: 12 << 20}
	c := &Client{cfg: Config{FS: fs, SpoolDir: "", SpoolKeep: 8 << 20, MaxMessage: 100 << 20,
		Dictionary: func() *volume.Dictionary { return nil }}}
	write := func(d *Draft, n int) (err error) {
		for piece := make([]byte, 32<<10); n > 0 && err == nil; n -= len(piece) {
			_, err = d.Write(piece)
		}
		return err
	}
	d := c.NewDraft()
	if err := write(d, 64<<20); !errors.Is(err, ErrUnavailable) || !errors.Is(err, volume.ErrFull) {
		t.Errorf("a large draft: %v", err)
	}
	if fs.free >= 8<<20 || fs.free < 6<<20 {
		t.Errorf("%d bytes were free when it gave up", fs.free)
	}
	small := c.NewDraft()
	if err := write(small, draftMemory); err != nil {
		t.Errorf("a small draft: %v", err)
	}
	for _, d := range []*Draft{d, small} {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
