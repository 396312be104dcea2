package send

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/bench/load"
)

// peer is a server that follows a script: what it answers to a command, by the command's beginning. A message's end is ".".
type peer struct {
	t       *testing.T
	l       net.Listener
	answers func(command string) []string // nil: close the connection

	mu       sync.Mutex // guards what follows
	messages [][]byte   // bodies as they came, dots taken away
	dials    int
	accepted func(net.Conn)
}

func newPeer(t *testing.T, answers func(string) []string) *peer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, l: l, answers: answers}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.dials++
			accepted := p.accepted
			p.mu.Unlock()
			if accepted != nil {
				accepted(c)
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return p
}

func (p *peer) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 peer\r\n")
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil || !p.say(c, strings.TrimSpace(line)) {
			return
		}
		if strings.HasPrefix(line, "DATA") && p.answers("DATA")[0][:3] == "354" {
			if raw, err := textproto.NewReader(br).ReadDotBytes(); err == nil {
				p.mu.Lock()
				p.messages = append(p.messages, raw)
				p.mu.Unlock()
			}
			if !p.say(c, ".") {
				return
			}
		}
	}
}

// say gives the script's answers to a command.
func (p *peer) say(c net.Conn, command string) bool {
	answers := p.answers(command)
	for _, a := range answers {
		fmt.Fprintf(c, "%s\r\n", a)
	}
	return answers != nil
}

// usual answers as a healthy server does that offers PIPELINING; over replaces answers to commands that begin so.
func usual(over map[string][]string) func(string) []string {
	return func(command string) []string {
		for prefix, answers := range over {
			if strings.HasPrefix(command, prefix) {
				return answers
			}
		}
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "EHLO", "LHLO":
			return []string{pipelining}
		case "DATA":
			return []string{"354 go ahead"}
		}
		return []string{"250 fine"}
	}
}

const pipelining, plain = "250-peer\r\n250-PIPELINING\r\n250 8BITMIME", "250 peer"

