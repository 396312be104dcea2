package transport

import (
	"net"
	"sync"
)

// ownedConn tells when its owner has closed it.
type ownedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *ownedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}
