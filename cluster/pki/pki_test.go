package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func ensureCAIn(t *testing.T, dir string) *CA {
	t.Helper()
	ca, err := EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func load(t *testing.T, certPath, keyPath string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestNodeCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCAIn(t, dir)
	cert, key := filepath.Join(dir, "n", "node.pem"), filepath.Join(dir, "n", "node.key")
	if err := ca.EnsureNode("south-china-1", cert, key); err != nil {
		t.Fatal(err)
	}
	leaf := load(t, cert, key)
	if id, ok := NodeID(leaf); !ok || id != "south-china-1" {
		t.Fatalf("the certificate names %q, %v", id, ok)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		for _, name := range []string{"south-china-1", ServiceName} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("usage %d, name %s: %v", usage, name, err)
			}
		}
	}
	for _, path := range []string{key, filepath.Join(dir, KeyFile)} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
}

func TestServerCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCAIn(t, dir)
	cert, key := filepath.Join(dir, "mail.pem"), filepath.Join(dir, "mail.key")
	if err := ca.EnsureServer([]string{"mx.example.test"}, []netip.Addr{netip.MustParseAddr("192.0.2.7")}, cert, key); err != nil {
		t.Fatal(err)
	}
	leaf := load(t, cert, key)
	for _, name := range []string{"localhost", "mx.example.test", "127.0.0.1", "::1", "192.0.2.7"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if _, ok := NodeID(leaf); ok {
		t.Error("the mail server's certificate names a node")
	}
}

func TestEnsureKeepsWhatExists(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCAIn(t, dir)
	cert, key := filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")
	if err := ca.EnsureNode("a", cert, key); err != nil {
		t.Fatal(err)
	}
	first := load(t, cert, key)
	again := ensureCAIn(t, dir)
	if !again.cert.Equal(ca.cert) {
		t.Fatal("a second start made another authority")
	}
	if err := again.EnsureNode("a", cert, key); err != nil {
		t.Fatal(err)
	}
	if !load(t, cert, key).Equal(first) {
		t.Fatal("a second start made another node certificate")
	}
}

// What a crash between the two renames leaves is mended; a lost key is reported.
func TestHalfAPair(t *testing.T) {
	dir := t.TempDir()
	ca := ensureCAIn(t, dir)
	cert, key := filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")
	if err := os.WriteFile(key, []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ca.EnsureNode("a", cert, key); err != nil {
		t.Fatal(err)
	}
	load(t, cert, key)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := ca.EnsureNode("a", cert, key); err == nil {
		t.Fatal("a certificate without its key went unnoticed")
	}
}

func TestNodeIDRefusesOddIDs(t *testing.T) {
	ca := ensureCAIn(t, t.TempDir())
	for _, id := range []string{"", "a/b", "a b", "a?b"} {
		if err := ca.EnsureNode(id, filepath.Join(t.TempDir(), "c"), filepath.Join(t.TempDir(), "k")); err == nil {
			t.Errorf("node id %q was accepted", id)
		}
	}
}
