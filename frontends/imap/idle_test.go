package imap

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/engine/effort"
)

const (
	idleAddress  = "HONGYAN_TEST_IDLE_ADDRESS" // of the server, for the process that is its clients
	idleSessions = 300
	idleMemory   = 20 << 10 // bytes that a session may keep in IDLE
)

func (stub) Authenticate(_ context.Context, address, _ string) (client.Account, error) {
	return client.Account{ID: 1, Address: address}, nil
}

// TestIdleClients is no test: it is the clients of TestIdleMemory, in a process of their own.
func TestIdleClients(t *testing.T) {
	address := os.Getenv(idleAddress)
	if address == "" {
		t.Skip("runs only as part of TestIdleMemory")
	}
	for range idleSessions {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		r := newRaw(t, c)
		r.line()
		r.ok("LOGIN a b")
		r.ok("SELECT INBOX")
		r.send("i IDLE\r\n")
		r.line()
	}
	fmt.Println("all idle")
	// It ends when the test is done with them.
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestIdleMemory holds what a session over TLS costs in IDLE, with a mailbox selected, against the bound.
func TestIdleMemory(t *testing.T) {
	if effort.Watched() || testing.Short() {
		t.Skip("sizes are those of a usual build")
	}
	srv := newServer(Config{TLS: testTLS(t), Hostname: "test", Limits: Limits{MaxPerAccount: 2 * idleSessions}}, stub{appended: new(bytes.Buffer)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := srv.Serve(l, true); err != nil {
			t.Error(err)
		}
	}()
	before := inUse()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestIdleClients$")
	cmd.Env = append(os.Environ(), idleAddress+"="+l.Addr().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heard := bufio.NewScanner(stdout)
	for heard.Scan() && !strings.Contains(heard.Text(), "all idle") {
		t.Log(heard.Text())
	}
	if n := srv.Stats().Idle; n != idleSessions {
		t.Fatalf("%d sessions in IDLE", n)
	}
	each := (inUse() - before) / idleSessions
	for began := time.Now(); each > idleMemory && time.Since(began) < 20*time.Second; { // what the sessions' commands have used is let go of when their goroutines come to run
		each = (inUse() - before) / idleSessions
	}
	t.Logf("%d bytes a session", each)
	if each > idleMemory {
		t.Errorf("a session in IDLE keeps %d bytes, more than %d", each, idleMemory)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// inUse is the memory of this process's heap and stacks, when collections find no more to free: each halves the stacks that have
// become too large.
func inUse() int64 {
	var m runtime.MemStats
	for range 8 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// crowdMail counts questions about changes, and has the wake-ups of the one session.
type crowdMail struct {
	stub
	asked *atomic.Int64
	wake  *func()
}

func (m crowdMail) Changes(context.Context, client.Account, uint32, uint64, ...uint64) (client.Changes, error) {
	m.asked.Add(1)
	return client.Changes{Vanished: roaring.New()}, nil
}

func (m crowdMail) WatchFunc(_ client.Account, _ uint32, wake func()) func() {
	*m.wake = wake
	return func() {}
}

// TestRestInCrowd: who had to wait for its turn with a thousand others asks once about all that happens in the next two seconds; who had not asks at once, each time.
func TestRestInCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := crowdMail{stub: stub{appended: new(bytes.Buffer)}, asked: new(atomic.Int64), wake: new(func())}
		srv := newServer(Config{Hostname: "test"}, m)
		base, toServer, fromServer := pipe(t)
		over := make(chan struct{})
		go func() {
			defer close(over)
			loggedIn(t, srv, base)
		}()
		go func() { _, _ = io.Copy(io.Discard, fromServer) }()
		if _, err := io.WriteString(toServer, "a SELECT INBOX\r\nb IDLE\r\n"); err != nil {
			t.Fatal(err)
		}
		asks := func(what string, after time.Duration, want int64) {
			t.Helper()
			before := m.asked.Load()
			for range 50 {
				(*m.wake)()
				time.Sleep(after / 50)
			}
			synctest.Wait()
			if got := m.asked.Load() - before; got != want {
				t.Errorf("%s: asked %d times, want %d", what, got, want)
			}
		}
		synctest.Wait()
		asks("alone", time.Second, 50)
		for range maxAsking {
			srv.asking <- struct{}{}
		}
		const others = 999
		srv.waiting.Add(others)
		asks("while others ask", time.Second, 0)
		srv.waiting.Add(-others)
		for range maxAsking {
			<-srv.asking
		}
		synctest.Wait() // for the question that waited
		asks("at rest", time.Second, 0)
		before := m.asked.Load()
		time.Sleep((others + 1) * restEach)
		synctest.Wait()
		if got := m.asked.Load() - before; got != 1 {
			t.Errorf("after the rest it asked %d times", got)
		}
		asks("then the rest", time.Second, 50)
		if _, err := io.WriteString(toServer, "DONE\r\nc LOGOUT\r\n"); err != nil {
			t.Fatal(err)
		}
		<-over
		if err := fromServer.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// deadMail has a mailbox where a message has arrived at its wake-up, and one for which nobody answers.
type deadMail struct {
	stub
	asked *atomic.Int64 // of the latter
	came  *atomic.Bool
	wake  *func() // of the former
}

const deadBox = 7

func (m deadMail) Select(ctx context.Context, a client.Account, name string) (client.Selected, error) {
	got, err := m.stub.Select(ctx, a, name)
	if name == "Dead" {
		got.Mailbox.ID = deadBox
	}
	return got, err
}

func (m deadMail) Changes(ctx context.Context, _ client.Account, box uint32, _ uint64, _ ...uint64) (client.Changes, error) {
	if box == deadBox {
		m.asked.Add(1)
		<-ctx.Done()
		return client.Changes{}, client.ErrUnavailable
	}
	ch := client.Changes{Vanished: roaring.New()}
	if m.came.Load() {
		ch.HighestModSeq, ch.Changed = 1, []client.FlagChange{{UID: 1, ModSeq: 1}}
	}
	return ch, nil
}

func (m deadMail) WatchFunc(_ client.Account, box uint32, wake func()) func() {
	if box != deadBox {
		*m.wake = wake
	}
	return func() {}
}

// TestIdleBesideTheDead: sessions in IDLE for whose mailboxes nobody answers do not keep others from hearing, and ask less often in time.
func TestIdleBesideTheDead(t *testing.T) {
	const dead = maxAsking + maxAsking/4
	synctest.Test(t, func(t *testing.T) {
		m := deadMail{stub: stub{appended: new(bytes.Buffer)}, asked: new(atomic.Int64), came: new(atomic.Bool), wake: new(func())}
		srv := newServer(Config{Hostname: "test"}, m)
		var over sync.WaitGroup
		var ends []io.Closer
		idle := func(mailbox string, heard io.Writer) {
			base, toServer, fromServer := pipe(t)
			ends = append(ends, toServer)
			over.Go(func() { loggedIn(t, srv, base) })
			over.Go(func() { _, _ = io.Copy(heard, fromServer) }) // until the session ends
			if _, err := fmt.Fprintf(toServer, "a SELECT %s\r\nb IDLE\r\n", mailbox); err != nil {
				t.Error(err)
			}
		}
		var heard bytes.Buffer
		idle("INBOX", &heard)
		for range dead {
			idle("Dead", io.Discard)
		}
		synctest.Wait()
		if n := m.asked.Load(); n != maxAsking {
			t.Errorf("%d sessions ask at once", n)
		}
		m.came.Store(true)
		(*m.wake)()
		time.Sleep(time.Second)
		synctest.Wait()
		if !strings.Contains(heard.String(), "* 1 EXISTS\r\n") {
			t.Errorf("a session of a mailbox that answers heard %q within a second", heard.String())
		}
		const while = 2 * time.Minute
		before := m.asked.Load()
		time.Sleep(while)
		synctest.Wait()
		if n := m.asked.Load() - before; n < 4*dead || n > 8*dead {
			t.Errorf("%d sessions asked %d times in %v", dead, n, while)
		}
		for _, end := range ends {
			if err := end.Close(); err != nil {
				t.Error(err)
			}
		}
		over.Wait()
	})
}
