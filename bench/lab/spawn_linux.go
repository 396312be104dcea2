package lab

import "syscall"

// childAttributes: a child dies with its supervisor, also a paused one, and Ctrl-C in a terminal reaches only the
// supervisor, which then stops the nodes in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
