package volume

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// sized is a file system that says how much is free.
type sized struct {
	vfs.FS
	free uint64
	err  error
}

func (s *sized) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: s.free}, s.err
}

func TestSpoolRoom(t *testing.T) {
	broken := errors.New("I/O error")
	for _, tt := range []struct {
		free uint64
		err  error
		want error
	}{
		{100, nil, nil},
		{99, nil, ErrFull},
		{0, nil, ErrFull},
		{0, vfs.ErrUnsupported, nil},
		{0, broken, broken},
	} {
		if err := SpoolRoom(&sized{vfs.NewMem(), tt.free, tt.err}, testDir, 100); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%d bytes free, %v: got %v, want %v", tt.free, tt.err, err, tt.want)
		}
	}
}
