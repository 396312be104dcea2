package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/bench/history"
	"hongyan/cluster/supervise/notifytest"
)

// TestSupervision: a node tells systemd, here a socket of the test's, that it serves and works. When its disk hangs or fails it says so and ends;
// the supervisor logs why and starts it again, and it knows what ended the process before.
func TestSupervision(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a node for a while")
	}
	heard := notifytest.Listen(t, 400*time.Millisecond)
	r := &crashRun{t: t, bin: program.Build(t, "../.."), dir: t.TempDir(), history: history.New()}
	var log lockedBuffer
	h, err := Launch(t.Context(), LaunchOptions{Exe: r.bin, Dir: r.dir, Accounts: 1, Regions: []Region{{"south", 1}, {"north", 1}}, Restart: OnFailure, DiskFaults: true, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
	})
	status := func() *Status {
		t.Helper()
		s, err := h.Status()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if !status().Faults.Fsync {
		t.Skip("no fsync can be held here")
	}
	r.cluster = r.reread()
	node := r.cluster.Nodes[0]
	for range r.cluster.Nodes {
		heard.Hear(t, "READY=1")
	}
	heard.Hear(t, "WATCHDOG=1")

	// Killed, it comes back with another configuration, and says what was before.
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(h.Kill(node.ID))
	patient(t, filepath.Join(r.dir, node.ID, "node.yaml"), 4)
	do(h.Start(node.ID))
	heard.Hear(t, "READY=1")
	write := func() { // which needs the disk
		work.Go(func() {
			_ = r.attempt(node, []string{r.cluster.Accounts[0].Address}, []byte("Subject: x\r\n\r\nx\r\n"), true)
		})
	}
	for _, fault := range []struct {
		kind    DiskKind
		reasons []string // one of which the supervisor knows: raft may give up before the node does
	}{
		{DiskHang, []string{"the disk hangs"}},
		{DiskFailSync, []string{"the journal takes nothing any more", "panic: "}},
	} {
		before := status().Nodes[0].Restarts
		do(h.Disk(node.ID, DiskFault{Kind: fault.kind}))
		write()
		if fault.kind == DiskHang {
			heard.Hear(t, "STATUS=does not serve: ", "the disk hangs")
			heard.Hear(t, "STOPPING=1")
		}
		eventuallyWithin(t, 60*time.Second, fmt.Sprintf("the node has ended by %s", fault.kind), func() bool { return status().Nodes[0].Restarts > before })
		do(h.Disk(node.ID, DiskFault{Kind: DiskOK}))
		if line := log.line("node died", fault.reasons); line == "" || !strings.Contains(line, "restart_in=") {
			t.Errorf("no line of the supervisor says why the node died by %s:\n%s", fault.kind, log.String())
		}
		heard.Hear(t, "READY=1")
	}
	own, err := os.ReadFile(filepath.Join(r.dir, node.ID, "node.log"))
	do(err)
	for _, want := range []string{"ended without a word", "this node cannot work safely and should end", `msg="node ended" node=south-1 reason="the disk hangs`, `msg="node starts again"`} {
		if !strings.Contains(string(own), want) {
			t.Errorf("the node's log does not say %q", want)
		}
	}
}

// patient has a node wait so many seconds for its disk.
func patient(t *testing.T, file string, seconds int) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "disk_hang_seconds: %d\n", seconds); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// line is one with what and one of reasons, "" if there is none.
func (l *lockedBuffer) line(what string, reasons []string) string {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, what) && slices.ContainsFunc(reasons, func(why string) bool { return strings.Contains(line, why) }) {
			return line
		}
	}
	return ""
}
