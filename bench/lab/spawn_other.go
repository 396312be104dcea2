//go:build !linux

package lab

import "syscall"

// childAttributes: Ctrl-C in a terminal reaches only the supervisor. Without a parent-death signal, a child learns from
// its standard input that the supervisor is gone.
func childAttributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
