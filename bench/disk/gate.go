// Package disk makes the disks of real, unmodified processes fail: fsyncs that are slow, fail or hang, a disk that is full, and a power
// cut that loses what was not fsynced.
//
// A Gate stands before every call by which a process makes its data durable (fsync, fdatasync, sync_file_range, syncfs). The process
// is started through Exec, which asks the kernel to report those calls (seccomp user notification, Linux 5.5, no privilege needed
// beyond giving up the right to gain any) and hands the listening end to whoever started it. Each call then waits for an answer: go on, fail,
// or nothing yet.
//
// A Volume is a folder on a file system of its own: an ext4 image in a file, mounted through a loop device (root only). That makes a
// size, and a power cut: the file system is shut down without a flush (the ioctl behind xfstests' godown), so its image
// has what was fsynced or had been written back by then, and the next mount replays the journal.
//
// Invariants: a process that cannot be given a gate runs without one, and its Gate says why. A call that hangs is answered, or fails with
// ENOSYS, at the latest when the gate closes; a signal ends it before that. What is fsynced on a Volume survives Cut; what is written back only
// because time passed is the kernel's choice, as on any machine, and is put off as far as mount options allow.
//
// A crash of the owner leaves mounts behind, which the next Mount of the same folder takes over, and no stuck process.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Sync is how a process's calls to make data durable fare.
type Sync string

// The ways of a Gate.
const (
	SyncOK   Sync = ""
	SyncSlow Sync = "slow"       // each takes so much longer
	SyncFail Sync = "fail-fsync" // each fails with EIO
	SyncHang Sync = "hang"       // none returns
)

// MaxSlow is the longest delay of a slow disk.
const MaxSlow = time.Minute

// Gate is safe for concurrent use. It outlives the processes that are started behind it, one after the other: the fault is
// the disk's, not the process's.
type Gate struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	sync  Sync
	delay time.Duration
	at    *listener // of the process that runs; nil without one
	why   error     // why there is none
}

var errNoProcess = errors.New("no process has been started behind it yet")

// NewGate makes an open gate.
func NewGate(log *slog.Logger) *Gate { return &Gate{log: log, why: errNoProcess} }

// Set changes how calls fare from now on, those that wait included. It fails when the process that runs is not
// behind the gate.
func (g *Gate) Set(s Sync, delay time.Duration) error {
	if s == SyncSlow && (delay <= 0 || delay > MaxSlow) {
		return fmt.Errorf("slow by %v: expected more than 0 and at most %v", delay, MaxSlow)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s != SyncOK && g.at == nil {
		return fmt.Errorf("fsyncs cannot be held: %w", g.why)
	}
	g.sync, g.delay = s, delay
	if g.at != nil {
		g.at.release(g.answer())
	}
	return nil
}

// State is what Set said last.
func (g *Gate) State() (Sync, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sync, g.delay
}

// answer is called with the lock held.
func (g *Gate) answer() answer {
	switch g.sync {
	case SyncSlow:
		return answer{after: g.delay}
	case SyncFail:
		return answer{fail: true}
	case SyncHang:
		return answer{never: true}
	}
	return answer{}
}

// answer is what a call that waits is told.
type answer struct {
	after time.Duration
	fail  bool
	never bool // until release
}

// Follow takes the gate of a process that was started with the other end of p, and serves it until that process has ended.
func (g *Gate) Follow(p *os.File) {
	l, err := receive(p)
	g.mu.Lock()
	g.at, g.why = l, err
	g.mu.Unlock()
	if err != nil {
		g.log.Warn("fsyncs of this node cannot be held", "error", err)
		return
	}
	err = l.serve(func(treat func(answer) error) error { // under the lock, so that Set finds each call either held or not yet asked about
		g.mu.Lock()
		defer g.mu.Unlock()
		return treat(g.answer())
	})
	g.mu.Lock()
	if g.at == l { // and not that of the next process
		g.at, g.why = nil, errors.New("its process has ended")
	}
	g.mu.Unlock()
	if err = errors.Join(err, l.close()); err != nil {
		g.log.Warn("gate before the fsyncs of this node", "error", err)
	}
}
