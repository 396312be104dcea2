package exact

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hongyan/bench/lab/labtest"
	"hongyan/bench/mail"
)

var (
	besideMessages = flag.Int("beside.messages", 10_000, "in the mailbox of BenchmarkBeside")
	besideRounds   = flag.Int("beside.rounds", 5, "of BenchmarkBeside: each side in turn")
	besideOnly     = flag.String("beside.only", "", "of BenchmarkBeside: only what has this in its name")
	besideOld      = flag.String("beside.old", "", "of BenchmarkBeside: another hongyan program, such as one from before a change")
	besideSessions = flag.Int("beside.sessions", 200, "of BenchmarkBeside: in IDLE, to weigh them")
)

const (
	besideSeed      = 500 // different messages, which are then copied
	besideLargest   = 20_000
	besideUser      = "u0001@example.test"
	besidePipelined = 100
)

// BenchmarkBeside asks a cluster of three nodes and Dovecot the same by IMAP over TLS, in turns: Dovecot as it comes, and one that has on disk what it says it
// has stored (mail_fsync=always), as ours always does. It prints the median of each, the quickest and the slowest, and what processor time the servers took.
//
//	go test -run '^$' -bench Beside -benchtime 1x -timeout 1h ./bench/exact [-beside.messages 1000000] [-beside.old PROGRAM]
func BenchmarkBeside(b *testing.B) {
	sides := []*side{
		{name: "Hongyan", server: startProgram(b, labtest.Build(b, "../.."), "--no-relay")},
		{name: "Dovecot", server: startDovecot(b, "")},
		{name: "Dovecot, fsync", server: startDovecot(b, "mail_fsync = always")},
	}
	if *besideOld != "" {
		sides = append(sides, &side{name: "Hongyan, old", server: startProgram(b, *besideOld, "--no-relay")})
	}
	raws := besideMail()
	for _, s := range sides {
		s.fill(b, raws)
	}
	for b.Loop() {
		for _, op := range besideOps() {
			if !strings.Contains(op.name, *besideOnly) {
				continue
			}
			for round := range *besideRounds {
				for i := range sides {
					sides[(i+round)%len(sides)].measure(b, op)
				}
			}
			tell(b, op.name, sides)
		}
		for _, s := range sides {
			b.Logf("%-40s %-15s %6.1f KiB", "memory of a session in IDLE", s.name, s.weigh(b)/1024)
		}
	}
}

// besideMail are messages of the mix, without the large ones.
func besideMail() (raws []string) {
	for g := mail.New(1); len(raws) < besideSeed; {
		m := strings.ReplaceAll(strings.ReplaceAll(string(g.Next().Bytes), "\r\n", "\n"), "\n", "\r\n")
		if len(m) <= besideLargest {
			raws = append(raws, m)
		}
	}
	return raws
}

// besideOp is what is measured: one command, or several that are sent at once. again numbers the times that it is done on a side.
type besideOp struct {
	name     string
	commands func(messages, again int) []string
}

