package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
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

// A node whose certificate was renewed shows the new one to whom it meets then; what would not do is not taken.
func TestRenewedCertificate(t *testing.T) {
	configs := transporttest.Configs(t, "a", "b")
	transport.HurryRenewal(&configs[1])
	said := make(lines, 1000)
	configs[1].Log = slog.New(slog.NewTextHandler(said, nil))
	listen(t, configs[0])
	listen(t, configs[1])
	asked, err := tls.LoadX509KeyPair(configs[0].Cert, configs[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() *x509.Certificate {
		t.Helper()
		conn, err := tls.Dial("tcp", configs[1].Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"hongyan-rpc/1"}, Certificates: []tls.Certificate{asked}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	first := shown()
	ca, err := pki.EnsureCA(filepath.Dir(configs[1].CA))
	if err != nil {
		t.Fatal(err)
	}
	renew := func(ca *pki.CA, id string) *x509.Certificate {
		t.Helper()
		cert, key := filepath.Join(t.TempDir(), "new.pem"), filepath.Join(t.TempDir(), "new.key")
		if err := ca.EnsureNode(id, cert, key); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err := errors.Join(err, os.Rename(key, configs[1].Key), os.Rename(cert, configs[1].Cert)); err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	strangers, err := pki.EnsureCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct {
		ca       *pki.CA
		id, says string
	}{{ca, "c", `names node \"c\", this is \"b\"`}, {strangers, "b", "signed by unknown authority"}} {
		renew(wrong.ca, wrong.id)
		eventually(t, "b says what is wrong", func() bool {
			if !shown().Equal(first) {
				t.Fatal("b shows what nobody takes")
			}
			return said.next(wrong.says)
		})
	}
	second := renew(ca, "b")
	eventually(t, "b shows its new certificate", func() bool { return shown().Equal(second) })
	stranger := configs[0]
	stranger.Listener, stranger.Listen = nil, "127.0.0.1:0"
	again := listen(t, stranger)
	eventually(t, "a reaches b", func() bool { return again.Up("b") })
}

// lines of a log; those beyond its capacity are lost.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// next reads what is there, to the first line with a text.
func (l lines) next(text string) bool {
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return true
			}
		default:
			return false
		}
	}
}

// The manual's recipe makes certificates with which nodes reach each other.
func TestCertificatesOfTheManual(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "\n## Certificates\n")
	var recipes []string
	for range 2 {
		var recipe string
		_, rest, _ = strings.Cut(rest, "```sh\n")
		recipe, rest, _ = strings.Cut(rest, "```\n")
		recipes = append(recipes, recipe)
	}
	dir := t.TempDir()
	run := func(recipe string) {
		t.Helper()
		cmd := exec.Command("sh", "-eu", "-c", recipe)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || recipe == "" {
			t.Fatalf("%s: %v\n%s", recipe, err, out)
		}
	}
	run(recipes[0])
	configs := transporttest.Configs(t, "a", "b")
	var nets []*transport.Net
	for i := range configs {
		c := &configs[i]
		run(strings.Replace(recipes[1], "ID=south-1\n", "ID="+c.ID+"\n", 1))
		c.CA, c.Cert, c.Key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, c.ID+".pem"), filepath.Join(dir, c.ID+".key")
		nets = append(nets, listen(t, *c))
	}
	eventually(t, "the nodes reach each other", func() bool { return nets[0].Up("b") && nets[1].Up("a") })
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
