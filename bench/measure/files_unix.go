//go:build linux || darwin

package measure

import (
	"fmt"
	"syscall"
)

// AllowFiles makes sure that this process may have so many files open, sockets among them, and raises its limit where that is allowed.
func AllowFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("look at the limit of open files: %w", err)
	}
	want := uint64(n)
	if limit.Cur >= want {
		return nil
	}
	raised := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)} // beyond Max only root may
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("%d open files are needed and the system allows %d (raise it with ulimit -n %d before): %w", want, limit.Max, want, err)
	}
	return nil
}