func besideOps() []besideOp {
	one := func(name, format string) besideOp {
		return besideOp{name, func(n, _ int) []string {
			return []string{strings.NewReplacer("NEWEST", fmt.Sprint(max(1, n-49)), "MANY", fmt.Sprint(min(n, 100_000))).Replace(format)}
		}}
	}
	flagOf := func(again int) string { return string("+-"[again%2]) + `FLAGS` }
	return []besideOp{
		one("SELECT", "SELECT Beside"),
		one("STATUS", "STATUS INBOX (MESSAGES UIDNEXT UNSEEN)"),
		one("newest 50", "FETCH NEWEST:* (UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)"),
		one("newest 50, five header fields", "FETCH NEWEST:* (UID BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])"),
		one("newest 50, whole", "FETCH NEWEST:* BODY.PEEK[]"),
		one("FETCH of 1,000 ENVELOPEs", "FETCH 1:1000 ENVELOPE"),
		one("FETCH of FLAGS, 100,000 at most", "FETCH 1:MANY FLAGS"),
		one("FETCH of sizes and dates of 1,000", "FETCH 1:1000 (INTERNALDATE RFC822.SIZE)"),
		one("SEARCH UNSEEN", "SEARCH RETURN (COUNT) UNSEEN"),
		one("SEARCH SUBJECT", `SEARCH SUBJECT "zebra crossing"`),
		one("SEARCH SUBJECT that many have", `SEARCH RETURN (COUNT) SUBJECT "re"`),
		one("SEARCH FROM", `SEARCH FROM "nobody@nowhere"`),
		one("SEARCH HEADER that is not cached", `SEARCH HEADER X-Mailer "zebra"`),
		one("SEARCH SINCE", "SEARCH RETURN (COUNT) SINCE 1-Jan-2026"),
		one("SEARCH SENTSINCE", "SEARCH RETURN (COUNT) SENTSINCE 1-Apr-2026"),
		one("SEARCH LARGER", "SEARCH RETURN (COUNT) LARGER 10000"),
		one("SEARCH TEXT that none has", `SEARCH TEXT "zebra crossing"`),
		one("SORT (DATE)", "SORT (DATE) UTF-8 ALL"),
		one("SORT (SUBJECT)", "SORT (SUBJECT) UTF-8 ALL"),
		one("THREAD REFERENCES", "THREAD REFERENCES UTF-8 ALL"),
		{"STORE of one", func(n, again int) []string {
			return []string{fmt.Sprintf(`STORE %d %s (\Flagged)`, n/2, flagOf(again))}
		}},
		{"STORE 1:500", func(_, again int) []string { return []string{fmt.Sprintf(`STORE 1:500 %s (\Flagged)`, flagOf(again))} }},
		{"100 STOREs of one, pipelined", func(_, again int) (list []string) {
			for i := range besidePipelined {
				list = append(list, fmt.Sprintf(`STORE %d %s (\Answered)`, i+1, flagOf(again)))
			}
			return list
		}},
		{"COPY of 500", func(int, int) []string { return []string{"COPY 1:500 Other"} }},
		{"APPEND of 10 kB", func(_, again int) []string {
			m := fmt.Sprintf("Subject: %d\r\n\r\n", again) + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 128)
			return []string{fmt.Sprintf("APPEND Other {%d+}\r\n%s", len(m), m)}
		}},
	}
}

// side is one of the servers, and what was measured there.
type side struct {
	name     string
	server   server
	client   *asker
	messages int
	times    []time.Duration // of the operation under way
	cpu      time.Duration
	done     int // operations
}

// fill makes the mailbox and stays in it.
func (s *side) fill(b *testing.B, raws []string) {
	s.client = ask(b, s.server, besideUser)
	s.client.must(b, "CREATE Beside", "CREATE Other")
	var list []string
	for _, m := range raws {
		list = append(list, fmt.Sprintf("APPEND Beside {%d+}\r\n%s", len(m), m))
	}
	for some := range slices.Chunk(list, 50) {
		s.client.must(b, some...)
	}
	s.client.must(b, "SELECT Beside")
	for s.messages = len(raws); s.messages < *besideMessages; {
		n := min(s.messages, *besideMessages-s.messages, 5000)
		s.client.must(b, fmt.Sprintf("COPY 1:%d Beside", n))
		s.messages += n
	}
	s.client.must(b, "NOOP")
}

// measure does an operation once.
func (s *side) measure(b *testing.B, op besideOp) {
	commands := op.commands(s.messages, s.done)
	before := used(b, s.server)
	began := time.Now()
	s.client.must(b, commands...)
	s.times = append(s.times, time.Since(began))
	s.cpu += used(b, s.server).CPU - before.CPU
	s.done++
}

