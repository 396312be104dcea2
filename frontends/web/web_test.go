package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hongyan/cluster/client"
	"hongyan/cluster/custody"
	"hongyan/cluster/mover"
	"hongyan/cluster/policy"
	"hongyan/cluster/reconcile"
	"hongyan/cluster/recovery"
	"hongyan/cluster/relocate"
	"hongyan/cluster/upgrade"
	"hongyan/cluster/wire"
)

const token = "open sesame"

// fakeAdmin is a cluster of maps.
type fakeAdmin struct {
	mu        sync.Mutex
	reasons   []string
	domains   map[string]string
	passwords map[string]string
	err       error                     // what every call answers
	enter     func(ctx context.Context) // called by Status
}

func (f *fakeAdmin) Nodes(context.Context) ([]mover.NodeStatus, error) {
	return []mover.NodeStatus{{ID: "n1", Weight: 10, State: "active"}}, f.err
}
func (f *fakeAdmin) AddNode(context.Context, mover.NewNode) error               { return f.err }
func (f *fakeAdmin) ChangeNode(context.Context, string, mover.NodeChange) error { return f.err }
func (f *fakeAdmin) RemoveNode(context.Context, string) error                   { return f.err }
func (f *fakeAdmin) ReplaceNode(context.Context, string) (bool, error)          { return true, f.err }
func (f *fakeAdmin) Placement(context.Context) (*mover.Placement, error) {
	return &mover.Placement{}, f.err
}
func (f *fakeAdmin) PausePlacement(context.Context, bool) error { return f.err }
func (f *fakeAdmin) Moves(context.Context) (*relocate.Status, error) {
	return &relocate.Status{}, f.err
}
func (f *fakeAdmin) MoveAccounts(_ context.Context, in relocate.Order) (uint64, error) {
	return uint64(len(in.Addresses)), f.err
}
func (f *fakeAdmin) KeepAccounts(_ context.Context, addresses []string) (uint64, error) {
	return uint64(len(addresses)), f.err
}
func (f *fakeAdmin) AddShard(context.Context, string) (uint32, error) { return 7, f.err }
func (f *fakeAdmin) Upgrade(context.Context) *upgrade.Status          { return &upgrade.Status{Level: 1} }
func (f *fakeAdmin) HoldUpgrade(_ context.Context, hold bool) (*upgrade.Status, error) {
	return &upgrade.Status{Level: 1, Nodes: []upgrade.Node{{ID: "n1", Holds: hold}}}, f.err
}

func (f *fakeAdmin) RecoveryPlan(context.Context) (*recovery.Plan, error) {
	return &recovery.Plan{Silent: []string{"north"}}, f.err
}
func (f *fakeAdmin) Recover(_ context.Context, req recovery.Request) (*recovery.Job, error) {
	return &recovery.Job{Lost: req.Lost}, f.err
}
func (f *fakeAdmin) Recovery() *recovery.Job { return nil }
func (f *fakeAdmin) CheckAccount(_ context.Context, address string, repair bool, after reconcile.Cursor) (*reconcile.Checked, error) {
	return &reconcile.Checked{Address: address, Found: []reconcile.Contradiction{{UID: after.UID, Mended: repair}}}, f.err
}

func (f *fakeAdmin) Ready() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.reasons...)
}

func (f *fakeAdmin) Status(ctx context.Context) (any, error) {
	if f.enter != nil {
		f.enter(ctx)
	}
	return map[string]int{"shards": 4}, f.err
}

func (f *fakeAdmin) AddDomain(_ context.Context, name, home string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.domains[name] = home
	}
	return f.err
}

func (f *fakeAdmin) Quota(_ context.Context, name string) (*client.QuotaReport, error) {
	return &client.QuotaReport{Domain: &client.DomainQuota{Name: name}}, f.err
}
func (f *fakeAdmin) SetQuota(context.Context, string, client.QuotaChange) error { return f.err }

func (f *fakeAdmin) Domains(context.Context) (*client.Domains, error) {
	return &client.Domains{Domains: []client.Domain{{Name: "a.test", Policy: policy.Default()}}}, f.err
}

