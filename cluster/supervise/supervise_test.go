package supervise

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hongyan/cluster/supervise/notifytest"
)

// Some tests need a process that ends badly: this one, called again.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SUPERVISE_TEST_DIR"); dir != "" {
		_, _, err := Begin(dir, "v1", slog.Default())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if os.Getenv("SUPERVISE_TEST_END") == "kill" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
		}
		panic("cannot go on")
	}
	os.Exit(m.Run())
}

func bad(t *testing.T, dir, end string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SUPERVISE_TEST_DIR="+dir, "SUPERVISE_TEST_END="+end)
	if out, err := cmd.CombinedOutput(); err == nil || end == "kill" && len(out) > 0 {
		t.Fatalf("%v, %s", err, out)
	}
}

// A process learns how the one before it ended.
func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	begin := func(want ...string) *Life {
		t.Helper()
		l, last, err := Begin(dir, "v2", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(last, w) {
				t.Errorf("%q does not say %q", last, w)
			}
		}
		if len(want) == 0 && last != "" || strings.Contains(last, "\n") {
			t.Errorf("%q", last)
		}
		return l
	}
	end := func(l *Life, why string) {
		t.Helper()
		if err := l.End(why); err != nil {
			t.Fatal(err)
		}
	}
	l := begin()
	if _, _, err := Begin(dir, "v2", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process may have") {
		t.Errorf("a second process in the folder: %v", err)
	}
	if why := Ended(dir, os.Getpid()); why != "" {
		t.Errorf("it runs, and ended by %q", why)
	}
	end(l, "the disk hangs\nand more")
	if why := Ended(dir, os.Getpid()); why != "the disk hangs; and more" {
		t.Errorf("ended by %q", why)
	}
	if why := Ended(dir, os.Getpid()+1); why != "" {
		t.Errorf("another process ended by %q", why)
	}
	end(begin(fmt.Sprintf("process %d of ", os.Getpid()), " ended ", ": the disk hangs; and more"), "told to stop")
	bad(t, dir, "kill")
	end(begin("ended without a word"), "told to stop")
	bad(t, dir, "panic")
	end(begin("crashed: panic: cannot go on", "crash.txt.1"), "told to stop")
	if b, err := os.ReadFile(filepath.Join(dir, "crash.txt.1")); err != nil || !strings.Contains(string(b), "goroutine ") {
		t.Errorf("%q, %v", b, err)
	}
	for _, content := range []string{"", "{", `{"pid":"x"}`, strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(filepath.Join(dir, lifeName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		end(begin("nobody knows how"), "")
	}
	r := record{PID: 7, Boot: "a"}
	if got := r.tell("", "b"); !strings.Contains(got, "with its machine") {
		t.Errorf("%q", got)
	}
}

// A node that crashed, or that the watchdog has aborted, is started again by the unit that we ship.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/hongyan.service")
	if err != nil {
		t.Fatal(err)
	}
	always := false
	for line := range strings.Lines(string(unit)) {
		line = strings.TrimSpace(line)
		always = always || line == "Restart=always"
		if strings.HasPrefix(line, "RestartPreventExitStatus=") {
			t.Errorf("%s: a crash of a Go program has exit status 2", line)
		}
	}
	if !always {
		t.Error("no Restart=always")
	}
}

func TestHeart(t *testing.T) {
	for _, watchdog := range []time.Duration{0, 40 * time.Millisecond} {
		t.Run(watchdog.String(), func(t *testing.T) {
			c := notifytest.Listen(t, watchdog)
			t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
			var stuck atomic.Bool
			release := make(chan struct{})
			why := []string{"shard 1: no leader\nfor long", "shard 2: no leader"}
			h := &Heart{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Ready: func() []string {
				if stuck.Load() {
					<-release
				}
				return why
			}}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); h.Beat(ctx) }()
			if before := c.Hear(t, "READY=1"); len(before) > 0 {
				t.Errorf("before it is ready: %q", before)
			}
			c.Hear(t, "STATUS=does not serve: shard 1: no leader; for long (and 1 more)")
			if watchdog > 0 {
				c.Hear(t, "WATCHDOG=1")
				stuck.Store(true)
				c.Quiet(t, 5*watchdog) // a node that is stuck feeds no watchdog
				close(release)
				c.Hear(t, "WATCHDOG=1")
			}
			cancel()
			for _, m := range c.Hear(t, "STOPPING=1") {
				if watchdog == 0 && strings.Contains(m, "WATCHDOG") {
					t.Errorf("nobody asked for %q", m)
				}
			}
			<-done
		})
	}
}

// Without systemd nothing happens, and nobody waits.
func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	(&Heart{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}).Beat(t.Context())
}

func TestStatus(t *testing.T) {
	for want, why := range map[string][]string{"serves": nil, "does not serve: a; b": {"a\nb"}, "does not serve: a (and 2 more)": {"a", "b", "c"}} {
		if got := status(why); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
