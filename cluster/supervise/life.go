package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	lifeName  = "process.json"
	lockName  = "process.lock" // held while a process works in the folder
	crashName = "crash.txt"
	bootFile  = "/proc/sys/kernel/random/boot_id" // another one after each start of a Linux machine

	maxRead   = 64 << 10 // of what is read of either file
	endWithin = time.Second
)

var errUnreadable = errors.New(lifeName + " is no record of a process")

// Life is the record of a process in its node's folder, which it has for itself meanwhile.
type Life struct {
	dir    string
	record record
	lock   io.Closer
}

type record struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Boot    string    `json:"boot,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	Reason  string    `json:"reason,omitempty"`
}

// Begin takes the folder, which it makes if need be, for this process, notes that, and has the runtime write there what it says of a crash from
// then on. last is how the process before it ended, "" if it was the first. It fails when another process has the folder, but not because nothing
// can be noted: mail is read from a full disk, too.
func Begin(dir, version string, log *slog.Logger) (l *Life, last string, err error) {
	boot, _ := os.ReadFile(bootFile) // other systems have none
	l = &Life{dir: dir, record: record{PID: os.Getpid(), Version: version, Boot: strings.TrimSpace(string(boot)), Began: now()}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make the node's folder: %w", err)
	}
	if l.lock, err = vfs.Default.Lock(filepath.Join(dir, lockName)); err != nil {
		return nil, "", fmt.Errorf("take the folder %s, which another process may have: %w", dir, err)
	}
	if last, err = l.predecessor(); err == nil {
		err = errors.Join(l.catchCrash(), l.write())
	}
	if err != nil {
		log.Warn("it is not noted that this process works in the node's folder, nor would a crash be", "dir", dir, "err", err)
	}
	return l, last, nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// predecessor says how the process before ended.
func (l *Life) predecessor() (string, error) {
	was, err := read(l.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, errUnreadable):
		return "nobody knows how: " + err.Error(), nil
	case err != nil:
		return "", err
	}
	crashed, err := head(filepath.Join(l.dir, crashName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return was.tell(crashed, l.record.Boot), err
}

// tell puts an end into words.
func (r *record) tell(crashed, boot string) string {
	who := fmt.Sprintf("process %d of %s", r.PID, r.Began.Format(time.RFC3339))
	switch first, _, _ := strings.Cut(crashed, "\n\n"); {
	case !r.Ended.IsZero():
		return fmt.Sprintf("%s ended %s: %s", who, r.Ended.Format(time.RFC3339), r.Reason)
	case crashed != "":
		return fmt.Sprintf("%s crashed: %s (%s.1 has the rest)", who, OneLine(first), crashName)
	case boot != r.Boot:
		return who + " ended with its machine, which has started anew since"
	}
	return who + " ended without a word: it was killed, or the machine had no memory left for it"
}

// Ended is why the process with that pid, which is gone, ended, as it said itself or the runtime did; "" if nobody said anything.
func Ended(dir string, pid int) string {
	was, err := read(dir)
	if err != nil || was.PID != pid {
		return ""
	}
	if !was.Ended.IsZero() {
		return was.Reason
	}
	crashed, err := head(filepath.Join(dir, crashName))
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(crashed, "\n\n")
	return OneLine(first)
}

// End notes why this process ends, and gives the folder back. It waits a second at most, since the disk may be the reason; the folder is given
// back with the process then, and the note is lost with the machine.
func (l *Life) End(reason string) error {
	l.record.Ended, l.record.Reason = now(), OneLine(reason)
	done := make(chan error, 1)
	go func() { done <- errors.Join(l.scribble(), l.write(), l.lock.Close()) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("note how this process ends: %w", err)
		}
		return nil
	case <-time.After(endWithin):
		return errors.New("note how this process ends: the disk does not answer")
	}
}

func (l *Life) write() error {
	b, err := json.Marshal(l.record)
	if err != nil {
		return err
	}
	return durable.Replace(vfs.Default, filepath.Join(l.dir, lifeName), append(b, '\n'), vfs.WriteCategoryUnspecified)
}

// scribble writes without an fsync, which may hang or fail: a process on the same machine reads it all the same.
func (l *Life) scribble() error {
	b, err := json.Marshal(l.record)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, lifeName)
	if err := os.WriteFile(path+".end", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".end", path)
}

// catchCrash has the runtime write there why the process crashes, if it does. What an earlier one left is set aside.
func (l *Life) catchCrash() error {
	path := filepath.Join(l.dir, crashName)
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if err := os.Rename(path, path+".1"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close()) // the runtime has a descriptor of its own
}

func read(dir string) (r record, err error) {
	b, err := head(filepath.Join(dir, lifeName))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(b), &r); err != nil {
		return r, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return r, nil
}

// head reads the beginning of a file.
func head(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRead))
	return string(b), errors.Join(err, f.Close())
}