func (f *fakeAdmin) SetPolicy(_ context.Context, domain string, c client.PolicyChange) error {
	if c.Copies > 4 {
		return wire.Errorf(wire.Invalid, "policy of %s: %d copies", domain, c.Copies)
	}
	return f.err
}

func (f *fakeAdmin) AddAccount(_ context.Context, a client.NewAccount) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return false, f.err
	}
	if a.Hash != "" {
		if _, err := a.Credential(); err != nil {
			return false, err
		}
	}
	_, known := f.passwords[a.Address]
	if !known || a.Reset {
		f.passwords[a.Address] = a.Password + a.Hash
	}
	return !known, nil
}

func (f *fakeAdmin) Checkpoint(context.Context) (any, error) { return map[string]any{}, nil }

func (f *fakeAdmin) Accounts(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for a := range f.passwords {
		list = append(list, a)
	}
	return list, f.err
}

func (f *fakeAdmin) Keys(_ context.Context, node string, req custody.Request) ([]custody.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if node == "nobody" {
		return nil, wire.Errorf(wire.NotFound, "no such node")
	}
	return []custody.Report{{Node: node, Keys: []custody.Use{{Key: "a", Files: 3}}, Error: fmt.Sprintf("%+v", req)}}, f.err
}

func (f *fakeAdmin) ScrubReports(context.Context) any { return []string{"whole"} }

func (f *fakeAdmin) TextIndexes(context.Context) any { return []string{"up to date"} }

func (f *fakeAdmin) RebuildTextIndex(_ context.Context, node string) (any, error) {
	if node == "nobody" {
		return nil, wire.Errorf(wire.NotFound, "no such node")
	}
	return []string{node}, f.err
}

func (f *fakeAdmin) Scrub(_ context.Context, volume uint64) any { return []uint64{volume} }

// site is a server on a socket.
type site struct {
	*Server
	t     *testing.T
	admin *fakeAdmin
	addr  string
	log   *bytes.Buffer // to be read after stop
	done  chan error
}

func start(t *testing.T, change func(*Config)) *site {
	t.Helper()
	s := &site{t: t, admin: &fakeAdmin{domains: map[string]string{}, passwords: map[string]string{}}, log: new(bytes.Buffer), done: make(chan error, 1)}
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "hongyan_test_total", Help: "A test."})
	reg.MustRegister(c)
	sum := sha256.Sum256([]byte(token))
	cfg := Config{Admin: s.admin, Metrics: reg, TokenSHA256: hex.EncodeToString(sum[:]), Log: slog.New(slog.NewTextHandler(s.log, nil))}
	if change != nil {
		change(&cfg)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	go func() { s.done <- server.Serve(l) }()
	t.Cleanup(s.stop)
	return s
}

// stop ends the server; a second call does nothing.
func (s *site) stop() {
	if s.done == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		s.t.Error(err)
	}
	if err := <-s.done; err != nil {
		s.t.Error(err)
	}
	s.done = nil
}

// ask sends a request on a connection of its own. header is name and value in turn.
func (s *site) ask(method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(b)
}

// call is ask with the token.
func (s *site) call(method, path, body string) (int, string) {
	s.t.Helper()
	res, b := s.ask(method, path, body, "Authorization", "Bearer "+token)
	return res.StatusCode, strings.TrimSpace(b)
}

