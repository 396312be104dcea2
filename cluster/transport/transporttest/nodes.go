// Package transporttest makes clusters of transports on loopback for the tests of other packages.
//
// Certificates and sockets are real; nothing is left behind when the test ends.
package transporttest

import (
	"net"
	"path/filepath"
	"testing"

	"hongyan/cluster/pki"
	"hongyan/cluster/transport"
)

// Configs gives each node a certificate, an open socket on a free port, and the dial table of all.
func Configs(t testing.TB, ids ...string) []transport.Config {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	configs := make([]transport.Config, len(ids))
	peers := make([]transport.Peer, len(ids))
	for i, id := range ids {
		c := &configs[i]
		*c = transport.Config{
			ID: id, CA: filepath.Join(dir, pki.CertFile),
			Cert: filepath.Join(dir, id+".pem"), Key: filepath.Join(dir, id+".key"),
		}
		if err := ca.EnsureNode(id, c.Cert, c.Key); err != nil {
			t.Fatal(err)
		}
		if c.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		peers[i] = transport.Peer{ID: id, Region: id, Addr: c.Listener.Addr().String()}
	}
	for i := range configs {
		configs[i].Peers = peers
	}
	return configs
}

// Nodes opens the transports of a cluster; register handlers, then Serve each. They are closed when the test ends.
func Nodes(t testing.TB, ids ...string) []*transport.Net {
	t.Helper()
	nets := make([]*transport.Net, len(ids))
	for i, config := range Configs(t, ids...) {
		n, err := transport.Listen(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		nets[i] = n
	}
	return nets
}
