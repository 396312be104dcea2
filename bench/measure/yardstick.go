package measure

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Yardstick is a file of our own that 10 KiB at a time are appended to and made durable: how quick the machine is at
// that moment, whatever the server that shares it does.
type Yardstick struct {
	f     *os.File
	block []byte
}

// NewYardstick makes the file in dir, which should lie on the disk of the server's data.
func NewYardstick(dir string) (*Yardstick, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	y := &Yardstick{f: f, block: make([]byte, 10<<10)}
	for i := range y.block {
		y.block[i] = byte(i * 7)
	}
	return y, nil
}

// Append appends once, and gives how long that took.
func (y *Yardstick) Append() (time.Duration, error) {
	began := time.Now()
	_, err := y.f.Write(y.block)
	if err == nil {
		err = y.f.Sync()
	}
	if err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	return time.Since(began), nil
}

// Close removes the file.
func (y *Yardstick) Close() error { return errors.Join(y.f.Close(), os.Remove(y.f.Name())) }

// fsyncTime is the median time of n appends in dir.
func fsyncTime(dir string, n int) (took time.Duration, err error) {
	y, err := NewYardstick(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, y.Close()) }()
	times := make([]time.Duration, n)
	for i := range times {
		if times[i], err = y.Append(); err != nil {
			return 0, err
		}
	}
	slices.Sort(times)
	return times[n/2], nil
}