func TestProbes(t *testing.T) {
	s := start(t, nil)
	expect := func(path, accept string, code int, body string) {
		t.Helper()
		if res, got := s.ask("GET", path, "", "Accept", accept); res.StatusCode != code || got != body {
			t.Errorf("%s as %q: %d %q, want %d %q", path, accept, res.StatusCode, got, code, body)
		}
	}
	expect("/healthz", "", 200, "ok\n")
	expect("/readyz", "", 200, "ready\n")
	expect("/readyz", "application/json", 200, "{\"ready\":true}\n")
	s.admin.mu.Lock()
	s.admin.reasons = []string{"no leader for shard 3", "disk full:\n 12 MB free"}
	s.admin.mu.Unlock()
	expect("/healthz", "", 200, "ok\n")
	expect("/readyz", "", 503, "no leader for shard 3\ndisk full: 12 MB free\n")
	expect("/readyz", "application/json", 503, `{"ready":false,"reasons":["no leader for shard 3","disk full:\n 12 MB free"]}`+"\n")
	if res, body := s.ask("GET", "/metrics", ""); res.StatusCode != 200 || !strings.Contains(body, "hongyan_test_total 0") {
		t.Errorf("metrics: %d %q", res.StatusCode, body)
	}
	if res, body := s.ask("HEAD", "/healthz", ""); res.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", res.StatusCode, body)
	}
}

func TestTokenIsNeeded(t *testing.T) {
	s := start(t, nil)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, token, "Bearer " + token + "x"} {
		for _, path := range []string{"/api/v1/status", "/api/v1/nothing", "/api/"} {
			res, body := s.ask("GET", path, "", "Authorization", header)
			if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") == "" || !strings.Contains(body, `"error"`) {
				t.Errorf("%s with %q: %d %q", path, header, res.StatusCode, body)
			}
		}
	}
	if res, _ := s.ask("PUT", "/api/v1/domains/example.test", "{}"); res.StatusCode != 401 || len(s.admin.domains) > 0 {
		t.Errorf("PUT without a token: %d", res.StatusCode)
	}
	if code, body := s.call("GET", "/api/v1/status", ""); code != 200 || body != `{"shards":4}` {
		t.Errorf("with the token: %d %q", code, body)
	}
	s.stop()
	if out := s.log.String(); strings.Count(out, "admin token refused") > 3 || strings.Contains(out, token) {
		t.Errorf("logged %s", out)
	}

	closed := start(t, func(c *Config) { c.TokenSHA256 = "" })
	if code, _ := closed.call("GET", "/api/v1/status", ""); code != 401 {
		t.Errorf("without a configured token: %d", code)
	}
	for _, bad := range []string{"x", "00", token} {
		if _, err := New(Config{TokenSHA256: bad}); err == nil {
			t.Errorf("took %q as a hash", bad)
		}
	}
}

func TestPut(t *testing.T) {
	s := start(t, nil)
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRWJTmaaJObG"
	for _, c := range []struct {
		path, body string
		code       int
		answer     string
	}{
		{"/api/v1/domains/example.test", `{"home_region":"south-china"}`, 200, `{"name":"example.test"}`},
		{"/api/v1/domains/example.test", `{"home_region":"south-china"}`, 200, `{"name":"example.test"}`},
		{"/api/v1/accounts/a@example.test", `{"password":"one"}`, 201, `{"address":"a@example.test","created":true}`},
		{"/api/v1/accounts/a%40example.test", `{"password":"two","home_region":"x"}`, 200, `{"address":"a@example.test","created":false}`},
		{"/api/v1/accounts/o%2Fdd@example.test", `{"password":"two"}`, 201, `{"address":"o/dd@example.test","created":true}`},
		{"/api/v1/accounts/a@example.test", `{}`, 400, "password: expected 1 to 1024 bytes"},
		{"/api/v1/accounts/a@example.test", `{"password":"` + strings.Repeat("x", 1025) + `"}`, 400, "password: expected 1 to 1024 bytes"},
		{"/api/v1/accounts/a@example.test", `{"pasword":"typo"}`, 400, `unknown field \"pasword\"`},
		{"/api/v1/accounts/a@example.test", `{"password":"x"} {"password":"y"}`, 400, "more than one value"},
		{"/api/v1/accounts/a@example.test", `{"password":"x"`, 400, "expected a JSON object"},
		{"/api/v1/accounts/a@example.test", `["x"]`, 400, "expected a JSON object"},
		{"/api/v1/accounts/a@example.test", ``, 400, "expected a JSON object"},
		{"/api/v1/accounts/a@example.test", `{"password":"` + strings.Repeat("x", maxBody) + `"}`, 413, "larger than 65536 bytes"},
		{"/api/v1/accounts/h@example.test", `{"password_hash":"` + hash + `"}`, 201, `{"address":"h@example.test","created":true}`},
		{"/api/v1/accounts/h@example.test", `{"password_hash":"x"}`, 400, "invalid password hash"},
		{"/api/v1/accounts/h@example.test", `{"password":"x","password_hash":"` + hash + `"}`, 400, "password, password_hash: expected one of them"},
		{"/api/v1/accounts/", `{"password":"x"}`, 404, "there is no PUT /api/v1/accounts/"},
		{"/api/v1/accounts/a/b", `{"password":"x"}`, 404, "there is no PUT"},
	} {
		if code, body := s.call("PUT", c.path, c.body); code != c.code || !strings.Contains(body, c.answer) || !json.Valid([]byte(body)) {
			t.Errorf("%s %.60s: %d %s, want %d %s", c.path, c.body, code, body, c.code, c.answer)
		}
	}
	if got := s.admin.passwords["a@example.test"]; got != "one" {
		t.Errorf("an existing account's password became %q", got)
	}
	if code, _ := s.call("PUT", "/api/v1/accounts/a@example.test", `{"password":"three","reset":true}`); code != 200 || s.admin.passwords["a@example.test"] != "three" {
		t.Errorf("reset: %d, %v", code, s.admin.passwords)
	}
	if code, body := s.call("GET", "/api/v1/accounts", ""); code != 200 || !strings.Contains(body, `"a@example.test"`) || !strings.Contains(body, `"o/dd@example.test"`) {
		t.Errorf("accounts: %d %s", code, body)
	}
	s.stop()
	for _, secret := range []string{"one", "three", "RdescudvJ"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("password %q in the log: %s", secret, s.log)
		}
	}
}

