package measure

import (
	"fmt"
	"syscall"
)

// RaiseFiles makes sure that this process may open n files and connections, as far as the system lets it.
func RaiseFiles(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if l.Cur >= n {
		return nil
	}
	l.Cur, l.Max = n, max(l.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("%d connections need as many open files, and the system allows fewer (ulimit -n %d as root): %w", n, n, err)
	}
	return nil
}
