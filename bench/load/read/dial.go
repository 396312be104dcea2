// Package read does what mail readers do: IMAP through emersion's imapclient, and POP3 through a small client of its own, since there is none as a
// library.
//
// Every operation takes a context and has a time limit, whichever is shorter. One that runs into it closes its connection, since nobody could tell
// later which answer belongs to what; a server's NO leaves the session usable. Sessions are for one goroutine each.
package read

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/bench/load"
)

// Options bound a session. They may be left empty.
type Options struct {
	Timeout     time.Duration // of one operation; 30 s when zero
	DialTimeout time.Duration // of connection, TLS and greeting; 5 s when zero
}

func (o *Options) fill() {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
}

// broken is an error after which a connection is of no use, and that does not say so itself: imapclient keeps only the text of what happened to
// its connection.
type broken struct{ err error }

func (b *broken) Error() string     { return b.err.Error() }
func (b *broken) Unwrap() error     { return b.err }
func (b *broken) Class() load.Class { return load.Connection }

// bounded runs f, which talks over conn, under ctx and a time limit: when one of them ends, conn is closed and the error is theirs.
func bounded(ctx context.Context, limit time.Duration, conn net.Conn, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // f then fails, which is the news
	err := f()
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// dialTLS makes a connection with implicit TLS.
func dialTLS(ctx context.Context, addr string, t *tls.Config, o Options) (secure *tls.Conn, raw net.Conn, err error) {
	if raw, err = dial(ctx, addr, o); err != nil {
		return nil, nil, err
	}
	secure, err = handshake(ctx, raw, addr, t, o)
	return secure, raw, err
}

func dial(ctx context.Context, addr string, o Options) (net.Conn, error) {
	d := net.Dialer{Timeout: o.DialTimeout}
	return d.DialContext(ctx, "tcp", addr)
}

// handshake begins TLS on a connection, and closes that when it fails.
func handshake(ctx context.Context, raw net.Conn, addr string, t *tls.Config, o Options) (*tls.Conn, error) {
	secure := tls.Client(raw, named(t, addr))
	err := bounded(ctx, o.DialTimeout, raw, func() error { return secure.HandshakeContext(ctx) })
	if err != nil {
		_ = raw.Close() // the handshake's error is the news
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

// named is the settings with a server name. All sessions share those that have one already.
func named(t *tls.Config, addr string) *tls.Config {
	if t.ServerName != "" || t.InsecureSkipVerify {
		return t
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	t = t.Clone()
	t.ServerName = host
	return t
}

// DialIMAP opens a session with a node of the target: by implicit TLS where the target has it, else by STARTTLS if the target has TLS settings and the
// node offers it, else plain.
func DialIMAP(ctx context.Context, t load.Target, node int, o Options) (*Session, error) {
	o.fill()
	if node < 0 || node >= len(t.Nodes) {
		return nil, fmt.Errorf("target %s has no node %d", t.Name, node)
	}
	n := t.Nodes[node]
	var s *Session
	var err error
	switch {
	case n.IMAPS != "" && t.TLS != nil:
		s, err = imapTLS(ctx, n.IMAPS, t.TLS, o)
	case n.IMAP != "":
		s, err = imapPlain(ctx, n.IMAP, t.TLS, o)
	default:
		return nil, fmt.Errorf("node %s of target %s does not serve IMAP", n.ID, t.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("IMAP with node %s: %w", n.ID, err)
	}
	return s, nil
}

func imapTLS(ctx context.Context, addr string, t *tls.Config, o Options) (*Session, error) {
	secure, raw, err := dialTLS(ctx, addr, t, o)
	if err != nil {
		return nil, err
	}
	s := &Session{raw: raw, o: o}
	s.client = imapclient.New(secure, s.options())
	return s, s.greet(ctx)
}

// imapPlain tries STARTTLS first when there are TLS settings. A server that refuses it is talked to without.
func imapPlain(ctx context.Context, addr string, t *tls.Config, o Options) (*Session, error) {
	raw, err := dial(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	s := &Session{raw: raw, o: o}
	if t == nil {
		s.client = imapclient.New(raw, s.options())
		return s, s.greet(ctx)
	}
	options := s.options()
	options.TLSConfig = named(t, addr)
	err = bounded(ctx, o.DialTimeout, raw, func() (err error) {
		s.client, err = imapclient.NewStartTLS(raw, options)
		return err
	})
	if _, refused := errors.AsType[*imap.Error](err); refused {
		return imapPlain(ctx, addr, nil, o)
	}
	if err != nil {
		_ = raw.Close() // the error is the news
		return nil, err
	}
	return s, nil
}
