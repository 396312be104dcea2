package imap

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/cluster/clustertest"
	"hongyan/engine/effort"
)

// testClientLibrary is a session as a real client library leads it.
func testClientLibrary(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "library", nil)
	exists := make(chan uint32, 10)
	watching := st.dial(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		},
	}})
	if _, err := watching.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := watching.Idle()
	if err != nil {
		t.Fatal(err)
	}
	cl := st.dial(nil)
	msg := crlf(nested)
	app := cl.Append("INBOX", int64(len(msg)), &goimap.AppendOptions{Flags: []goimap.Flag{goimap.FlagSeen}})
	if _, err := app.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Wait(); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-exists:
		if n != 1 {
			t.Errorf("told of %d messages", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("IDLE told nothing")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	text := &goimap.FetchItemBodySection{Part: []int{2, 1}, Peek: true}
	list, err := cl.Fetch(goimap.SeqSetNum(1), &goimap.FetchOptions{UID: true, Envelope: true,
		BodyStructure: &goimap.FetchItemBodyStructure{Extended: true}, BodySection: []*goimap.FetchItemBodySection{text}}).Collect()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	m := list[0]
	if m.Envelope.From[0].Name != "张三" || m.BodyStructure.MediaType() != "multipart/mixed" || string(m.FindBodySection(text)) != "plain =61" {
		t.Errorf("%+v", m)
	}
	found, err := cl.UIDSearch(&goimap.SearchCriteria{Body: []string{"你好"}}, nil).Wait()
	if err != nil || !slices.Equal(found.AllUIDs(), []goimap.UID{1}) {
		t.Errorf("%v %v", found, err)
	}
	moved, err := cl.Move(goimap.SeqSetNum(1), "Archive").Wait()
	if err != nil || moved.DestUIDs.String() != "1" {
		t.Errorf("%+v %v", moved, err)
	}
	if err := cl.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// testMany streams a mailbox through, with messages larger and smaller than what is read ahead, and counts.
func testMany(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "many", nil)
	const n = 300
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := k; i < n; i += 4 {
				size := 10
				if i%50 == 0 {
					size = 200 << 10
				}
				st.appendMessage("INBOX", fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", size)))
			}
		})
	}
	wg.Wait()
	cl := st.dial(nil)
	if _, err := cl.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	all := &goimap.FetchItemBodySection{}
	list, err := cl.Fetch(goimap.SeqSet{{Start: 1, Stop: 0}}, &goimap.FetchOptions{UID: true, RFC822Size: true, BodySection: []*goimap.FetchItemBodySection{all}}).Collect()
	if err != nil || len(list) != n {
		t.Fatal(len(list), err)
	}
	seen := make(map[string]bool)
	for i, m := range list {
		raw := m.FindBodySection(all)
		subject, _, _ := strings.Cut(string(raw), "\r\n")
		if seen[subject] || int64(len(raw)) != m.RFC822Size || m.SeqNum != uint32(i+1) || len(m.Flags) != 1 {
			t.Fatalf("message %d: %q, %d bytes of %d, flags %v", i, subject, len(raw), m.RFC822Size, m.Flags)
		}
		seen[subject] = true
	}
}

// believer is a client that keeps the mailbox as it is told, and checks all that it is told against it.
type believer struct {
	r    *raw
	name string
	msgs []*belief // by sequence number
}

type belief struct {
	uid     uint32 // 0: not asked yet
	subject string
	flags   string
	known   bool // flags were told, and all changes since must have been
}

// reads are the untagged responses that a believer understands.
type reads struct{ exists, expunge, fetch, uid, flags, subject *regexp.Regexp }

