package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"

	"hongyan/bench/history"
)

// TestNothingAcknowledgedIsLost runs three regions as real processes, kills them in turn with SIGKILL while mail
// comes in, then all at once, and holds what each node serves against what senders were told.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for half a minute")
	}
	r := &crashRun{t: t, bin: program.Build(t, "../.."), dir: t.TempDir(), history: history.New()}
	r.start()
	r.send(time.Second, func() {})
	for _, n := range r.cluster.Nodes {
		r.send(2500*time.Millisecond, func() {
			time.Sleep(500 * time.Millisecond) // under load, not before it
			r.control("kill", n.ID)
		})
		r.verify(n.ID)
		r.control("start", n.ID)
	}
	r.verify("")
	for _, n := range r.reread().Nodes {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	r.start()
	r.verify("")
	r.stop()
	t.Logf("%d messages acknowledged, longest stall %v", r.history.Acknowledged(), r.worst.Round(time.Millisecond))
}

type crashRun struct {
	t       testing.TB
	bin     string
	dir     string
	history *history.History
	dev     *exec.Cmd
	cluster *Cluster
	tls     *tls.Config
	serial  atomic.Int64

	program string // that nodes run at first; "" is bin
	strict  bool   // nodes that nobody takes away refuse nothing

	mu    sync.Mutex // guards what follows
	last  time.Time  // of an acknowledgement
	worst time.Duration
	away  string    // a node that is being taken away, or is away
	back  time.Time // since when there has been none
}

// start runs `hongyan dev` until the cluster is ready.
func (r *crashRun) start() {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.dir, "dev.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	r.dev = exec.Command(r.bin, "dev", "--dir", r.dir, "--port-base", freeBase(r.t), "--accounts", "6", "--restart", "never", "--program", r.program)
	r.dev.Stdout, r.dev.Stderr = log, log
	if err := r.dev.Start(); err != nil {
		r.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.dev.Process.Kill() }) // ended already unless the test failed
	eventuallyWithin(r.t, 60*time.Second, "the cluster is ready", func() bool {
		r.cluster, err = Read(r.dir)
		return err == nil
	})
	r.trust()
}

// trust makes clients accept the cluster's certificates.
func (r *crashRun) trust() {
	r.t.Helper()
	pem, err := os.ReadFile(r.cluster.CA)
	if err != nil {
		r.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	r.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func (r *crashRun) stop() {
	r.t.Helper()
	if err := r.dev.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := r.dev.Wait(); err != nil {
		r.t.Errorf("hongyan dev: %v", err)
	}
}

func (r *crashRun) control(verb, node string, flags ...string) {
	if out, err := exec.Command(r.bin, append([]string{"dev", verb, node, "--dir", r.dir}, flags...)...).CombinedOutput(); err != nil {
		r.t.Errorf("dev %s %s: %v: %s", verb, node, err, out)
	}
}

func (r *crashRun) reread() *Cluster {
	c, err := Read(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// send keeps four senders busy for d, while something happens to the cluster.
func (r *crashRun) send(d time.Duration, meanwhile func()) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	r.last = time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.deliver(d + 20*time.Second)
			}
		})
	}
	meanwhile()
	wg.Wait()
}

// deliver brings one message to one or two users, as an exchanger does: it tries again elsewhere until the answer is yes.
func (r *crashRun) deliver(patience time.Duration) {
	n := r.serial.Add(1)
	id := fmt.Sprintf("<%d@crash.test>", n)
	users := []string{r.cluster.Accounts[n%6].Address}
	if n%5 == 0 {
		users = append(users, r.cluster.Accounts[(n+1)%6].Address)
	}
	line := strings.Repeat(fmt.Sprintf("%d 鸿雁 ", n), 5)
	raw := fmt.Appendf(nil, "From: <s@remote.test>\r\nSubject: %d\r\nMessage-ID: %s\r\n\r\n.dot\r\n%s", n, id, strings.Repeat(line+"\r\n", 1+int(n%40)))
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		node, began := r.pick(), time.Now()
		var calls []*history.Call
		for _, u := range users {
			calls = append(calls, r.history.Begin(history.Op{
				Node: node.ID, Kind: history.Deliver, Mailbox: history.MailboxName(u, "INBOX"), Message: id, Hash: history.Sum(raw),
			}))
		}
		err := r.attempt(node, users, raw, n%2 == 0)
		var dial *net.OpError
		unsent := errors.As(err, &dial) && dial.Op == "dial"
		for _, c := range calls {
			c.End(history.Result{Outcome: history.SMTPOutcome(err, !unsent), Err: err})
		}
		if err == nil {
			r.mu.Lock()
			r.worst = max(r.worst, time.Since(r.last))
			r.last = time.Now()
			r.mu.Unlock()
			return
		}
		r.judge(node, began, err)
	}
	r.t.Errorf("nobody took message %s within %v", id, patience)
}

