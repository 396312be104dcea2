package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what processes have used since they began, or hold now.
type Usage struct {
	CPU     time.Duration // user and system, with that of children they have waited for
	Memory  uint64        // bytes now: proportional set size where the kernel tells it, else resident
	Written uint64        // bytes sent towards the disk
	Missing int           // processes that are gone, whose use is not in here
}

const tick = 10 * time.Millisecond // of proc_pid_stat(5), on every architecture that Go runs on

// Processes adds up what these processes and all below them use.
func Processes(pids ...int) (Usage, error) {
	below, err := children()
	if err != nil {
		return Usage{}, err
	}
	var sum Usage
	seen := make(map[int]bool)
	for todo := append([]int(nil), pids...); len(todo) > 0; {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		todo = append(todo, below[pid]...)
		u, err := one(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			sum.Missing++
			continue
		}
		if err != nil {
			return Usage{}, err
		}
		sum.CPU, sum.Memory, sum.Written = sum.CPU+u.CPU, sum.Memory+u.Memory, sum.Written+u.Written
	}
	return sum, nil
}

// stat gives the fields of /proc/PID/stat behind the command, whose name may hold anything: the first is field 3, the state.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 22 {
		return nil, fmt.Errorf("look at process %d: %d fields in its stat, expected more", pid, len(fields))
	}
	return fields, nil
}

// children lists the processes below each one.
func children() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", errors.Join(err, errors.ErrUnsupported))
	}
	below := make(map[int][]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			below[parent] = append(below[parent], pid)
		}
	}
	return below, nil
}

func one(pid int) (Usage, error) {
	fields, err := stat(pid)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("look at process %d: %w", pid, err)
		}
		u.CPU += time.Duration(n) * tick
	}
	u.Memory = memory(pid, fields[21])
	if n, err := strconv.ParseUint(field(fmt.Sprintf("/proc/%d/io", pid), "write_bytes"), 10, 64); err == nil {
		u.Written = n // another user's process does not show it
	}
	return u, nil
}

func memory(pid int, residentPages string) uint64 {
	pss := field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss")
	if kb, err := strconv.ParseUint(strings.TrimSuffix(pss, " kB"), 10, 64); err == nil {
		return kb << 10
	}
	pages, err := strconv.ParseUint(residentPages, 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
