package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"hongyan/cluster/pki"
)

// credentials are a node's own certificate and the authority it trusts.
type credentials struct {
	cert  tls.Certificate
	roots *x509.CertPool
	now   func() time.Time // by which certificates are valid; nil is the system's
}

// credentials reads them from their files.
func (c *Config) credentials() (credentials, error) {
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return credentials{}, fmt.Errorf("read authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return credentials{}, fmt.Errorf("no certificate in %s", c.CA)
	}
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return credentials{}, fmt.Errorf("load node certificate %s: %w", c.Cert, err)
	}
	if named, ok := pki.NodeID(cert.Leaf); !ok || named != c.ID {
		return credentials{}, fmt.Errorf("%s names node %q, this is %q", c.Cert, named, c.ID)
	}
	return credentials{cert: cert, roots: roots, now: c.Clock.Now}, nil
}

// renewing reads them again and again: first those that the node starts with, later only what others can take in their place.
func (c *Config) renewing() func() (credentials, error) {
	started := false
	return func() (credentials, error) {
		creds, err := c.credentials()
		if err == nil && started {
			err = creds.usable()
		}
		started = true
		return creds, err
	}
}

// usable says why peers that trust the same authority would not take the certificate.
func (c credentials) usable() error {
	o := x509.VerifyOptions{DNSName: pki.ServiceName, Roots: c.roots, Intermediates: x509.NewCertPool()}
	if c.now != nil {
		o.CurrentTime = c.now()
	}
	for _, der := range c.cert.Certificate[1:] {
		if between, err := x509.ParseCertificate(der); err == nil {
			o.Intermediates.AddCert(between)
		}
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		o.KeyUsages = []x509.ExtKeyUsage{use}
		if _, err := c.cert.Leaf.Verify(o); err != nil {
			return fmt.Errorf("node certificate: %w", err)
		}
	}
	return nil
}

// server is the listener's side: any of these protocols, the first ones rather, from any node that known accepts for the one that was agreed on.
func (c credentials) server(known func(id, protocol string) bool, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Time:                   c.now,
		Certificates:           []tls.Certificate{c.cert},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              c.roots,
		NextProtos:             protocols,
		SessionTicketsDisabled: true, // each handshake verifies afresh
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol == "" {
				return errors.New("no service named by ALPN")
			}
			id, err := peerID(s)
			if err == nil && !known(id, s.NegotiatedProtocol) {
				err = fmt.Errorf("node %q is not in the peer table", id)
			}
			return err
		},
		DynamicRecordSizingDisabled: true,
	}
}

// client is the dialler's side: one of these protocols of one node.
func (c credentials) client(node string, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Time:         c.now,
		Certificates: []tls.Certificate{c.cert},
		RootCAs:      c.roots,
		ServerName:   pki.ServiceName, // who it is exactly, VerifyConnection says
		NextProtos:   protocols,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !slices.Contains(protocols, s.NegotiatedProtocol) {
				return fmt.Errorf("peer offers service %q, wanted one of %q", s.NegotiatedProtocol, protocols)
			}
			id, err := peerID(s)
			if err == nil && id != node {
				err = fmt.Errorf("dialled node %q, reached %q", node, id)
			}
			return err
		},
		DynamicRecordSizingDisabled: true,
	}
}

// peerID is the node that the verified certificate names.
func peerID(s tls.ConnectionState) (string, error) {
	if len(s.VerifiedChains) == 0 {
		return "", errors.New("no verified certificate")
	}
	id, ok := pki.NodeID(s.PeerCertificates[0])
	if !ok {
		return "", errors.New("certificate names no node")
	}
	return id, nil
}
