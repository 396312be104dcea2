package exercise

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
)

// cluster is a `hongyan dev` of this test.
type cluster struct {
	t     *testing.T
	bin   string
	dir   string
	base  int
	env   []string
	dev   *exec.Cmd
	state *lab.Cluster
}

// startCluster runs three regions. env is added to the environment of the nodes.
func startCluster(t *testing.T, bin string, env ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, bin: bin, dir: t.TempDir(), base: freeBase(t), env: env}
	c.start()
	t.Cleanup(func() { _ = c.dev.Process.Kill() }) // ended already unless the test failed
	return c
}

func (c *cluster) start() {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "dev.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	c.dev = exec.Command(c.bin, "dev", "--dir", c.dir, "--port-base", fmt.Sprint(c.base), "--accounts", "3", "--restart", "never")
	c.dev.Env = append(os.Environ(), c.env...)
	c.dev.Stdout, c.dev.Stderr = log, log
	if err := c.dev.Start(); err != nil {
		c.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		c.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c.state, err = lab.Read(c.dir); err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the cluster is not ready: %v", err)
		}
	}
}

func (c *cluster) stop() {
	c.t.Helper()
	if err := c.dev.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.dev.Wait(); err != nil {
		c.t.Errorf("hongyan dev: %v", err)
	}
}

// signal sends one to the nodes, or to some of them.
func (c *cluster) signal(s syscall.Signal, nodes ...lab.Member) {
	c.t.Helper()
	for _, n := range nodes {
		if err := syscall.Kill(n.PID, s); err != nil {
			c.t.Fatalf("%v to %s: %v", s, n.ID, err)
		}
	}
}

// target is the cluster as load generators see it.
func (c *cluster) target() load.Target {
	c.t.Helper()
	pem, err := os.ReadFile(c.state.CA)
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	t := load.Target{Name: "hongyan", TLS: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	for _, n := range c.state.Nodes {
		t.Nodes = append(t.Nodes, load.Node{ID: n.ID, Region: n.Region, SMTP: n.SMTP, LMTP: n.LMTP, IMAP: n.IMAP, IMAPS: n.IMAPS, POP3: n.POP3, POP3S: n.POP3S})
	}
	for _, a := range c.state.Accounts {
		t.Accounts = append(t.Accounts, load.Account{Address: a.Address, Password: a.Password})
	}
	return t
}

// freeBase looks for ports for three nodes.
func freeBase(t *testing.T) int {
	t.Helper()
	for base := 36000; base < 38700; base += 300 {
		free := true
		for node := range 3 {
			for _, port := range []int{1, 10, 24, 25, 43, 80, 93, 95} {
				l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+100*node+port))
				if free = free && err == nil; err == nil {
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports from 36000 to 38700")
	return 0
}

// patch is one exact replacement in one file of the program.
type patch struct{ file, old, new string }

// build makes the program, with patches in copies of its files that only the compiler sees.
func build(t *testing.T, patches ...patch) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "hongyan")
	args := []string{"build", "-buildvcs=false", "-o", bin}
	if len(patches) > 0 {
		args = append(args, "-overlay", overlay(t, root, dir, patches))
	}
	cmd := exec.CommandContext(context.Background(), "go", append(args, "hongyan")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// overlay writes the patched copies, and the file that has the compiler take them (see `go help build`).
func overlay(t *testing.T, root, dir string, patches []patch) string {
	t.Helper()
	replace := map[string]string{}
	for i, p := range patches {
		path := filepath.Join(root, p.file)
		from := path
		if copied, ok := replace[path]; ok {
			from = copied
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), p.old); n != 1 {
			t.Fatalf("%s has %q %d times, expected once: the fault must follow the code", p.file, p.old, n)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(b), p.old, p.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