// TestConversations plays what servers may say, and looks at what the sender makes of it.
func TestConversations(t *testing.T) {
	three, mail := []string{"a@x.test", "b@x.test", "c@x.test"}, corpus(t)
	for _, c := range []struct {
		name     string
		protocol Protocol
		over     map[string][]string
		acked    []string
		class    load.Class // of the error; "" for none
		messages int
	}{
		{"all well", SMTP, nil, three, "", 1},
		{"all well, LMTP", LMTP, map[string][]string{".": {"250 a", "250 b", "250 c"}}, three, "", 1},
		{"no pipelining", SMTP, map[string][]string{"EHLO": {plain}}, three, "", 1},
		{"no pipelining, LMTP", LMTP, map[string][]string{"LHLO": {plain}, ".": {"250 a", "250 b", "250 c"}}, three, "", 1},
		{"one recipient unknown", SMTP, map[string][]string{"RCPT TO:<b": {"550 5.1.1 no b"}}, []string{"a@x.test", "c@x.test"}, load.Permanent, 1},
		{"one recipient unknown, LMTP", LMTP, map[string][]string{"RCPT TO:<a": {"550 no a"}, ".": {"250 b", "250 c"}}, three[1:], load.Permanent, 1},
		{"one mailbox full, LMTP", LMTP, map[string][]string{".": {"250 a", "452-4.2.2 b is", "452 full", "250 c"}}, []string{"a@x.test", "c@x.test"}, load.Temporary, 1},
		{"nobody known", SMTP, map[string][]string{"RCPT": {"550 no"}, ".": {"554 no valid recipients"}}, nil, load.Permanent, 1},
		{"nobody known, DATA refused", LMTP, map[string][]string{"RCPT": {"450 later"}, "DATA": {"503 no valid recipients"}}, nil, load.Temporary, 0},
		{"nobody known, no pipelining", SMTP, map[string][]string{"EHLO": {plain}, "RCPT": {"550 no"}}, nil, load.Permanent, 0},
		{"sender refused", SMTP, map[string][]string{"MAIL": {"451 later"}, "RCPT": {"503 MAIL first"}, "DATA": {"503 MAIL first"}}, nil, load.Temporary, 0},
		{"sender refused, no pipelining", SMTP, map[string][]string{"EHLO": {plain}, "MAIL": {"451 later"}}, nil, load.Temporary, 0},
		{"message refused", SMTP, map[string][]string{".": {"451 4.3.0 disk"}}, nil, load.Temporary, 1},
		{"connection lost at the end", SMTP, map[string][]string{".": nil}, nil, load.Connection, 1},
		{"connection lost between verdicts", LMTP, map[string][]string{".": {"250 a", "bye"}}, []string{"a@x.test"}, load.Bad, 1},
		{"no SMTP at all", SMTP, map[string][]string{"EHLO": {"hello"}}, nil, load.Bad, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, usual(c.over))
			notes := &notes{}
			s := sender(t, Options{Protocol: c.protocol, Workers: 1, Timeout: 10 * time.Second, Journal: notes}, p)
			m := mail.Message(1, time.Now(), three...)
			err := s.Send(t.Context(), 0, m)
			switch {
			case c.class == "" && err != nil:
				t.Error(err)
			case c.class != "" && (err == nil || load.Classify(err) != c.class):
				t.Errorf("error %v, want class %s", err, c.class)
			}
			if !slices.Equal(notes.acked, c.acked) {
				t.Errorf("acknowledged %v, want %v", notes.acked, c.acked)
			}
			tried := three
			if slices.Equal(c.over["EHLO"], []string{"hello"}) { // nobody who could have taken it
				tried = nil
			}
			if !slices.Equal(notes.tried, tried) {
				t.Errorf("tried %v, want %v", notes.tried, tried)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.messages) != c.messages {
				t.Fatalf("%d messages came, want %d", len(p.messages), c.messages)
			}
			// ReadDotBytes turns CRLF into LF.
			if want := bytes.ReplaceAll(m.Raw(), []byte("\r\n"), []byte("\n")); len(c.acked) > 0 && !bytes.Equal(p.messages[0], want) {
				t.Error("the message came as another")
			}
		})
	}
}

// notes is a journal.
type notes struct {
	tried, acked []string
}

func (n *notes) Try(user, _ string, _ []byte) { n.tried = append(n.tried, user) }
func (n *notes) Acknowledge(user, _ string)   { n.acked = append(n.acked, user) }

// small is made once: inventing a population takes longer than all tests.
var small = sync.OnceValues(func() (*load.Corpus, error) { return load.NewCorpus(load.CorpusOptions{Pool: 3, Size: 4096}) })

