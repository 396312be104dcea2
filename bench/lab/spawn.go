package lab

import (
	"os/exec"
	"runtime"
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

func (s *spawner) start(c *exec.Cmd) error {
	c.SysProcAttr = childAttributes()
	done := make(chan error, 1)
	s.work <- func() { done <- c.Start() }
	return <-done
}

// close ends the thread, and with it any child that is left.
func (s *spawner) close() { close(s.work) }
