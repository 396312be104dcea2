package lab

import "syscall"

// childAttributes: a child gets a signal when its starter ends, SIGKILL so that a paused one dies too, and Ctrl-C in a terminal reaches only the
// supervisor, which then stops the nodes in order.
func childAttributes(last syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: last}
}
