package transport

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// Two processes with one node's certificate are two nodes for themselves and one for all others: a copy of a machine that was switched on, or a file
// that was copied to make another node's. Whoever takes part listens where the cluster says that the node is, or finds out who does: it asks at that
// address for the name of the process, which each makes for itself when it starts. Programs that do not know the service refuse it.

// processName is how many random bytes one is.
const processName = 16

// twinTimeout bounds the question: an own address that leads nowhere must not keep a node.
const twinTimeout = time.Second

// Twin is the name of the process that answers at addr with this node's own certificate: "" if nobody does, an older program's or another node's process
// does, or the one that asks.
func (n *Net) Twin(ctx context.Context, addr string) string {
	name := askProcess(ctx, n.creds.Now(), n.cfg.ID, addr)
	if name == n.process {
		return ""
	}
	return name
}

// TwinBefore is Twin for a process that does not listen yet.
func TwinBefore(ctx context.Context, cfg Config, addr string) (string, error) {
	creds, err := cfg.credentials()
	if err != nil {
		return "", fmt.Errorf("transport identity: %w", err)
	}
	return askProcess(ctx, creds, cfg.ID, addr), nil
}

func askProcess(ctx context.Context, creds credentials, id, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, twinTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer discard(raw)
	stop := context.AfterFunc(ctx, func() { discard(raw) }) // ends what waits
	defer stop()
	conn := tls.Client(raw, creds.client(id, []string{serviceSelf}))
	var name [processName]byte
	if conn.HandshakeContext(ctx) != nil {
		return ""
	}
	if _, err := io.ReadFull(conn, name[:]); err != nil {
		return ""
	}
	return string(name[:])
}

// newProcessName makes the name of this process.
func newProcessName() string {
	var name [processName]byte
	_, _ = rand.Read(name[:]) // it never fails
	return string(name[:])
}

// tellProcess answers askProcess.
func (n *Net) tellProcess(conn *tls.Conn) {
	defer discard(conn)
	err := conn.SetWriteDeadline(time.Now().Add(n.cfg.timing.handshake))
	if err == nil {
		_, err = io.WriteString(conn, n.process)
	}
	if err != nil {
		n.log.Debug("the process was not named", "err", err)
	}
}
