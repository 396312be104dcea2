// Package pki makes the certificates of a development cluster: one authority, one certificate for
// each node, and one that mail clients see.
//
// Keys are ECDSA P-256. The authority's key is kept beside its certificate with mode 0600; whoever
// has it can become any node. A node certificate serves both ends of a mutual-TLS connection and names the node as
// the URI hongyan://node/ID, which is what peers check.
//
// Every Ensure function leaves alone what exists. A pair of files is written key first, each to a temporary
// name, fsynced and renamed, so a crash leaves either both, none, or a key without a certificate, and the last is
// made anew.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Validity of certificates. They begin two days early, for clocks that disagree.
const (
	validity = 10 * 365 * 24 * time.Hour
	early    = 48 * time.Hour
)

// Names of the authority's files in its directory.
const (
	CertFile = "ca.pem"
	KeyFile  = "ca.key"
)

// ServiceName is a DNS name that every node certificate carries.
const ServiceName = "hongyan"

// CA is the authority that signs a cluster's certificates.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

// NodeURI is how a certificate names a node.
func NodeURI(id string) *url.URL {
	return &url.URL{Scheme: "hongyan", Host: "node", Path: "/" + id}
}

// NodeID finds the node that a certificate names; false when it names none, or several.
func NodeID(cert *x509.Certificate) (string, bool) {
	id, found := "", false
	for _, u := range cert.URIs {
		if u.Scheme != "hongyan" || u.Host != "node" {
			continue
		}
		if found {
			return "", false
		}
		id, found = strings.TrimPrefix(u.Path, "/"), true
	}
	return id, found && id != ""
}

// EnsureCA opens the authority in dir, or makes it.
func EnsureCA(dir string) (*CA, error) {
	ca, err := ensureCA(dir, time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return ca, nil
}

func ensureCA(dir string, now time.Time) (*CA, error) {
	certPath, keyPath := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	exists, err := pairExists(certPath, keyPath)
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "Hongyan cluster authority"},
			IsCA:                  true,
			BasicConstraintsValid: true,
			MaxPathLenZero:        true,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if err := issue(template, nil, now, certPath, keyPath); err != nil {
			return nil, err
		}
	}
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("not an ECDSA certificate authority")
	}
	return &CA{cert: pair.Leaf, key: key, now: now}, nil
}

// EnsureNode issues the certificate by which node id knows and is known to its peers.
func (ca *CA) EnsureNode(id, certPath, keyPath string) error {
	if id == "" || strings.ContainsAny(id, "/?#% \x00") {
		return fmt.Errorf("node id %q cannot stand in a certificate", id)
	}
	return ca.ensure("node "+id, certPath, keyPath, &x509.Certificate{
		Subject:     pkix.Name{CommonName: id},
		URIs:        []*url.URL{NodeURI(id)},
		DNSNames:    []string{id, ServiceName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// EnsureServer issues the certificate that frontends show to mail clients. It always names localhost and the loopback addresses.
func (ca *CA) EnsureServer(names []string, ips []netip.Addr, certPath, keyPath string) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Hongyan mail"},
		DNSNames:    append([]string{"localhost"}, names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	return ca.ensure("mail server", certPath, keyPath, template)
}

func (ca *CA) ensure(what, certPath, keyPath string, template *x509.Certificate) error {
	exists, err := pairExists(certPath, keyPath)
	if err == nil && !exists {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		err = issue(template, ca, ca.now, certPath, keyPath)
	}
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", what, err)
	}
	return nil
}

// pairExists reports whether a certificate and its key are there. A certificate without a key is an
// error: nothing here leaves that, so somebody must look.
func pairExists(certPath, keyPath string) (bool, error) {
	_, err := os.Stat(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(keyPath); err != nil {
		return false, fmt.Errorf("%s exists, its key does not: %w", certPath, err)
	}
	return true, nil
}

// issue makes a key and a certificate signed by ca, by itself when ca is nil, and writes both.
func issue(template *x509.Certificate, ca *CA, now time.Time, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280 section 4.1.2.2: at most 20 octets
	if err != nil {
		return fmt.Errorf("make serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore, template.NotAfter = now.Add(-early), now.Add(validity)
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	if err := writePEM(keyPath, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return writePEM(certPath, "CERTIFICATE", der, 0o644)
}
