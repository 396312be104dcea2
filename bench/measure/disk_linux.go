package measure

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Flushes is how often the disk that dir lies on was told to make everything durable, by anybody, since the machine began: what fsync comes to
// below the file system. 0 with no error means a disk that never needs it.
func Flushes(dir string) (uint64, error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0, fmt.Errorf("find the disk of a folder: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("find the disk of %s: unknown kind of file information", dir)
	}
	major, minor := strconv.Itoa(int(unix.Major(st.Dev))), strconv.Itoa(int(unix.Minor(st.Dev)))
	b, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, fmt.Errorf("read statistics of disks: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 19 || f[0] != major || f[1] != minor {
			continue
		}
		n, err := strconv.ParseUint(f[18], 10, 64) // the kernel's Documentation/admin-guide/iostats.rst, field 16
		if err != nil {
			return 0, fmt.Errorf("read statistics of disks: %w", err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("disk %s:%s of %s: not in /proc/diskstats, or a kernel older than 5.5", major, minor, dir)
}
