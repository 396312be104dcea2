package lab

import (
	"os/exec"
	"runtime"
	"syscall"
)

// spawner starts children from one goroutine that keeps its operating system thread for as long as children
// run: Linux sends the parent-death signal when the thread that created a child ends, not the process.
type spawner struct{ work chan func() }

func newSpawner() *spawner {
	s := &spawner{make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range s.work {
			f()
		}
	}()
	return s
}

// start has the child get a signal when this process ends.
func (s *spawner) start(c *exec.Cmd, last syscall.Signal) error {
	c.SysProcAttr = childAttributes(last)
	done := make(chan error, 1)
	s.work <- func() { done <- c.Start() }
	return <-done
}

// close ends the thread, and with it any child that is left.
func (s *spawner) close() { close(s.work) }
