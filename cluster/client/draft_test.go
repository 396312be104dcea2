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

// Textual gives what is to be closed, also where it fails: the draft itself, of which nothing was written.
func TestTextualFails(t *testing.T) {
	binary := []byte("Content-Transfer-Encoding: binary\r\n\r\n\x00 and a little more")
	c := &Client{cfg: Config{FS: vfs.NewMem(), MaxMessage: int64(len(binary)), Dictionary: func() *volume.Dictionary { return nil }}}
	whole := c.NewDraft()
	if _, err := whole.Write(binary); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Textual(whole); got != whole || !errors.Is(err, ErrLimit) {
		t.Errorf("too large in base64: %p of %p, %v", got, whole, err)
	}
	ended := c.NewDraft()
	if err := ended.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Textual(ended); got != ended || err == nil {
		t.Errorf("a spool that has ended: %p of %p, %v", got, ended, err)
	}
	if err := whole.Close(); err != nil {
		t.Error(err)
	}
}