// tell prints what was measured of an operation, and begins anew.
func tell(b *testing.B, what string, sides []*side) {
	var ours time.Duration
	for _, s := range sides {
		slices.Sort(s.times)
		median := s.times[len(s.times)/2]
		if ours == 0 {
			ours = median
		}
		b.Logf("%-34s %-15s %9.2f ms (%.2f to %.2f), processor %7.2f ms, ours over that %.2f", what, s.name, ms(median), ms(s.times[0]), ms(s.times[len(s.times)-1]),
			ms(s.cpu)/float64(len(s.times)), float64(ours)/float64(median))
		s.times, s.cpu = nil, 0
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// weigh opens sessions in IDLE and gives how many bytes the server grew by for each.
func (s *side) weigh(b *testing.B) float64 {
	ask(b, s.server, besideUser).must(b, "SELECT INBOX")
	before := used(b, s.server).Memory
	for i := range *besideSessions {
		c := ask(b, s.server, fmt.Sprintf("u%04d@example.test", i%3+1)) // an account may have 100
		c.must(b, "SELECT INBOX")
		if _, err := io.WriteString(c.conn, "i IDLE\r\n"); err != nil {
			b.Fatal(err)
		}
		if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+") {
			b.Fatalf("IDLE: %q, %v", line, err)
		}
	}
	time.Sleep(3 * time.Second) // buffers and stacks of the logins are given back
	return (float64(used(b, s.server).Memory) - float64(before)) / float64(*besideSessions)
}

// asker is a session whose answers are only read to their ends.
type asker struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func ask(b *testing.B, s server, user string) *asker {
	a, err := dialAsker(b, s, user)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

// dialAsker logs in. The session ends with the benchmark.
func dialAsker(b *testing.B, s server, user string) (*asker, error) {
	conn, err := tls.Dial("tcp", s.imaps, &tls.Config{InsecureSkipVerify: true}) // a server of this test
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { _ = conn.Close() })
	a := &asker{conn: conn, r: bufio.NewReader(conn)}
	if _, err := a.r.ReadString('\n'); err != nil {
		return nil, err
	}
	return a, a.ask(fmt.Sprintf("LOGIN %s %s", user, password))
}

// must sends commands at once and reads all answers. Each has to succeed.
func (a *asker) must(b *testing.B, commands ...string) {
	b.Helper()
	if err := a.ask(commands...); err != nil {
		b.Fatal(err)
	}
}

func (a *asker) ask(commands ...string) error {
	if err := a.conn.SetDeadline(time.Now().Add(10 * patience)); err != nil {
		return err
	}
	var text strings.Builder
	first := a.n + 1
	for _, c := range commands {
		a.n++
		fmt.Fprintf(&text, "t%d %s\r\n", a.n, c)
	}
	sent := make(chan error, 1)
	go func() { // a server may answer before it has read all
		_, err := io.WriteString(a.conn, text.String())
		sent <- err
	}()
	for i := range commands {
		if err := a.answer(fmt.Sprintf("t%d ", first+i)); err != nil {
			return fmt.Errorf("%.60s: %w", commands[i], err)
		}
	}
	return <-sent
}

// answer reads up to a tagged response, which has to be OK.
func (a *asker) answer(tag string) error {
	for {
		line, err := a.r.ReadSlice('\n')
		begin := string(line[:min(len(line), 100)])
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = a.r.ReadSlice('\n')
		}
		if err != nil {
			return err
		}
		if n, ok := literal(line); ok {
			if _, err := a.r.Discard(n); err != nil {
				return err
			}
			continue
		}
		if rest, ok := strings.CutPrefix(begin, tag); ok {
			if !strings.HasPrefix(rest, "OK") {
				return errors.New(rest)
			}
			return nil
		}
	}
}

// literal is the length of the literal that a line ends in.
func literal(line []byte) (int, bool) {
	s, ok := strings.CutSuffix(string(line[max(0, len(line)-16):]), "}\r\n")
	i := strings.LastIndexByte(s, '{')
	if !ok || i < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return n, err == nil
}