// pick is a node that nobody takes away.
func (r *crashRun) pick() Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if n := r.cluster.Nodes[rand.IntN(len(r.cluster.Nodes))]; n.ID != r.away {
			return n
		}
	}
}

// judge finds an attempt wrong that failed though the node was there all the while.
func (r *crashRun) judge(n Member, began time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.strict && n.ID != r.away && r.back.Before(began) {
		r.t.Errorf("%s refused: %v", n.ID, err)
	}
}

// attempt is one conversation; nil means that all recipients were acknowledged.
func (r *crashRun) attempt(n Member, users []string, raw []byte, lmtp bool) error {
	addr := n.SMTP
	if lmtp {
		addr = n.LMTP
	}
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return err
	}
	c := gosmtp.NewClient(conn)
	if lmtp {
		c = gosmtp.NewClientLMTP(conn)
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = 10*time.Second, 20*time.Second
	if err := c.SendMail("s@remote.test", users, bytes.NewReader(raw)); err != nil {
		return err
	}
	_ = c.Quit() // the answer counts, not the goodbye
	return nil
}

// verify reads every mailbox through every node but one, and checks all that was noted so far.
func (r *crashRun) verify(except string) {
	r.t.Helper()
	for _, n := range r.cluster.Nodes {
		if n.ID == except {
			continue
		}
		for _, a := range r.cluster.Accounts {
			call := r.history.Begin(history.Op{Node: n.ID, Kind: history.Read, Mailbox: history.MailboxName(a.Address, "INBOX")})
			reading, err := r.read(n, a)
			if err != nil {
				r.t.Fatalf("read %s through %s: %v", a.Address, n.ID, err)
			}
			call.End(history.Result{Outcome: history.OK, Reading: reading})
		}
	}
	for _, v := range r.history.Check(context.Background(), history.CheckOptions{}) {
		r.t.Error(v)
	}
}

var messageID = regexp.MustCompile(`(?m)^Message-ID: (<[^>]+>)`)

// read fetches a user's INBOX by IMAP. (What bench/exercise has for this imports package load, and that this package.)
func (r *crashRun) read(n Member, a Account) (*history.Reading, error) {
	c, err := imapclient.DialTLS(n.IMAPS, &imapclient.Options{TLSConfig: r.tls})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(a.Address, a.Password).Wait(); err != nil {
		return nil, err
	}
	selected, err := c.Select("INBOX", &goimap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return nil, err
	}
	m := &history.Reading{UIDValidity: selected.UIDValidity, UIDNext: uint32(selected.UIDNext)}
	if selected.NumMessages == 0 {
		return m, nil
	}
	all := goimap.SeqSet{}
	all.AddRange(1, 0)
	whole := &goimap.FetchItemBodySection{Peek: true}
	found, err := c.Fetch(all, &goimap.FetchOptions{UID: true, BodySection: []*goimap.FetchItemBodySection{whole}}).Collect()
	for _, f := range found {
		raw, id := f.FindBodySection(whole), ""
		if match := messageID.FindSubmatch(raw); match != nil {
			id = string(match[1])
		}
		m.Messages = append(m.Messages, history.Seen{ID: id, UID: uint32(f.UID), Hash: history.Sum(raw)})
	}
	return m, err
}