func newReads() *reads {
	return &reads{
		exists: regexp.MustCompile(`^\* (\d+) EXISTS$`), expunge: regexp.MustCompile(`^\* (\d+) EXPUNGE$`),
		fetch: regexp.MustCompile(`^\* (\d+) FETCH \((.*)`), uid: regexp.MustCompile(`UID (\d+)`),
		flags: regexp.MustCompile(`FLAGS \(([^)]*)\)`), subject: regexp.MustCompile(`ENVELOPE \(NIL "([^"]*)"`),
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// hear takes in a command's responses.
func (b *believer) hear(x *reads, cmd string, lines []string) {
	noExpunge := regexp.MustCompile(`^(FETCH|STORE|SEARCH)`).MatchString(cmd)
	for _, l := range lines {
		switch {
		case x.exists.MatchString(l):
			n := number(x.exists.FindStringSubmatch(l)[1])
			if n < len(b.msgs) {
				b.r.t.Errorf("%s: EXISTS went from %d to %d", b.name, len(b.msgs), n)
			}
			for len(b.msgs) < n {
				b.msgs = append(b.msgs, new(belief))
			}
		case x.expunge.MatchString(l):
			n := number(x.expunge.FindStringSubmatch(l)[1])
			if noExpunge || n < 1 || n > len(b.msgs) {
				b.r.t.Errorf("%s: %q with %d messages, in %s", b.name, l, len(b.msgs), cmd)
				continue
			}
			b.msgs = slices.Delete(b.msgs, n-1, n)
		case x.fetch.MatchString(l):
			m := x.fetch.FindStringSubmatch(l)
			n := number(m[1])
			if n < 1 || n > len(b.msgs) {
				b.r.t.Errorf("%s: %q with %d messages", b.name, l, len(b.msgs))
				continue
			}
			b.learn(x, b.msgs[n-1], l)
		}
	}
}

func (b *believer) learn(x *reads, m *belief, l string) {
	if s := x.uid.FindStringSubmatch(l); s != nil {
		uid := uint32(number(s[1]))
		if m.uid != 0 && m.uid != uid {
			b.r.t.Errorf("%s: message %d became %d: %s", b.name, m.uid, uid, l)
		}
		m.uid = uid
	}
	if s := x.subject.FindStringSubmatch(l); s != nil {
		if m.subject != "" && m.subject != s[1] {
			b.r.t.Errorf("%s: message %d, %q, became %q", b.name, m.uid, m.subject, s[1])
		}
		m.subject = s[1]
	}
	if s := x.flags.FindStringSubmatch(l); s != nil {
		m.flags, m.known = s[1], true
	}
}

// step does something at random.
func (b *believer) step(x *reads, rng *rand.Rand) {
	pick := func() string {
		a, z := 1+rng.IntN(len(b.msgs)), 1+rng.IntN(len(b.msgs))
		return fmt.Sprintf("%d:%d", a, min(z, a+4))
	}
	flags := []string{`\Seen`, `\Flagged`, "$A", "$B", `\Deleted`}
	cmd := "NOOP"
	if len(b.msgs) > 0 {
		prefix := ""
		if rng.IntN(3) == 0 {
			prefix = "UID "
		}
		switch rng.IntN(12) {
		case 0, 1:
			cmd = "FETCH " + pick() + " (UID FLAGS ENVELOPE)"
		case 2:
			cmd = "UID FETCH 1:* (FLAGS)"
		case 3:
			cmd = prefix + "STORE " + pick() + " +FLAGS (" + flags[rng.IntN(4)] + ")"
		case 4:
			cmd = prefix + "STORE " + pick() + " -FLAGS.SILENT (" + flags[rng.IntN(4)] + ")"
		case 5:
			cmd = "STORE " + pick() + ` +FLAGS (\Deleted)`
		case 6:
			cmd = "EXPUNGE"
		case 7:
			cmd = prefix + "SEARCH FLAGGED"
		case 8:
			cmd = "FETCH " + pick() + " (UID BODY[HEADER.FIELDS (SUBJECT)])"
		case 9:
			cmd = "COPY " + pick() + " INBOX"
		case 10:
			cmd = "MOVE " + pick() + " INBOX"
		}
	}
	if strings.HasSuffix(cmd, ":0") || len(b.msgs) > 60 {
		cmd = "UID EXPUNGE 1:*"
	}
	silent := strings.Contains(cmd, "SILENT")
	lines := b.r.do(cmd)
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "OK") && !strings.HasPrefix(last, "NO [EXPUNGEISSUED]") {
		b.r.t.Errorf("%s: %s: %q", b.name, cmd, last)
	}
	b.hear(x, cmd, lines)
	if silent {
		// A client knows what it did itself; here it forgets the flags instead.
		for _, m := range b.msgs {
			m.known = false
		}
	}
}

// testStress lets sessions at two nodes work on one mailbox. Whatever they are told must fit together, and in the end all
// must believe what is.
func testStress(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "stress", nil)
	far := serveNode(t, c, 1, st.user)
	x := newReads()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	steps := effort.Of(100, 150, 150)
	if testing.Short() {
		steps = 40
	}
	var all []*believer
	for i := range 6 {
		at := st
		if i%2 == 1 {
			at = far
		}
		b := &believer{r: at.rawUser(""), name: fmt.Sprint("client ", i)}
		if err := b.r.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		b.hear(x, "SELECT", b.r.ok("SELECT INBOX"))
		all = append(all, b)
	}
	var wg sync.WaitGroup
	for i, b := range all {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for k := range steps {
				if rng.IntN(4) == 0 {
					msg := fmt.Sprintf("Subject: %d-%d\r\n\r\nx\r\n", i, k)
					b.hear(x, "APPEND", b.r.do(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(msg), msg)))
				}
				b.step(x, rng)
			}
		})
	}
	wg.Wait()
	fresh := st.rawUser("INBOX")
	want := fresh.ok("FETCH 1:* (UID FLAGS)")
	for _, b := range all {
		clustertest.Eventually(t, 10*time.Second, func() bool {
			b.hear(x, "NOOP", b.r.ok("NOOP"))
			return len(b.msgs) == len(want)-1
		}, func() string { return b.name + " does not learn how many there are" })
		b.compare(x, want[:len(want)-1]) // with what updates told
		b.hear(x, "UID FETCH", b.r.ok("UID FETCH 1:* (FLAGS)"))
		b.compare(x, want[:len(want)-1])
	}
}

// compare holds what a client believes against what is.
func (b *believer) compare(x *reads, want []string) {
	for i, l := range want {
		uid, flags, m := x.uid.FindStringSubmatch(l)[1], x.flags.FindStringSubmatch(l)[1], b.msgs[i]
		if m.uid != 0 && fmt.Sprint(m.uid) != uid || m.known && m.flags != flags {
			b.r.t.Errorf("%s: message %d is UID %d (%s), want %s", b.name, i+1, m.uid, m.flags, l)
		}
	}
}
