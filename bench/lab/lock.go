package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// takeLock makes this process the only supervisor of the folder, until the file is closed or the process ends.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "dev.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := make([]byte, 16)
		n, _ := f.ReadAt(owner, 0) // only for the message: an empty one will do
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another `hongyan dev` runs in %s (pid %s)", dir, strings.TrimSpace(string(owner[:n])))
		} else {
			err = fmt.Errorf("lock folder %s: %w", dir, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write lock: %w", err), f.Close())
	}
	return f, nil
}
