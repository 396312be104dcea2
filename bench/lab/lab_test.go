package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hongyan/bench/disk"
	"hongyan/bench/lab/labtest"
	"hongyan/cluster/config"
	"hongyan/cluster/mover"
)

// The supervisor starts its own program as a child, which in these tests is the test binary: it then plays a
// supervisor, or a node that does nothing but HTTP. Files in the node's folder make that node misbehave.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ExecWord {
		fmt.Fprintln(os.Stderr, disk.Exec(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == "node" {
		if err := fakeNode(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "supervisor" {
		o := labOptions(os.Args[2], os.Args[3])
		if err := Run(o, make(chan os.Signal)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	status := m.Run()
	if err := program.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// program is what the tests with real nodes run.
var program labtest.Program

func fakeNode(file string) error {
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(c.Data, name))
		return err == nil
	}
	if has("broken") {
		return errors.New("cannot start")
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	gone := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		gone <- err
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if has("unready") {
			http.Error(w, "directory has no leader", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"node":"` + c.ID + `","shards":[{"shard":3,"home":"north","leader":"north-1","voters":["south-1","north-1"],"applied":77}],
			"volumes":[{"id":12,"state":"open","primary":"south-1","copies":["south-1","north-1"]},{"id":11,"state":"sealed","length":3145728}]}`))
	})
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"nodes": fakeMembers(filepath.Dir(c.Data))})
	})
	mux.HandleFunc("GET /api/v1/accounts", func(w http.ResponseWriter, _ *http.Request) {
		list := []string{}
		if all, err := filepath.Glob(filepath.Join(c.Data, "..", "*", "puts")); err == nil {
			for _, f := range all {
				b, _ := os.ReadFile(f) // missing ones hold no accounts
				list = append(list, strings.Fields(strings.ReplaceAll(string(b), "/api/v1/accounts/", ""))...)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string][]string{"accounts": list})
	})
	var mu sync.Mutex
	mux.HandleFunc("PUT /api/v1/", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		f, err := os.OpenFile(filepath.Join(c.Data, "puts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, r.URL.Path)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	l, err := net.Listen("tcp", c.Listeners.HTTP.Address)
	if err != nil {
		return err
	}
	go func() { gone <- http.Serve(l, mux) }()
	for {
		select {
		case <-term:
			if !has("stubborn") {
				return nil
			}
		case err := <-gone:
			return err
		}
	}
}

// fakeMembers are the nodes that were put, but for those in the file "removed" of the cluster's folder.
func fakeMembers(dir string) []mover.NodeStatus {
	list := []mover.NodeStatus{}
	removed, _ := os.ReadFile(filepath.Join(dir, "removed")) // none, if it is not there
	all, _ := filepath.Glob(filepath.Join(dir, "*", "puts"))
	for _, file := range all {
		b, _ := os.ReadFile(file) // as above
		for _, path := range strings.Fields(string(b)) {
			if id, ok := strings.CutPrefix(path, "/api/v1/nodes/"); ok && !slices.Contains(strings.Fields(string(removed)), id) {
				list = append(list, mover.NodeStatus{ID: id})
			}
		}
	}
	return list
}

func labOptions(dir, base string) Options {
	var port int
	if _, err := fmt.Sscan(base, &port); err != nil {
		panic(err)
	}
	return Options{
		Dir: dir, PortBase: port, Accounts: 7, Restart: OnFailure,
		Regions: []Region{{"south", 1}, {"north", 1}},
		Log:     slog.New(slog.DiscardHandler),
	}
}

// freeBase finds a port base at which the whole test cluster finds its ports free.
func freeBase(t testing.TB) string {
	t.Helper()
	for base := 21000; base < 60000; base += 200 {
		p, err := newPlan(t.TempDir(), labOptions("", fmt.Sprint(base)).Regions, base)
		if err != nil {
			t.Fatal(err)
		}
		if p.tryPorts() == nil {
			return fmt.Sprint(base)
		}
	}
	t.Fatal("no free ports")
	return ""
}

// running is a supervisor in this process.
type running struct {
	t       *testing.T
	dir     string
	signals chan os.Signal
	ended   chan error
	once    sync.Once
	err     error
}

func runLab(t *testing.T, dir string, change func(*Options)) *running {
	t.Helper()
	r := &running{t: t, dir: dir, signals: make(chan os.Signal, 2), ended: make(chan error, 1)}
	ready := make(chan struct{})
	o := labOptions(dir, freeBase(t))
	o.Ready = func(*Cluster) { close(ready) }
	if change != nil {
		change(&o)
	}
	go func() { r.ended <- Run(o, r.signals) }()
	t.Cleanup(func() {
		if err := r.stop(); err != nil && !t.Failed() {
			t.Errorf("supervisor: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-r.ended:
		r.once.Do(func() {})
		t.Fatalf("supervisor ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the cluster did not become ready")
	}
	return r
}

func (r *running) stop() error {
	r.once.Do(func() {
		r.signals <- os.Interrupt
		r.err = <-r.ended
	})
	return r.err
}

func (r *running) pid(id string) int {
	r.t.Helper()
	c, err := Read(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if n.ID == id {
			return n.PID
		}
	}
	r.t.Fatalf("no node %s in cluster.json", id)
	return 0
}

// eventually polls for something that another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyWithin(t, 15*time.Second, what, ok)
}

func eventuallyWithin(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// alive is false also for a process that has ended and that its new parent has not collected yet.
func alive(pid int) bool {
	if pid <= 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestClusterFileDescribesAReadyCluster(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	c, err := Read(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Nodes) != 2 || c.Nodes[0].ID != "south-1" || c.Nodes[1].Region != "north" || !alive(c.Nodes[0].PID) {
		t.Errorf("nodes: %+v", c.Nodes)
	}
	if len(c.Accounts) != 7 || c.Accounts[6] != (Account{"u0007@example.test", "secret"}) {
		t.Errorf("accounts: %+v", c.Accounts)
	}
	if fi, err := os.Stat(clusterFile(r.dir)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600, since it holds passwords", fi.Mode(), err)
	}
	var south, north int
	if _, err := fmt.Sscanf(c.Nodes[0].SMTP+" "+c.Nodes[1].IMAPS, "127.0.0.1:%d 127.0.0.1:%d", &south, &north); err != nil || north-south != 168 {
		t.Errorf("ports %d and %d (%v): want base+25 and base+100+93", south, north, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(r.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a stop: %v, want no cluster.json", err)
	}
	if alive(c.Nodes[0].PID) || alive(c.Nodes[1].PID) {
		t.Error("a node outlived its supervisor")
	}
}

func TestFaults(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	before := r.pid("south-1")
	if err := Act(r.dir, "kill", "south-1"); err != nil {
		t.Fatal(err)
	}
	if alive(before) || r.pid("south-1") != 0 {
		t.Error("killed, but its process or its pid is still there")
	}
	if err := Act(r.dir, "kill", "south-1"); err == nil || err.Error() != "node south-1 is not running" {
		t.Errorf("killed twice: %v", err)
	}
	if err := Act(r.dir, "start", "south-1"); err != nil {
		t.Fatal(err)
	}
	if after := r.pid("south-1"); after == before || !alive(after) {
		t.Errorf("started with pid %d after %d", after, before)
	}
	if err := Act(r.dir, "pause", "north-1"); err != nil {
		t.Fatal(err)
	}
	if st := nodeState(t, r.dir, "north-1"); st.State != statePaused || st.Ready {
		t.Errorf("paused: %+v", st)
	}
	if err := Act(r.dir, "start", "north-1"); err == nil || !strings.Contains(err.Error(), "paused") {
		t.Errorf("start of a paused node: %v", err)
	}
	if err := Act(r.dir, "resume", "north-1"); err != nil {
		t.Fatal(err)
	}
	if err := Act(r.dir, "resume", "north-1"); err == nil {
		t.Error("resumed twice")
	}
	if err := Act(r.dir, "pause", "north-1"); err != nil {
		t.Fatal(err)
	}
	if err := Act(r.dir, "stop", "north-1"); err != nil { // must not wait for a resume
		t.Fatal(err)
	}
	if st := nodeState(t, r.dir, "north-1"); st.State != stateDown || st.LastExit != "exit status 0" {
		t.Errorf("stopped: %+v", st)
	}
	if err := Act(r.dir, "stop", "east-1"); err == nil || !strings.Contains(err.Error(), `no node "east-1" here; there are [south-1 north-1]`) {
		t.Errorf("unknown node: %v", err)
	}
	if err := Act(r.dir, "end", "south-1"); err == nil {
		t.Error("an order of the supervisor's own was taken from outside")
	}
}

func nodeState(t *testing.T, dir, id string) NodeStatus {
	t.Helper()
	st, err := GetStatus(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range st.Nodes {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no node %s in status", id)
	return NodeStatus{}
}

func TestRestartPolicies(t *testing.T) {
	tests := []struct {
		policy Restart
		state  string
	}{{OnFailure, stateRunning}, {Never, stateDown}}
	for _, tt := range tests {
		t.Run(string(tt.policy), func(t *testing.T) {
			r := runLab(t, t.TempDir(), func(o *Options) { o.Restart = tt.policy })
			before := r.pid("south-1")
			if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the death is dealt with", func() bool {
				st := nodeState(t, r.dir, "south-1")
				return st.Restarts == 1 && st.State == tt.state && st.PID != before && st.LastExit == "signal: killed"
			})
			if tt.policy == OnFailure && !alive(r.pid("south-1")) {
				t.Error("cluster.json does not name the new process")
			}
		})
	}
}

func TestKillOfADeadNodeThatWouldComeBackKeepsItDown(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	if err := os.WriteFile(filepath.Join(r.dir, "south-1", "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.pid("south-1"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it died again and again", func() bool {
		st := nodeState(t, r.dir, "south-1")
		return st.Restarts >= 3 && st.State == stateWaiting && st.LastExit == "exit status 1"
	})
	if err := Act(r.dir, "kill", "south-1"); err != nil {
		t.Fatal(err)
	}
	if st := nodeState(t, r.dir, "south-1"); st.State != stateDown {
		t.Errorf("killed: %+v", st)
	}
}

// TestStartOfANodeThatEnds: a node that was told to stop still serves for a while, and is not there to stay.
func TestStartOfANodeThatEnds(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	if err := os.WriteFile(filepath.Join(r.dir, "south-1", "stubborn"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- Act(r.dir, "stop", "south-1") }()
	time.Sleep(time.Second) // it takes stopOne
	if err := Act(r.dir, "start", "south-1"); err == nil || !strings.Contains(err.Error(), "about to end") {
		t.Errorf("start: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if st := nodeState(t, r.dir, "south-1"); st.State != stateDown || st.Restarts != 0 {
		t.Errorf("stopped: %+v", st)
	}
	if err := os.Remove(filepath.Join(r.dir, "south-1", "stubborn")); err != nil {
		t.Fatal(err)
	}
	if err := Act(r.dir, "start", "south-1"); err != nil {
		t.Error(err)
	}
}

func TestStartFailsWhenANodeCannot(t *testing.T) {
	for _, policy := range []Restart{Never, OnFailure} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "north-1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "north-1", "broken"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		o := labOptions(dir, freeBase(t))
		o.Restart = policy
		err := Run(o, make(chan os.Signal))
		if err == nil || !strings.Contains(err.Error(), "node north-1 ended before it was ready: exit status 1; see ") {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

func TestSecondSignalKillsStubbornNodes(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	pid := r.pid("south-1")
	if err := os.WriteFile(filepath.Join(r.dir, "south-1", "stubborn"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	r.signals <- os.Interrupt
	r.signals <- os.Interrupt
	r.once.Do(func() { r.err = <-r.ended })
	if r.err != nil {
		t.Error(r.err)
	}
	if alive(pid) || time.Since(begin) > stopOne {
		t.Errorf("took %v, alive %v", time.Since(begin), alive(pid))
	}
}

func TestStopWhenAllNodesWereKilled(t *testing.T) {
	r := runLab(t, t.TempDir(), func(o *Options) { o.Restart = Never })
	for _, id := range []string{"south-1", "north-1"} {
		if err := syscall.Kill(r.pid(id), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestSignalBeforeReadyStops(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "north-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "north-1", "unready"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- Run(labOptions(dir, freeBase(t)), signals) }()
	eventually(t, "the node says why it is not ready", func() bool {
		st, err := GetStatus(dir)
		return err == nil && strings.Contains(st.Nodes[1].Reason, "503: directory has no leader")
	})
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("cluster.json before all are ready: %v", err)
	}
	signals <- os.Interrupt
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A start that takes too long says what the node said of itself, not that the last question was cut short.
func TestWaitingForANodeSaysWhy(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "disk is full", http.StatusServiceUnavailable)
	}))
	defer web.Close()
	api, err := newAPI("token")
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{api: api, o: Options{Log: slog.New(slog.DiscardHandler)}}
	port := web.Listener.Addr().(*net.TCPAddr).Port
	p := &process{node: node{ID: "south-1", base: port - 80}, pub: ProcessStatus{State: stateRunning}}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.awaitReady(ctx, p, false); err == nil || !strings.HasSuffix(err.Error(), "last heard: readyz says 503: disk is full") {
		t.Errorf("got %v", err)
	}
}

func TestOneSupervisorAFolderAndNoNewNodes(t *testing.T) {
	dir := t.TempDir()
	r := runLab(t, dir, nil)
	err := Run(labOptions(dir, freeBase(t)), nil)
	if err == nil || err.Error() != fmt.Sprintf("another `hongyan dev` runs in %s (pid %d)", dir, os.Getpid()) {
		t.Errorf("second supervisor: %v", err)
	}
	if _, err := Read(dir); err != nil {
		t.Errorf("the second one took the first one's cluster.json: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	o := labOptions(dir, freeBase(t))
	o.Regions = append(o.Regions, Region{"east", 1})
	if err := Run(o, nil); err == nil || !strings.Contains(err.Error(), "was made with --regions south=1,north=1, which stays so") {
		t.Errorf("changed nodes: %v", err)
	}
	if err := Act(dir, "kill", "south-1"); err == nil || !strings.Contains(err.Error(), "no cluster runs in") {
		t.Errorf("order without a supervisor: %v", err)
	}
	if err := Act(filepath.Join(dir, "none"), "kill", "south-1"); err == nil || !strings.Contains(err.Error(), "no cluster in") {
		t.Errorf("order without a folder: %v", err)
	}
	runLab(t, dir, nil) // other ports, same nodes
}

func TestTakenPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := newPlan(t.TempDir(), []Region{{"south", 1}}, l.Addr().(*net.TCPAddr).Port-80)
	if err != nil {
		t.Skip(err)
	}
	if err := p.waitPorts(0); err == nil || !strings.Contains(err.Error(), "port of node south-1 is taken (choose another --port-base)") {
		t.Errorf("taken port: %v", err)
	}
}

// TestChildrenDieWithTheirSupervisor kills a supervisor as the system might. A new one can then start at once.
func TestChildrenDieWithTheirSupervisor(t *testing.T) {
	dir, base := t.TempDir(), freeBase(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sup, err := os.StartProcess(exe, []string{exe, "supervisor", dir, base}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	var c *Cluster
	eventually(t, "the supervisor's cluster is ready", func() bool {
		c, err = Read(dir)
		return err == nil
	})
	if err := Act(dir, "pause", "south-1"); err != nil { // frozen ones must die too
		t.Error(err)
	}
	if err := sup.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := sup.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		eventually(t, "the nodes are gone", func() bool { return !alive(n.PID) })
	}
	runLab(t, dir, func(o *Options) { o.PortBase = labOptions(dir, base).PortBase })
}

func TestAccountsAreOnlyEverAdded(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ ask, want int }{{4, 4}, {2, 4}, {9, 9}, {0, 9}} {
		r := runLab(t, dir, func(o *Options) { o.Accounts = tt.ask })
		c, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Accounts) != tt.want {
			t.Errorf("asked for %d: there are %d, want %d", tt.ask, len(c.Accounts), tt.want)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	puts := 0
	for _, id := range []string{"south-1", "north-1"} {
		b, err := os.ReadFile(filepath.Join(dir, id, "puts"))
		if err != nil {
			t.Fatal(err)
		}
		puts += strings.Count(string(b), "/accounts/")
	}
	if puts != 9 {
		t.Errorf("%d accounts were put, want each of 9 once", puts)
	}
}

func TestLongFolderNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
	r := runLab(t, dir, nil)
	if err := Act(r.dir, "stop", "north-1"); err != nil {
		t.Error(err)
	}
}

func TestStatusAsTableAndJSON(t *testing.T) {
	r := runLab(t, t.TempDir(), nil)
	st, err := GetStatus(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	var seen clusterView
	if err := json.Unmarshal(st.Cluster, &seen); err != nil || seen.Node != "south-1" {
		t.Errorf("cluster's own status: %s, %v", st.Cluster, err)
	}
	var b strings.Builder
	if err := st.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NODE ", "south-1 ", "running", "yes", "as south-1 sees", "north-1  77", "open", "and 1 sealed", "of 3 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("table without %q:\n%s", want, b.String())
		}
	}
}
