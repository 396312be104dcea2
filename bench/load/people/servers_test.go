package people

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	exerciser "hongyan/bench/exercise"
	"hongyan/bench/history"
	"hongyan/bench/lab"
	"hongyan/bench/lab/labtest"
	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/bench/load/send"
	"hongyan/cluster/pause"
)

// patient are limits for a machine that is busy with other tests.
var patient = read.Options{Timeout: 2 * time.Minute, DialTimeout: 2 * time.Minute}

// exercise does everything that the generators can do against a real server, and holds what is read against what was sent.
func exercise(t *testing.T, target load.Target) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	corpus, err := load.NewCorpus(load.CorpusOptions{Seed: 3, Pool: 10})
	if err != nil {
		t.Fatal(err)
	}
	h := history.New()
	deliver(ctx, t, target, corpus, h)
	if err := exerciser.Final(ctx, target, h); err != nil {
		t.Fatal(err)
	}
	for _, v := range h.Check(ctx, history.CheckOptions{}) {
		t.Error(v)
	}
	for _, a := range target.Accounts {
		stamped(ctx, t, target, a)
	}
	readByIMAP(ctx, t, target)
	readByPOP3(ctx, t, target)
	liveTogether(ctx, t, target, corpus)
}

// deliver sends by each protocol that the target takes, to one and to several recipients.
func deliver(ctx context.Context, t *testing.T, target load.Target, corpus *load.Corpus, h *history.History) {
	for i, p := range []send.Protocol{send.LMTP, send.SMTP} {
		if p == send.SMTP && target.Nodes[0].SMTP == "" {
			continue
		}
		s, err := send.New(target, send.Options{Protocol: p, Workers: 4, Until: true, Policy: load.Failover, Journal: h})
		if err != nil {
			t.Fatal(err)
		}
		rec := load.NewRecorder(string(p), load.RecorderOptions{})
		if err := (load.Closed{Workers: 4, Count: 20}).Run(ctx, rec, func(ctx context.Context, turn load.Turn) error {
			n := 1000*i + turn.N
			to := []string{target.Accounts[n%len(target.Accounts)].Address}
			if n%4 == 0 {
				to = append(to, target.Accounts[(n+1)%len(target.Accounts)].Address)
			}
			return s.Send(ctx, turn.Worker, corpus.Message(n, turn.Due, to...))
		}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		f := rec.Figures()
		if f.Successes != 20 {
			t.Errorf("%s: %+v", p, f)
		}
		t.Logf("%s: %d messages, median %v, worst %v", p, f.Successes, f.P50, f.Max)
	}
}

// stamped looks that every message of an account's INBOX says when it was due.
func stamped(ctx context.Context, t *testing.T, target load.Target, a load.Account) {
	s := login(ctx, t, target, a)
	defer s.Close()
	items, err := s.Since(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		raw, err := s.Body(ctx, item.UID)
		if err != nil {
			t.Fatal(err)
		}
		if due, ok := load.Due(raw); !ok || time.Since(due) > time.Hour {
			t.Errorf("message %s has no stamp", item.ID)
		}
	}
}

func login(ctx context.Context, t *testing.T, target load.Target, a load.Account) *read.Session {
	s, err := read.DialIMAP(ctx, target, 0, patient)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(ctx, a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Select(ctx, "INBOX"); err != nil {
		t.Fatal(err)
	}
	return s
}

// readByIMAP does each operation once, with a second session that waits in IDLE for what the first appends.
func readByIMAP(ctx context.Context, t *testing.T, target load.Target) {
	a := target.Accounts[0]
	plain := target
	plain.Nodes = slices.Clone(target.Nodes)
	plain.Nodes[0].IMAPS = "" // so that STARTTLS is used
	s, waits := login(ctx, t, plain, a), login(ctx, t, target, a)
	defer s.Close()
	defer waits.Close()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	told := make(chan error, 1)
	go func() {
		n, err := waits.Idle(ctx)
		if err == nil && n.New != 1 {
			err = fmt.Errorf("notice: %+v", n)
		}
		told <- err
	}()
	must("create", s.Create(ctx, "Other"))
	uid, err := s.Append(ctx, "INBOX", []byte("Subject: wonderful geese\r\nMessage-ID: <appended@x>\r\n\r\nthey carry letters\r\n"))
	must("append", err)
	must("notice", <-told)
	must("noop", s.Noop(ctx))
	found, err := s.SearchHeader(ctx, "Subject", "wonderful")
	if err != nil || !slices.Equal(found, []imap.UID{uid}) {
		t.Errorf("search of header: %v, %v, want %d", found, err, uid)
	}
	found, err = s.SearchText(ctx, "carry letters")
	if err != nil || !slices.Equal(found, []imap.UID{uid}) {
		t.Errorf("search of text: %v, %v", found, err)
	}
	must("flag", s.SetFlag(ctx, uid, imap.FlagSeen, true))
	items, err := s.Newest(ctx, 3)
	if last := len(items) - 1; err != nil || last < 1 || items[last].UID != uid || items[last].Subject != "wonderful geese" || !slices.Contains(items[last].Flags, imap.FlagSeen) {
		t.Errorf("newest: %+v, %v", items, err)
	}
	must("copy", s.Copy(ctx, uid, "Other"))
	must("move", s.Move(ctx, uid, "Other"))
	if c, err := s.Status(ctx, "Other"); err != nil || c.Messages != 2 {
		t.Errorf("the other mailbox: %+v, %v", c, err)
	}
	must("expunge", s.Expunge(ctx))
	if _, err := s.Body(ctx, uid); load.Classify(err) != load.No {
		t.Errorf("a message that moved away: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Idle(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("IDLE without news: %v", err)
	}
	if _, err := s.Select(ctx, "Nowhere"); load.Classify(err) != load.No || !s.Alive() {
		t.Errorf("SELECT of nothing: %v", err)
	}
	must("logout", s.Logout(ctx))
}

func readByPOP3(ctx context.Context, t *testing.T, target load.Target) {
	plain := target
	plain.Nodes = slices.Clone(target.Nodes)
	plain.Nodes[0].POP3S = "" // so that STLS is used
	p, err := read.DialPOP3(ctx, plain, 0, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Login(ctx, target.Accounts[1]); err != nil {
		t.Fatal(err)
	}
	n, size, err := p.Stat(ctx)
	if err != nil || n == 0 || size == 0 {
		t.Fatalf("STAT: %d %d %v", n, size, err)
	}
	if uids, err := p.UIDL(ctx); err != nil || len(uids) != n {
		t.Errorf("UIDL: %v %v", uids, err)
	}
	raw, err := p.Retr(ctx, 1)
	if _, ok := load.Due(raw); err != nil || !ok {
		t.Errorf("RETR: %d bytes, %v", len(raw), err)
	}
	if _, err := p.Retr(ctx, 1_000_000); load.Classify(err) != load.No {
		t.Errorf("RETR of nothing: %v", err)
	}
	if err := p.Dele(ctx, 1); err != nil {
		t.Error(err)
	}
	if err := p.Quit(ctx); err != nil {
		t.Error(err)
	}
}

// liveTogether lets a crowd of all profiles live until each action has succeeded.
func liveTogether(ctx context.Context, t *testing.T, target load.Target, corpus *load.Corpus) {
	c, err := New(target, Options{Mix: Mix{Phone: 2, Desktop: 1, Searcher: 1, POP3: 1, Bulk: 1}, For: 4 * time.Minute, Speed: 50, Corpus: corpus, Read: patient})
	if err != nil {
		t.Fatal(err)
	}
	during(ctx, c, func() bool {
		return !slices.ContainsFunc(c.Recorders(), func(r *load.Recorder) bool { return r.Figures().Successes == 0 })
	})
	for _, r := range c.Recorders() {
		f := r.Figures()
		t.Logf("%-28s %4d, median %v, errors %v", f.Name, f.Successes, f.P50, f.Errors)
		if f.Successes == 0 {
			t.Errorf("%s: none succeeded: %v", f.Name, f.Examples)
		}
	}
}

// during runs a crowd until something is the case.
func during(ctx context.Context, c *Crowd, until func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	for ctx.Err() == nil && !until() {
		pause.For(ctx, 20*time.Millisecond)
	}
	cancel()
	<-ended
}

// idleMemory prints what a user in IDLE over TLS takes in this process.
func idleMemory(t *testing.T, target load.Target) {
	const idle = 100
	c, err := New(target, Options{Mix: Mix{Phone: idle}, For: 4 * time.Minute, Read: patient})
	if err != nil {
		t.Fatal(err)
	}
	before := memory()
	during(t.Context(), c, func() bool {
		if c.Online() < idle {
			return false
		}
		t.Logf("memory of an idle user over TLS: %d kB", (memory()-before)/idle/1000)
		return true
	})
	if c.Online() != 0 {
		t.Errorf("%d are still online", c.Online())
	}
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestHongyan runs it all against our own cluster.
func TestHongyan(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster")
	}
	bin, dir := labtest.Build(t, "../../.."), t.TempDir()
	run(t, exec.Command(bin, "dev", "--dir", dir, "--port-base", strconv.Itoa(freeBase(t)), "--accounts", "6", "--restart", "never"))
	var cluster *lab.Cluster
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if cluster, err = lab.Read(dir); err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	target, err := load.FromCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	exercise(t, target)
	idleMemory(t, target)
}

// run starts a server, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // Wait tells whether it had ended before
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", out.Bytes())
		}
	})
}

// freeBase is a port from which on the servers' ports are free. It is below those that Linux gives to clients (32768 and up), of which other tests have
// thousands, and far above where the lab's own tests begin.
func freeBase(t *testing.T) int {
	for base := 29000; base < 32400; base += 300 {
		free := true
		for node := range 3 {
			for _, offset := range []int{1, 2, 3, 4, 5, 10, 24, 25, 43, 65, 80, 87, 93, 95} {
				l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+100*node+offset))
				if err == nil {
					_ = l.Close() // only whether it could be opened counts
				}
				free = free && err == nil
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports from 29000 to 32700")
	return 0
}