func corpus(t testing.TB) *load.Corpus {
	c, err := small()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sender is one to those peers.
func sender(t testing.TB, o Options, peers ...*peer) *Sender {
	target := load.Target{Name: "peers"}
	for _, p := range peers {
		target.Nodes = append(target.Nodes, load.Node{SMTP: p.l.Addr().String(), LMTP: p.l.Addr().String()})
	}
	s, err := New(target, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestUntilAccepted brings a message to the third node after the first hung up on it and the second had no room for one of two.
func TestUntilAccepted(t *testing.T) {
	hangs := newPeer(t, usual(map[string][]string{".": nil}))
	full := newPeer(t, usual(map[string][]string{"RCPT TO:<b": {"452 full"}}))
	well := newPeer(t, usual(nil))
	notes := &notes{}
	s := sender(t, Options{Protocol: SMTP, Workers: 1, Policy: load.Failover, Until: true, Pause: time.Millisecond, Journal: notes}, hangs, full, well)
	c := corpus(t)
	if err := s.Send(t.Context(), 0, c.Message(1, time.Now(), "a@x.test", "b@x.test")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a@x.test", "b@x.test", "a@x.test", "b@x.test", "b@x.test"}; !slices.Equal(notes.tried, want) {
		t.Errorf("tried %v, want %v", notes.tried, want)
	}
	if want := []string{"a@x.test", "b@x.test"}; !slices.Equal(notes.acked, want) {
		t.Errorf("acknowledged %v, want %v", notes.acked, want)
	}
	if err := s.Send(t.Context(), 0, c.Message(2, time.Now(), "a@x.test")); err != nil { // it stays at the third
		t.Fatal(err)
	}
	if well.dials != 1 || len(well.messages) != 2 {
		t.Errorf("the third got %d messages over %d connections", len(well.messages), well.dials)
	}
}

// TestKeptConnectionDies: a server that closes idle connections costs a new connection, not a message.
func TestKeptConnectionDies(t *testing.T) {
	var mu sync.Mutex
	var conns []net.Conn
	answers := usual(nil)
	p := newPeer(t, answers)
	p.mu.Lock() // its goroutine looks already
	p.accepted = func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}
	p.mu.Unlock()
	s := sender(t, Options{Protocol: SMTP, Workers: 1}, p)
	c := corpus(t)
	for n := range 3 {
		if err := s.Send(t.Context(), 0, c.Message(n, time.Now(), "a@x.test")); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		last := conns[len(conns)-1]
		if n == 1 { // in good order
			fmt.Fprint(last, "421 4.3.2 shutting down\r\n")
		}
		if err := last.Close(); err != nil {
			t.Error(err)
		}
		mu.Unlock()
	}
	if len(p.messages) != 3 || p.dials != 3 {
		t.Errorf("%d messages over %d connections", len(p.messages), p.dials)
	}
}

// TestSilentServer: the time limit and the end of the context both end a try.
func TestSilentServer(t *testing.T) {
	p := newPeer(t, usual(map[string][]string{".": {}})) // takes the message and says nothing
	m := corpus(t).Message(1, time.Now(), "a@x.test")
	err := sender(t, Options{Protocol: SMTP, Workers: 1, Timeout: 100 * time.Millisecond}, p).Send(t.Context(), 0, m)
	if load.Classify(err) != load.Timeout {
		t.Errorf("error %v, want a timeout", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(100*time.Millisecond, cancel)
	defer stop.Stop()
	err = sender(t, Options{Protocol: SMTP, Workers: 1}, p).Send(ctx, 0, m)
	if load.Classify(err) != load.Unfinished {
		t.Errorf("error %v, want an unfinished one", err)
	}
}

func TestBadSender(t *testing.T) {
	p := newPeer(t, usual(nil))
	s, mail := sender(t, Options{Protocol: SMTP, Workers: 1}, p), corpus(t)
	if err := s.Send(t.Context(), 0, mail.Message(1, time.Now(), "a@x.test>\r\nRSET")); err == nil {
		t.Error("an address that ends its command was sent")
	}
	if err := s.Send(t.Context(), 1, mail.Message(1, time.Now(), "a@x.test")); err == nil {
		t.Error("a worker was taken that there is not")
	}
	for _, o := range []Options{{Protocol: SMTP}, {Workers: 1}, {Protocol: LMTP, Workers: 1, Policy: "best"}} {
		if _, err := New(load.Target{Nodes: []load.Node{{SMTP: "x:1", LMTP: "x:1"}}}, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// FuzzReply: no bytes of a server make the parser fail in another way than by an error, or keep more than its bounds.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "250\r\n", "250-a\r\n550 b\r\n", "99 x\r\n", "abc\r\n", "250x\r\n", "\r\n", "354 go\n"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, keep bool) {
		br := bufio.NewReaderSize(bytes.NewReader(b), maxReplyLine)
		for {
			r, err := readReply(br, keep)
			if len(r.lines) > maxReplyLines {
				t.Fatalf("%d lines", len(r.lines))
			}
			if err != nil {
				return
			}
			if r.code < 200 || r.code > 599 {
				t.Fatalf("code %d", r.code)
			}
		}
	})
}
