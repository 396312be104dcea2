package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// received is how many bytes have come from a connection's other end (tcp(7), TCP_INFO); 0 of one that is closed. The kernel counts, since what it
// splices passes nobody else.
func received(c *net.TCPConn) int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var n int64
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int64(info.Bytes_received)
		}
	})
	if err != nil {
		return 0
	}
	return n
}
