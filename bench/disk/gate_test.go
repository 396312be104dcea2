package disk

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the process behind the gate: it syncs its file once for each line that it is sent, and says how that went.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "exec" {
		fmt.Fprintln(os.Stderr, Exec(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == "syncer" {
		if err := syncer(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func syncer(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var n int
		if _, err := fmt.Sscan(in.Text(), &n); err != nil {
			return err
		}
		began := time.Now()
		for range n {
			err = f.Sync()
		}
		fmt.Printf("%d %v\n", time.Since(began).Nanoseconds(), err)
	}
	return nil
}

// child is a process behind a gate, or without one.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out chan string
}

func start(t testing.TB, g *Gate, path string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(exe, "syncer", path), out: make(chan string, 1)}
	followed := make(chan struct{})
	close(followed)
	if g != nil {
		ours, theirs, err := Pair()
		if err != nil {
			t.Skip(err)
		}
		c.cmd = exec.Command(exe, "exec", exe, "syncer", path)
		c.cmd.ExtraFiles = []*os.File{theirs}
		followed = make(chan struct{})
		go func() {
			defer close(followed)
			g.Follow(ours)
		}()
		defer theirs.Close()
	}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.out <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		select {
		case <-followed:
		case <-time.After(20 * time.Second):
			t.Error("the gate outlives its process")
		}
	})
	return c
}

func (c *child) ask(n int) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, n); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) hear() (time.Duration, string) {
	c.t.Helper()
	select {
	case line := <-c.out:
		ns, how, _ := strings.Cut(line, " ")
		d, err := time.ParseDuration(ns + "ns")
		if err != nil {
			c.t.Fatal(err)
		}
		return d, how
	case <-time.After(20 * time.Second):
		c.t.Fatal("no answer from the process behind the gate")
		return 0, ""
	}
}

func gate(t testing.TB) (*Gate, *child) {
	t.Helper()
	g := NewGate(slog.New(slog.DiscardHandler))
	c := start(t, g, filepath.Join(t.TempDir(), "file"))
	c.ask(1)
	c.hear() // so the listener was handed over, or cannot be had
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := g.Set(SyncHang, 0)
		if err == nil {
			if err := g.Set(SyncOK, 0); err != nil {
				t.Fatal(err)
			}
			return g, c
		}
		if !errors.Is(err, errNoProcess) || time.Now().After(deadline) {
			t.Skip(err)
		}
	}
}

func TestGate(t *testing.T) {
	g, c := gate(t)
	set := func(s Sync, d time.Duration) {
		t.Helper()
		if err := g.Set(s, d); err != nil {
			t.Fatal(err)
		}
	}
	set(SyncSlow, 50*time.Millisecond)
	c.ask(2)
	if took, how := c.hear(); took < 100*time.Millisecond || how != "<nil>" {
		t.Errorf("slow: %v, %s", took, how)
	}
	set(SyncFail, 0)
	c.ask(1)
	if _, how := c.hear(); !strings.HasSuffix(how, "input/output error") {
		t.Errorf("failing: %s", how)
	}
	set(SyncHang, 0)
	c.ask(1)
	select {
	case line := <-c.out:
		t.Errorf("hanging: %s", line)
	case <-time.After(100 * time.Millisecond):
	}
	set(SyncOK, 0)
	if took, how := c.hear(); took < 50*time.Millisecond || how != "<nil>" {
		t.Errorf("let go: %v, %s", took, how)
	}
}

// The fault changes while fsyncs come: none is left waiting, and nobody waits for the other.
func TestSetAmidFsyncs(t *testing.T) {
	g, c := gate(t)
	c.ask(100)
	for {
		for _, s := range []Sync{SyncSlow, SyncHang, SyncOK} {
			if err := g.Set(s, time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case line := <-c.out:
			if !strings.HasSuffix(line, "<nil>") {
				t.Error(line)
			}
			return
		default:
		}
	}
}

// A process whose fsync hangs can be frozen and killed, and the fault waits for the next one.
func TestHangingProcessCanBeKilled(t *testing.T) {
	g, c := gate(t)
	if err := g.Set(SyncHang, 0); err != nil {
		t.Fatal(err)
	}
	c.ask(1)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT, syscall.SIGKILL} {
		if err := c.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("ended: %v", err)
	}
	if s, _ := g.State(); s != SyncHang {
		t.Errorf("the fault went with the process: %q", s)
	}
	next := start(t, g, filepath.Join(t.TempDir(), "file"))
	next.ask(1)
	select {
	case line := <-next.out:
		t.Errorf("hanging: %s", line)
	case <-time.After(200 * time.Millisecond):
	}
}

func TestGateIsStrict(t *testing.T) {
	g := NewGate(slog.New(slog.DiscardHandler))
	if err := g.Set(SyncFail, 0); err == nil || !strings.Contains(err.Error(), "no process") {
		t.Errorf("without a process: %v", err)
	}
	if g.Set(SyncSlow, 0) == nil || g.Set(SyncSlow, MaxSlow+1) == nil {
		t.Error("a delay out of bounds was taken")
	}
	if err := g.Set(SyncOK, 0); err != nil {
		t.Error(err)
	}
}

// BenchmarkNotification is what one fsync costs that has nothing to write, without a gate and behind an open one.
func BenchmarkNotification(b *testing.B) {
	for _, gated := range []bool{false, true} {
		b.Run(fmt.Sprintf("gate=%v", gated), func(b *testing.B) {
			var c *child
			if gated {
				_, c = gate(b)
			} else {
				c = start(b, nil, filepath.Join(b.TempDir(), "file"))
			}
			b.ResetTimer()
			c.ask(b.N)
			took, how := c.hear()
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/fsync")
			if how != "<nil>" {
				b.Error(how)
			}
		})
	}
}
