package cluster

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// timerSlack is how much later than asked for a thread may be woken by a timer.
const timerSlack = time.Millisecond

// LoosenTimers lets all threads of this process sleep up to timerSlack longer; later threads inherit it. While system calls last, and an fsync lasts long, the
// watch of Go's scheduler (sysmon) asks to be woken each 20 µs, and with the usual slack of 50 µs it was: a fifth of a
// busy node's processor time, in no profile. That the place of a goroutine in an fsync goes to another one a
// millisecond later costs nothing that could be measured. Timers of programs matter little, for Go rounds them up to
// milliseconds when nothing else is to do. It is a wish: where the kernel refuses it, all is as before.
func LoosenTimers() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	slack := []byte(strconv.FormatInt(timerSlack.Nanoseconds(), 10))
	for _, t := range threads {
		_ = os.WriteFile(filepath.Join("/proc", t.Name(), "timerslack_ns"), slack, 0)
	}
}
