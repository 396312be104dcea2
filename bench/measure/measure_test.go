package measure

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func linux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
}

func TestMachine(t *testing.T) {
	linux(t)
	m := Machine(t.TempDir())
	if m.Kernel == "" || m.MemoryBytes == 0 || m.Filesystem == "" || m.FsyncSecs <= 0 {
		t.Errorf("got %+v", m)
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b/c"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 100_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Folders(dir, filepath.Join(dir, "missing"))
	if err != nil || s.Files != 2 || s.Bytes < 200_000 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestProcesses counts the work of a child of the process that is asked for, also once it has ended.
func TestProcesses(t *testing.T) {
	linux(t)
	// The inner shell burns processor time; the outer one waits for it, then sleeps.
	cmd := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done'; echo; sleep 100`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	u, err := Processes(cmd.Process.Pid, 1<<22+1)
	if err != nil || u.CPU < 10*time.Millisecond || u.Memory == 0 || u.Missing != 1 {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestFlushes(t *testing.T) {
	linux(t)
	dir := t.TempDir()
	before, err := Flushes(dir)
	if err != nil {
		t.Skip(err) // a folder on a file system without a disk of its own
	}
	if _, err := fsyncTime(dir, 5); err != nil {
		t.Fatal(err)
	}
	after, err := Flushes(dir)
	if err != nil || after < before {
		t.Errorf("%d, then %d, %v", before, after, err)
	}
}

func TestScrape(t *testing.T) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, []string{"x"})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds"})
	r.MustRegister(c, h)
	c.WithLabelValues("a").Add(2)
	c.WithLabelValues("b").Add(3)
	h.Observe(0.5)
	s := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer s.Close()
	before, err := Scrape(t.Context(), s.URL, s.URL)
	if err != nil || before["c_total"] != 10 || before["h_seconds_count"] != 2 || before["h_seconds_sum"] != 1 {
		t.Fatalf("got %v, %v", before, err)
	}
	c.WithLabelValues("a").Inc()
	after, err := Scrape(t.Context(), s.URL)
	if err != nil || after["c_total"]-5 != 1 {
		t.Errorf("got %v, %v", after, err)
	}
	s.Config.Handler = http.NotFoundHandler()
	if _, err := Scrape(t.Context(), s.URL); err == nil {
		t.Error("an answer of 404 is taken for metrics")
	}
}
