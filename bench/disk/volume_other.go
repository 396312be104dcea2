//go:build !linux

package disk

import (
	"errors"
	"os"
)

var errNoVolumes = errors.New("file systems of the nodes' own need Linux")

// Supported fails on this system, and so does everything that a Volume can do.
func Supported() error { return errNoVolumes }

// Cut fails on this system.
func (v *Volume) Cut() error { return errNoVolumes }

// Sync fails on this system.
func (v *Volume) Sync() error { return errNoVolumes }

func allocate(*os.File, int64, int64) error { return errNoVolumes }

func command(string, ...string) error { return errNoVolumes }
