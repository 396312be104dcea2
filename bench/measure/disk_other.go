//go:build !linux

package measure

import "errors"

// Flushes is known on Linux only.
func Flushes(string) (uint64, error) { return 0, errors.ErrUnsupported }
