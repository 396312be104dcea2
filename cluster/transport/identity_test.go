package transport_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/pki"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

func listen(t *testing.T, config transport.Config) *transport.Net {
	t.Helper()
	n, err := transport.Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	n.Serve()
	return n
}

// Who may not talk to whom. "a" dials the node that its table calls "b".
func TestIdentity(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, a, b *transport.Config)
		want   string // in the error at a
	}{
		{"nothing wrong", func(*testing.T, *transport.Config, *transport.Config) {}, ""},
		{"another authority", func(t *testing.T, a, _ *transport.Config) {
			foreign := transporttest.Configs(t, "a")[0]
			foreign.Listener.Close()
			a.Cert, a.Key = foreign.Cert, foreign.Key
		}, "certificate"},
		{"the listener has another authority", func(t *testing.T, _, b *transport.Config) {
			foreign := transporttest.Configs(t, "b")[0]
			foreign.Listener.Close()
			b.Cert, b.Key, b.CA = foreign.Cert, foreign.Key, foreign.CA
		}, "unknown authority"},
		{"another node answers", func(_ *testing.T, a, _ *transport.Config) {
			a.Peers = []transport.Peer{{ID: "b", Addr: a.Peers[2].Addr}} // c's
		}, `dialled node "b", reached "c"`},
		{"not in the peer table", func(_ *testing.T, _, b *transport.Config) {
			b.Peers = b.Peers[1:]
		}, "bad certificate"},
		{"network not allowed", func(_ *testing.T, _, b *transport.Config) {
			b.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		}, "EOF|reset"},
		{"network allowed", func(_ *testing.T, _, b *transport.Config) {
			b.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
		}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			configs := transporttest.Configs(t, "a", "b", "c")
			c.change(t, &configs[0], &configs[1])
			a := listen(t, configs[0])
			listen(t, configs[1])
			listen(t, configs[2])
			if c.want == "" {
				eventually(t, "a reaches b", func() bool { return a.Up("b") })
				return
			}
			err := transport.Dial(a, "b", "hongyan-rpc/1")
			found := false
			for want := range strings.SplitSeq(c.want, "|") {
				found = found || err != nil && strings.Contains(err.Error(), want)
			}
			if !found {
				t.Errorf("got %v", err)
			}
			if a.Up("b") {
				t.Error("b is up all the same")
			}
		})
	}
}

func TestOwnCertificateMustMatch(t *testing.T) {
	configs := transporttest.Configs(t, "a", "b")
	defer configs[1].Listener.Close()
	defer configs[0].Listener.Close()
	configs[0].Cert, configs[0].Key = configs[1].Cert, configs[1].Key
	if n, err := transport.Listen(configs[0]); err == nil {
		n.Close()
		t.Fatal("a started with b's certificate")
	}
}

// Strangers at the port: whatever they send, they are dropped, and nodes go on.
func TestStrangers(t *testing.T) {
	configs := transporttest.Configs(t, "a", "b")
	for i := range configs {
		transport.Hasten(&configs[i])
	}
	addr := configs[1].Listener.Addr().String()
	a := listen(t, configs[0])
	listen(t, configs[1])
	cases := map[string]string{
		"silence": "",
		"garbage": strings.Repeat("\x00\xff\x16garbage", 1000),
		"HTTP":    "GET / HTTP/1.1\r\nHost: hongyan\r\n\r\n",
		"SMTP":    "EHLO stranger\r\n",
	}
	for name, words := range cases {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(words)) // may be refused already
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		for err == nil {
			_, err = conn.Read(make([]byte, 1024))
		}
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("%s was not dropped", name)
		}
	}
	ca := filepath.Dir(configs[0].CA)
	authority, err := pki.EnsureCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	mail, key := filepath.Join(ca, "mail.pem"), filepath.Join(ca, "mail.key")
	if err := authority.EnsureServer(nil, nil, mail, key); err != nil {
		t.Fatal(err)
	}
	node, err := tls.LoadX509KeyPair(configs[0].Cert, configs[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	frontend, err := tls.LoadX509KeyPair(mail, key)
	if err != nil {
		t.Fatal(err)
	}
	attempts := map[string]*tls.Config{
		"no certificate":     {NextProtos: []string{"hongyan-rpc/1"}},
		"mail's certificate": {NextProtos: []string{"hongyan-rpc/1"}, Certificates: []tls.Certificate{frontend}},
		"no service":         {Certificates: []tls.Certificate{node}},
		"unknown service":    {NextProtos: []string{"h2"}, Certificates: []tls.Certificate{node}},
		"TLS 1.2":            {NextProtos: []string{"hongyan-rpc/1"}, Certificates: []tls.Certificate{node}, MaxVersion: tls.VersionTLS12},
	}
	for name, config := range attempts {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", addr, config)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	eventually(t, "a reaches b", func() bool { return a.Up("b") })
}

// TestTwin tells the process that asks from another one with its certificate, and from other nodes.
func TestTwin(t *testing.T) {
	configs := transporttest.Configs(t, "a", "b")
	before := configs[0]
	addr, other := before.Peers[0].Addr, before.Peers[1].Addr
	a := listen(t, configs[0])
	listen(t, configs[1])
	before.Listener, before.Listen = nil, "127.0.0.1:0"
	second := listen(t, before)
	if name := a.Twin(t.Context(), addr); name != "" {
		t.Errorf("at its own address there is %q", name)
	}
	if name := a.Twin(t.Context(), other); name != "" {
		t.Errorf("at another node's address there is %q", name)
	}
	name := second.Twin(t.Context(), addr)
	if name == "" {
		t.Error("the first process is not found")
	}
	if found, err := transport.TwinBefore(t.Context(), before, addr); err != nil || found != name {
		t.Errorf("before it listens: %q, %v, expected %q", found, err, name)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if name := second.Twin(t.Context(), addr); name != "" {
		t.Errorf("the first process has ended, and there is %q", name)
	}
}
