package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	fsShutdown   = 0x8004587d // FS_IOC_SHUTDOWN of linux/fs.h
	withoutFlush = 2          // neither the data nor the journal
)

// Supported says what is missing for a Volume.
func Supported() error {
	if os.Getuid() != 0 {
		return errors.New("file systems of the nodes' own need root, for the loop devices")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("file systems of the nodes' own need loop devices (`modprobe loop`): %w", err)
	}
	for _, program := range []string{"mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("file systems of the nodes' own need e2fsprogs and mount: %w", err)
		}
	}
	return nil
}

// Cut is the loss of power: from now on nothing reaches the image, whatever is still in memory.
func (v *Volume) Cut() (err error) {
	f, err := os.Open(v.dir)
	if err != nil {
		return fmt.Errorf("cut power of %s: %w", v.dir, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, withoutFlush); err != nil {
		return fmt.Errorf("cut power of %s: %w", v.dir, err)
	}
	return nil
}

// Sync makes everything on the volume durable.
func (v *Volume) Sync() (err error) {
	f, err := os.Open(v.dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", v.dir, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", v.dir, err)
	}
	return nil
}

func allocate(f *os.File, from, n int64) error {
	if n <= 0 {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), 0, from, n)
}

// command runs a system program, whose complaint becomes the error.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}
