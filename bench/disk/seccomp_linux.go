//go:build linux && (amd64 || arm64)

package disk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	handover     = 3 // the descriptor over which Exec gives the listener away
	handoverWait = 5 * time.Second
	maxReason    = 512
)

// Pair makes the two ends over which a listener travels: ours for Gate.Follow, theirs to be the first extra file of the child.
func Pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "gate"), os.NewFile(uintptr(fds[1]), "gate"), nil
}

// Exec becomes the program of args behind a gate, or without one where that cannot be had. It returns only an error.
func Exec(args []string) error {
	runtime.LockOSThread() // the filter is the thread's, and exec keeps the thread that calls it
	fd, err := install()
	if err != nil {
		err = unix.Sendmsg(handover, []byte(err.Error()), nil, nil, 0)
	} else {
		err = unix.Sendmsg(handover, []byte{0}, unix.UnixRights(fd), nil, 0)
	}
	if err != nil {
		return fmt.Errorf("hand over the listener of fsyncs: %w", err)
	}
	if err := unix.Close(handover); err != nil {
		return fmt.Errorf("close the way of the listener: %w", err)
	}
	return fmt.Errorf("start %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// install makes the kernel ask before every call that syncs (seccomp_unotify(2)).
func install() (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up the right to gain privileges: %w", err)
	}
	filter := program()
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp user notification (Linux 5.5 or later, and not inside a sandbox that forbids it): %w", errno)
	}
	return int(fd), nil
}

// program is the filter: of the right architecture's calls those that sync are asked about, all others pass.
func program() []unix.SockFilter {
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	const load, equal, end = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	calls := []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_SYNCFS}
	n := uint8(len(calls))
	p := []unix.SockFilter{
		{Code: load, K: 4}, // struct seccomp_data: arch
		{Code: equal, K: arch, Jf: n + 1},
		{Code: load, K: 0}, // and nr
	}
	for i, c := range calls {
		p = append(p, unix.SockFilter{Code: equal, K: c, Jt: n - uint8(i)})
	}
	return append(p, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF})
}

// listener answers the calls of one process and its descendants.
type listener struct {
	f   *os.File
	raw syscall.RawConn

	mu   sync.Mutex             // guards held
	held map[uint64]*time.Timer // calls that wait, by the kernel's number; nil for those that hang
}

// receive waits for the child's word over p, and closes p.
func receive(p *os.File) (*listener, error) {
	c, err := net.FileConn(p)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, fmt.Errorf("take over the listener of fsyncs: %w", err)
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("take over the listener of fsyncs: no unix socket")
	}
	if err := u.SetReadDeadline(time.Now().Add(handoverWait)); err != nil {
		return nil, fmt.Errorf("bound the handing over of the listener: %w", err)
	}
	text, rights := make([]byte, maxReason), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := u.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, fmt.Errorf("take over the listener of fsyncs: %w", err)
	}
	if m == 0 {
		return nil, errors.New(string(text[:n]))
	}
	msgs, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("take over the listener of fsyncs: bad message: %w", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("take over the listener of fsyncs: bad rights: %w", err)
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that Go waits for it as for a socket
		return nil, fmt.Errorf("take over the listener of fsyncs: %w", err)
	}
	l := &listener{f: os.NewFile(uintptr(fds[0]), "fsyncs"), held: make(map[uint64]*time.Timer)}
	if l.raw, err = l.f.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("take over the listener of fsyncs: %w", err), l.f.Close())
	}
	return l, nil
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// serve returns when the process has ended. decide gives treat what a call is told; locks that it takes come before the listener's.
func (l *listener) serve(decide func(treat func(answer) error) error) error {
	over := false
	var failed error
	err := l.raw.Read(func(fd uintptr) bool {
		for {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, err := unix.Poll(poll, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				failed = fmt.Errorf("poll: %w", err)
				return true
			case poll[0].Revents&unix.POLLIN != 0:
				if failed = l.take(fd, decide); failed != nil {
					return true
				}
			case poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0:
				over = true
				return true
			default:
				return false // wait for more
			}
		}
	})
	if over || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return errors.Join(failed, err)
}

func (l *listener) take(fd uintptr, decide func(treat func(answer) error) error) error {
	var n notification
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
	switch errno {
	case 0:
	case unix.ENOENT, unix.EINTR: // the caller was interrupted meanwhile, and asks again
		return nil
	default:
		return fmt.Errorf("receive: %w", errno)
	}
	return decide(func(a answer) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.treat(fd, n.id, a)
	})
}

// treat is called with the lock held.
func (l *listener) treat(fd uintptr, id uint64, a answer) error {
	switch {
	case a.never:
		l.held[id] = nil
	case a.after > 0:
		l.held[id] = time.AfterFunc(a.after, func() { l.let(id) })
	default:
		delete(l.held, id)
		return respond(fd, id, a.fail)
	}
	return nil
}

// let has a slow call go on, unless release was quicker.
func (l *listener) let(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[id] != nil {
		delete(l.held, id)
		_ = l.raw.Control(func(fd uintptr) { _ = respond(fd, id, false) }) // both fail only once the listener is closed
	}
}

// release treats all calls that wait anew.
func (l *listener) release(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.raw.Control(func(fd uintptr) {
		for id, t := range l.held {
			if t != nil {
				t.Stop()
			}
			_ = l.treat(fd, id, a) // fails only once the listener is closed, when the kernel answers in our stead
		}
	})
}

// respond has a call go on into the kernel, or fail as a broken disk does. A caller that is gone needs no answer.
func respond(fd uintptr, id uint64, fail bool) error {
	r := response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if fail {
		r.flags, r.err = 0, -int32(unix.EIO)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	if errno != 0 && errno != unix.ENOENT {
		return fmt.Errorf("answer: %w", errno)
	}
	return nil
}

func (l *listener) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, t := range l.held {
		if t != nil {
			t.Stop()
		}
		delete(l.held, id)
	}
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("close listener of fsyncs: %w", err)
	}
	return nil
}
