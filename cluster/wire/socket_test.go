package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func sockets(t *testing.T) (*Socket, *net.TCPConn) {
	t.Helper()
	near, far := tcpPair(t)
	s, err := NewSocket(near)
	if err != nil {
		t.Fatal(err)
	}
	return s, far
}

// What the kernel does not take is kept, nobody waits, and all of it comes in order, whoever writes what follows.
func TestSocketKeeps(t *testing.T) {
	s, far := sockets(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	var sent bytes.Buffer
	write := func(n int) {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if got, err := s.Write(b); err != nil || got != n {
			t.Fatal(got, err)
		}
		sent.Write(b)
	}
	s.Keep(true)
	for sent.Len() < 64<<20 { // nobody reads, and no kernel takes so much
		write(1 + rnd.IntN(64<<10))
	}
	if !s.Kept() {
		t.Fatal("nothing was kept")
	}
	got := make(chan []byte)
	go func() {
		b, err := io.ReadAll(far)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	if err := s.Flush(); err != nil || s.Kept() {
		t.Fatal("after a flush something is kept", err)
	}
	for range 1000 {
		s.Keep(rnd.IntN(2) == 0)
		write(1 + rnd.IntN(64<<10))
	}
	s.Keep(false)
	if err := errors.Join(s.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, sent.Bytes()) {
		t.Error("the bytes that came are others")
	}
}

// A peer that is gone is an error for who writes, and one that does not read is one for who waits for it.
func TestSocketFails(t *testing.T) {
	s, far := sockets(t)
	s.Keep(true)
	for !s.Kept() {
		if _, err := s.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if err := s.Flush(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	far.Close()

	s, far = sockets(t)
	s.Keep(true)
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	far.Close()
	var err error
	for err == nil {
		_, err = s.Write([]byte("x"))
	}
	if _, err := s.Write([]byte("x")); err == nil || s.Kept() {
		t.Fatal("it goes on")
	}
}
