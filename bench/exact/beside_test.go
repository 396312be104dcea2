package exact

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"regexp"
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
	besideOnly     = flag.String("beside.only", "", "of BenchmarkBeside: only what this regular expression matches in its name")
	besideOld      = flag.String("beside.old", "", "of BenchmarkBeside: another hongyan program, such as one from before a change")
	besideProgram  = flag.String("beside.program", "", "of BenchmarkBeside: the hongyan program; it is built without")
	besideSessions = flag.Int("beside.sessions", 200, "of BenchmarkBeside: in IDLE, to weigh them")
)

const (
	besideSeed      = 500 // different messages, which are then copied
	besideLargest   = 20_000
	besideUser      = "u0001@example.test"
	besidePipelined = 100
	besideMailboxes = 200 // beside those that are full
)

// BenchmarkBeside asks a cluster of three nodes and Dovecot the same by IMAP over TLS, in turns: Dovecot as it comes, and one that has on disk what it says it
// has stored (mail_fsync=always), as ours always does. It prints the median of each, the quickest and the slowest, and what processor time the servers took.
//
//	go test -run '^$' -bench Beside -benchtime 1x -timeout 1h ./bench/exact [-beside.messages 1000000] [-beside.old PROGRAM]
func BenchmarkBeside(b *testing.B) {
	program := *besideProgram
	if program == "" {
		program = labtest.Build(b, "../..")
	}
	sides := []*side{
		{name: "Hongyan", server: startProgram(b, program, "--no-relay")},
		{name: "Dovecot", server: startDovecot(b, "")},
		{name: "Dovecot, fsync", server: startDovecot(b, "mail_fsync = always")},
	}
	if *besideOld != "" {
		sides = append(sides, &side{name: "Hongyan, old", server: startProgram(b, *besideOld, "--no-relay")})
	}
	only, err := regexp.Compile(*besideOnly)
	if err != nil {
		b.Fatal("-beside.only: ", err)
	}
	raws := besideMail()
	for _, s := range sides {
		s.fill(b, raws)
	}
	for b.Loop() {
		for _, op := range besideOps() {
			if !only.MatchString(op.name) {
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

// side is one of the servers, and what was measured there.
type side struct {
	name     string
	server   server
	client   *asker
	other    *asker // another session of the same user
	messages int
	fresh    int             // mailboxes made that nobody has asked for anything
	flips    int             // changes of flags that the other session hears of
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
	list = nil
	for i := range besideMailboxes {
		list = append(list, fmt.Sprintf("CREATE Many/%03d", i))
	}
	s.client.must(b, list...)
	s.other = ask(b, s.server, besideUser)
}

// measure does an operation once.
func (s *side) measure(b *testing.B, op besideOp) {
	timed, after := op.prepare(b, s)
	before := used(b, s.server)
	began := time.Now()
	timed()
	s.times = append(s.times, time.Since(began))
	s.cpu += used(b, s.server).CPU - before.CPU
	s.done++
	if after != nil {
		after()
	}
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
		c.idle(b)
	}
	time.Sleep(3 * time.Second) // buffers and stacks of the logins are given back
	return (float64(used(b, s.server).Memory) - float64(before)) / float64(*besideSessions)
}

// asker is a session whose answers are only read to their ends.
type asker struct {
	conn   net.Conn
	r      *bufio.Reader
	n      int
	status string // the last STATUS response
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
		if strings.HasPrefix(begin, "* STATUS ") {
			a.status = begin
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

// idle begins IDLE, awake ends it.
func (a *asker) idle(b *testing.B) {
	b.Helper()
	a.write(b, "i IDLE\r\n")
	a.hear(b, "+")
}

func (a *asker) awake(b *testing.B) {
	b.Helper()
	a.write(b, "DONE\r\n")
	a.hear(b, "i OK")
}

func (a *asker) write(b *testing.B, text string) {
	b.Helper()
	if _, err := io.WriteString(a.conn, text); err != nil {
		b.Fatal(err)
	}
}

// hear reads up to a line that has a text in it.
func (a *asker) hear(b *testing.B, text string) {
	b.Helper()
	if err := a.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		b.Fatal(err)
	}
	for {
		line, err := a.r.ReadString('\n')
		if err != nil {
			b.Fatalf("waits for %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}