func TestErrors(t *testing.T) {
	s := start(t, nil)
	if _, body := s.call("GET", "/api/v1/accounts", ""); body != `{"accounts":[]}` {
		t.Errorf("no accounts: %s", body)
	}
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{wire.Errorf(wire.Invalid, "add the domain first"), 400, "add the domain first"},
		{fmt.Errorf("name: %w", client.ErrInvalidName), 400, "invalid name"},
		{fmt.Errorf("shard 0: %w", client.ErrUnavailable), 503, "temporarily unavailable"},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), 503, "deadline"},
		{wire.Errorf(wire.NotLeader, "moved"), 503, "moved"},
		{errors.New("secret inner trouble"), 500, "internal error"},
	} {
		s.admin.mu.Lock()
		s.admin.err = c.err
		s.admin.mu.Unlock()
		for _, r := range [][3]string{{"GET", "/api/v1/status", ""}, {"GET", "/api/v1/accounts", ""}, {"PUT", "/api/v1/domains/x.test", "{}"}, {"PUT", "/api/v1/accounts/a@x.test", `{"password":"x"}`}} {
			if code, body := s.call(r[0], r[1], r[2]); code != c.code || !strings.Contains(body, c.text) || strings.Contains(body, "secret") {
				t.Errorf("%v, %s: %d %s, want %d %s", c.err, r[1], code, body, c.code, c.text)
			}
		}
	}
	for _, r := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 404}, {"POST", "/healthz", 405}, {"DELETE", "/api/v1/accounts", 405}, {"OPTIONS", "/api/v1/nodes/x", 405}, {"GET", "/api/v2/status", 404}, {"GET", "/debug/pprof/", 404},
	} {
		code, body := s.call(r.method, r.path, "")
		if code != r.code || !strings.Contains(body, "there is no "+r.method) || !json.Valid([]byte(body)) {
			t.Errorf("%s %s: %d %s", r.method, r.path, code, body)
		}
	}
}

