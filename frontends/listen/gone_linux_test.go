package listen

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// A peer whose machine has died is found by the kernel's questions: what is set here is what it was told.
func TestGone(t *testing.T) {
	for gone, want := range map[time.Duration]int{0: int(defaultGone / time.Second), 48 * time.Second: 48} {
		raw, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := Wrap(raw, Config{Name: "test", Gone: gone})
		peer, err := net.Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		control, err := c.(*Conn).Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		option := map[int]int{syscall.TCP_KEEPIDLE: 0, syscall.TCP_KEEPINTVL: 0, syscall.TCP_KEEPCNT: 0}
		err = control.Control(func(fd uintptr) {
			for name := range option {
				var failed error
				option[name], failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, name)
				if failed != nil {
					t.Error(failed)
				}
			}
		})
		if err := errors.Join(err, c.Close(), peer.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
		if got := option[syscall.TCP_KEEPIDLE] + option[syscall.TCP_KEEPINTVL]*option[syscall.TCP_KEEPCNT]; got != want {
			t.Errorf("%v: a silent peer is dropped after %d s, want %d: %v", gone, got, want, option)
		}
	}
}
