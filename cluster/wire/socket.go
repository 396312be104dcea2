package wire

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// Socket is a TCP connection whose writes need not wait for the peer: while Keep is on, what the kernel does not take at once is kept, and written by
// Flush or before whatever is written next. TLS above it knows nothing of that. So whoever has a message can write it himself, and only when the peer is slow is
// it left to a goroutine that may wait (Link).
type Socket struct {
	net.Conn
	raw     syscall.RawConn
	keep    atomic.Bool
	attempt func(fd uintptr) bool // writes buf once

	mu   sync.Mutex // guards the rest; held while somebody writes
	rest []byte     // what the kernel did not take
	buf  []byte     // attempt's argument, and its results
	n    int
	err  error
}

// NewSocket takes over a connection.
func NewSocket(conn *net.TCPConn) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{Conn: conn, raw: raw}
	s.attempt = func(fd uintptr) bool {
		s.n, s.err = syscall.Write(int(fd), s.buf)
		return true
	}
	return s, nil
}

// socket is how a Link finds it in what embeds it.
func (s *Socket) socket() *Socket { return s }

// Keep says whether writes keep what the kernel does not take at once.
func (s *Socket) Keep(on bool) { s.keep.Store(on) }

// Kept says that something was kept.
func (s *Socket) Kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rest) > 0
}

// Flush writes what was kept, for as long as that takes.
func (s *Socket) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Socket) flush() error {
	for len(s.rest) > 0 {
		n, err := s.Conn.Write(s.rest)
		s.rest = s.rest[n:]
		if err != nil {
			return err
		}
	}
	s.rest = nil
	return nil
}

// Write implements net.Conn.
func (s *Socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keep.Load() {
		if err := s.flush(); err != nil {
			return 0, err
		}
		return s.Conn.Write(b)
	}
	taken := 0
	if len(s.rest) == 0 {
		var err error
		if taken, err = s.try(b); err != nil {
			return 0, err
		}
	}
	s.rest = append(s.rest, b[taken:]...)
	return len(b), nil
}

// try has the kernel take what it takes at once.
func (s *Socket) try(b []byte) (int, error) {
	s.buf = b
	err := s.raw.Write(s.attempt)
	s.buf = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN) || errors.Is(s.err, syscall.EINTR):
		return 0, nil
	case s.err != nil:
		return 0, &net.OpError{Op: "write", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: s.err}
	}
	return s.n, nil
}
