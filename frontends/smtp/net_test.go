package smtp

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// pipes is a listener of in-memory connections, which synctest can see idle.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- a
	return b
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// testTLS is a server's side with a certificate of its own.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mx.example.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// trusting is a client's side that takes any certificate.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// holding is a connection that can keep back what is written, to send it as one.
type holding struct {
	net.Conn
	on   bool
	kept bytes.Buffer
}

func (h *holding) Write(p []byte) (int, error) {
	if h.on {
		return h.kept.Write(p)
	}
	return h.Conn.Write(p)
}

// SetWriteDeadline does nothing: TLS bars what comes behind its own end with one, which may be kept back then.
func (h *holding) SetWriteDeadline(time.Time) error { return nil }

func (p *peer) hold() { p.raw.on = true }

func (p *peer) release() {
	p.t.Helper()
	p.raw.on = false
	if _, err := p.raw.kept.WriteTo(p.raw.Conn); err != nil {
		p.t.Fatal(err)
	}
}

// plain is a client of a server without TLS.
func plain(t *testing.T, f *fake, lmtp bool) *peer {
	t.Helper()
	_, addr := start(t, f, Config{}, lmtp)
	return connect(t, addr)
}

// startTLS is a client that has switched to TLS.
func startTLS(t *testing.T, f *fake, lmtp bool) *peer {
	t.Helper()
	_, addr := start(t, f, Config{TLS: testTLS(t)}, lmtp)
	p := connect(t, addr)
	p.do("STARTTLS", "220")
	return over(t, p.Conn)
}

// implicitTLS is a client of a server that speaks TLS from the first byte.
func implicitTLS(t *testing.T, f *fake, lmtp bool) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, f, Config{}, lmtp, tls.NewListener(l, testTLS(t)))
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := over(t, c)
	p.expect("220")
	return p
}

// over is a client that speaks TLS over c.
func over(t *testing.T, c net.Conn) *peer {
	t.Helper()
	raw := &holding{Conn: c}
	secure := tls.Client(raw, trusting())
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, Conn: secure, in: bufio.NewReader(secure), raw: raw}
}