// TestLimits sends what no tool would: a header that is too large, and more requests at once than are served.
func TestLimits(t *testing.T) {
	s := start(t, nil)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server may stop reading before the whole header is written.
	_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: %s", strings.Repeat("x", maxHeader+(5<<10)))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 431 ") {
		t.Errorf("large header: %q, %v", line, err)
	}

	var mu sync.Mutex
	inside, most := 0, 0
	full := make(chan struct{}) // closed once maxRequests are inside
	s.admin.enter = func(context.Context) {
		mu.Lock()
		if inside++; inside == maxRequests && most < maxRequests {
			close(full)
		}
		most = max(most, inside)
		mu.Unlock()
		<-full
		mu.Lock()
		inside--
		mu.Unlock()
	}
	var wg sync.WaitGroup
	for range 3 * maxRequests {
		wg.Go(func() {
			if code, body := s.call("GET", "/api/v1/status", ""); code != 200 {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	wg.Wait()
	if most > maxRequests {
		t.Errorf("%d requests at once", most)
	}
}

func TestOnlyAllowedNetworks(t *testing.T) {
	s := start(t, func(c *Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The refusal may be seen at either step.
	_, werr := fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	_, rerr := bufio.NewReader(c).ReadByte()
	if werr == nil && rerr == nil {
		t.Error("answered a network that is not allowed")
	}
	near := start(t, func(c *Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	if res, _ := near.ask("GET", "/healthz", ""); res.StatusCode != 200 {
		t.Errorf("allowed network: %d", res.StatusCode)
	}
}

// TestShutdown stops the server while it answers: the request ends well, new ones find nobody, and a probe that still
// gets through hears that the node is stopping.
func TestShutdown(t *testing.T) {
	s := start(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	s.admin.enter = func(context.Context) { close(entered); <-leave }
	answer := make(chan int, 1)
	go func() {
		code, _ := s.call("GET", "/api/v1/status", "")
		answer <- code
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	if err := <-s.done; err != nil { // no longer accepts
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("still accepts")
	}
	select {
	case err := <-down:
		t.Fatalf("shut down with a request under way: %v", err)
	default:
	}
	close(leave)
	if code := <-answer; code != 200 {
		t.Errorf("request under way: %d", code)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	probe := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(probe, httptest.NewRequest("GET", "/readyz", nil))
	if probe.Code != 503 || probe.Body.String() != "the node is stopping\n" {
		t.Errorf("probe: %d %q", probe.Code, probe.Body)
	}
	s.done = nil
}

// TestShutdownGivesUp cuts off what does not end.
func TestShutdownGivesUp(t *testing.T) {
	s := start(t, nil)
	entered := make(chan struct{})
	s.admin.enter = func(ctx context.Context) { close(entered); <-ctx.Done() }
	gone := make(chan error, 1)
	go func() {
		req, err := http.NewRequest("GET", "http://"+s.addr+"/api/v1/status", nil)
		if err != nil {
			gone <- err
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		_, err = http.DefaultTransport.RoundTrip(req)
		gone <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-gone; err == nil {
		t.Error("the request was answered")
	}
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	s.done = nil
}

func TestScrub(t *testing.T) {
	s := start(t, nil)
	if code, body := s.call("GET", "/api/v1/scrub", ""); code != 200 || body != `{"nodes":["whole"]}` {
		t.Errorf("report: %d %s", code, body)
	}
	if code, body := s.call("POST", "/api/v1/scrub", `{"volume": 31}`); code != 202 || body != `{"nodes":[31]}` {
		t.Errorf("start: %d %s", code, body)
	}
	if code, body := s.call("GET", "/api/v1/text-index", ""); code != 200 || body != `{"nodes":["up to date"]}` {
		t.Errorf("full-text indexes: %d %s", code, body)
	}
	if code, body := s.call("POST", "/api/v1/text-index/rebuild", `{"node": "a"}`); code != 202 || body != `{"nodes":["a"]}` {
		t.Errorf("a full-text index made anew: %d %s", code, body)
	}
	if code, _ := s.call("POST", "/api/v1/text-index/rebuild", `{"node": "nobody"}`); code != 400 {
		t.Errorf("the full-text index of nobody: %d", code)
	}
	if code, _ := s.call("POST", "/api/v1/scrub", `{"volume": "all"}`); code != 400 {
		t.Errorf("a volume that is none: %d", code)
	}
}
