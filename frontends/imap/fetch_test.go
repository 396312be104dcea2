package imap

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/engine/effort"
	"hongyan/engine/message"
)

// crlf writes a message with line feeds as one with the line ends of mail.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const nested = `From: =?utf-8?B?5byg5LiJ?= <zhang@example.test>
To: a@example.test, "B, C" <b@example.test>, group: d@x.test;
Subject: =?gb2312?B?suLK1A==?= and more
Date: Mon, 15 Jun 2026 10:00:00 +0800
Message-ID: <1@example.test>
X-Odd: one
 two
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=out

preamble
--out
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

5L2g5aW977yM5LiW55WM
--out
Content-Type: message/rfc822
Content-Description: inner

From: inner@example.test
Subject: inside
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/plain

plain =61
--in
Content-Type: text/html
Content-Transfer-Encoding: quoted-printable
Content-Disposition: inline; filename="x.html"

<p>=61=
b</p>
--in--
--out
Content-Type: application/pdf; name=a.pdf
Content-Transfer-Encoding: x-odd

zzz
--out--
epilogue
`

// literals runs a FETCH of one section and returns the section's value.
func (r *raw) literal(cmd string) string {
	r.t.Helper()
	r.n++
	tag := fmt.Sprintf("t%d", r.n)
	r.send(tag + " " + cmd + "\r\n")
	l := r.line()
	m := regexp.MustCompile(`\{(\d+)\}$`).FindStringSubmatch(l)
	if m == nil {
		r.t.Fatalf("%s: no literal in %q", cmd, l)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		r.t.Fatal(err)
	}
	value := make([]byte, n)
	if _, err := io.ReadFull(r.r, value); err != nil {
		r.t.Fatal(err)
	}
	if rest := r.until(tag); !strings.HasPrefix(rest[len(rest)-1], "OK") {
		r.t.Fatalf("%s: %q", cmd, rest)
	}
	return string(value)
}

func testSections(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "sections", nil)
	msg := crlf(nested)
	st.appendMessage("INBOX", msg)
	noEnd := "Subject: only a header\r\nX: y"
	st.appendMessage("INBOX", noEnd)
	r := st.rawUser("INBOX")
	head, body, _ := strings.Cut(msg, "\r\n\r\n")
	head += "\r\n\r\n"
	inner := crlf("From: inner@example.test\nSubject: inside\nContent-Type: multipart/alternative; boundary=in\n\n")
	for _, c := range []struct{ item, want string }{
		{"BODY.PEEK[]", msg},
		{"RFC822.PEEK", msg},
		{"BODY.PEEK[]<0.10>", msg[:10]},
		{"BODY.PEEK[]<100.50>", msg[100:150]},
		{"BODY.PEEK[]<" + strconv.Itoa(len(msg)-3) + ".100>", msg[len(msg)-3:]},
		{"BODY.PEEK[]<99999.10>", ""},
		{"BODY.PEEK[HEADER]", head},
		{"RFC822.HEADER", head},
		{"BODY.PEEK[TEXT]", body},
		{"BODY.PEEK[TEXT]<3.4>", body[3:7]},
		{"BODY.PEEK[HEADER.FIELDS (x-odd SUBJECT)]", "Subject: =?gb2312?B?suLK1A==?= and more\r\nX-Odd: one\r\n two\r\n\r\n"},
		{"BODY.PEEK[HEADER.FIELDS (Message-ID)]<3.5>", "sage-"},
		{"BODY.PEEK[HEADER.FIELDS (Absent)]", "\r\n"},
		{"BODY.PEEK[HEADER.FIELDS.NOT (from to subject date message-id mime-version content-type)]", "X-Odd: one\r\n two\r\n\r\n"},
		{"BODY.PEEK[1]", "5L2g5aW977yM5LiW55WM"},
		{"BODY.PEEK[1.MIME]", crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n")},
		{"BODY.PEEK[2.HEADER]", inner},
		{"BODY.PEEK[2.HEADER.FIELDS (Subject)]", "Subject: inside\r\n\r\n"},
		{"BODY.PEEK[2.HEADER.FIELDS.NOT (Subject)]", crlf("From: inner@example.test\nContent-Type: multipart/alternative; boundary=in\n\n")},
		{"BODY.PEEK[2.MIME]", crlf("Content-Type: message/rfc822\nContent-Description: inner\n\n")},
		{"BODY.PEEK[2.1]", "plain =61"},
		{"BODY.PEEK[2.2]", "<p>=61=\r\nb</p>"},
		{"BODY.PEEK[2.2.MIME]<0.7>", "Content"},
		{"BODY.PEEK[3]", "zzz"},
		{"BODY.PEEK[4]", ""},
		{"BODY.PEEK[1.1]", ""},
		{"BODY.PEEK[1.HEADER]", ""},
		{"BINARY.PEEK[1]", "你好，世界"},
		{"BINARY.PEEK[1]<3.3>", "好"},
		{"BINARY.PEEK[2.2]", "<p>ab</p>"},
		{"BINARY.PEEK[]", msg},
	} {
		if got := r.literal("FETCH 1 " + c.item); got != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.item, got, c.want)
		}
	}
	if got := r.literal("UID FETCH 2 BODY.PEEK[HEADER]"); got != noEnd {
		t.Errorf("%q", got)
	}
	if got := r.literal("FETCH 2 BODY.PEEK[HEADER.FIELDS (X)]"); got != "X: y\r\n\r\n" {
		t.Errorf("%q", got)
	}
	r.want("FETCH 1 BINARY.PEEK[3]", "NO [UNKNOWN-CTE]")
	if got := r.ok("FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2.2])"); got[0] != "* 1 FETCH (BINARY.SIZE[1] 15 BINARY.SIZE[2.2] 9)" {
		t.Errorf("%q", got)
	}
	if got := r.ok("FETCH 1:2 FLAGS"); got[0] != "* 1 FETCH (FLAGS ())" || got[1] != "* 2 FETCH (FLAGS ())" {
		t.Errorf("peeking set a flag: %q", got)
	}
	if got := r.ok("FETCH 1:2 BODY[TEXT]<0.1>"); !strings.HasPrefix(got[0], `* 1 FETCH (FLAGS (\Seen) BODY[TEXT]<0> {1}`) {
		t.Errorf("%q", got)
	}
	if got := r.ok("FETCH 1:2 BODY[TEXT]<0.1>"); strings.Contains(got[0], "FLAGS") {
		t.Errorf("unchanged flags are told: %q", got)
	}
	if got := r.ok("FETCH 2,1 UID"); got[0] != "* 1 FETCH (UID 1)" || got[1] != "* 2 FETCH (UID 2)" {
		t.Errorf("%q", got)
	}
	r.want("FETCH 3 FLAGS", "BAD")
	r.want("FETCH 1:3 FLAGS", "BAD")
	r.want("FETCH 0 FLAGS", "BAD")
	r.ok("UID FETCH 3 FLAGS")
	if got := r.ok("UID FETCH 99:* (FLAGS)"); !strings.HasPrefix(got[0], "* 2 FETCH (UID 2 FLAGS") {
		t.Errorf("%q", got)
	}
}

func testStructure(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "structure", nil)
	r := st.rawUser("INBOX")
	for i, c := range []struct{ msg, item, want string }{
		{nested, "ENVELOPE", `ENVELOPE ("Mon, 15 Jun 2026 10:00:00 +0800" "=?gb2312?B?suLK1A==?= and more" (("=?utf-8?B?5byg5LiJ?=" NIL "zhang" "example.test")) ` +
			`(("=?utf-8?B?5byg5LiJ?=" NIL "zhang" "example.test")) (("=?utf-8?B?5byg5LiJ?=" NIL "zhang" "example.test")) ` +
			`((NIL NIL "a" "example.test")("B, C" NIL "b" "example.test")(NIL NIL "group" NIL)(NIL NIL "d" "x.test")(NIL NIL NIL NIL)) NIL NIL NIL "<1@example.test>")`},
		{nested, "BODY", `BODY (("text" "plain" ("charset" "utf-8") NIL NIL "base64" 20 0)("message" "rfc822" NIL NIL "inner" "7bit" 288 ` +
			`(NIL "inside" ((NIL NIL "inner" "example.test")) ((NIL NIL "inner" "example.test")) ((NIL NIL "inner" "example.test")) NIL NIL NIL NIL NIL) ` +
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 9 0)("text" "html" ("charset" "us-ascii") NIL NIL "quoted-printable" 14 1) "alternative") 15)` +
			`("application" "pdf" ("name" "a.pdf") NIL NIL "x-odd" 3) "mixed")`},
		{nested, "BODYSTRUCTURE", `BODYSTRUCTURE (("text" "plain" ("charset" "utf-8") NIL NIL "base64" 20 0 NIL NIL NIL NIL)("message" "rfc822" NIL NIL "inner" "7bit" 288 ` +
			`(NIL "inside" ((NIL NIL "inner" "example.test")) ((NIL NIL "inner" "example.test")) ((NIL NIL "inner" "example.test")) NIL NIL NIL NIL NIL) ` +
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 9 0 NIL NIL NIL NIL)("text" "html" ("charset" "us-ascii") NIL NIL "quoted-printable" 14 1 NIL ("inline" ("filename" "x.html")) NIL NIL) "alternative" ("boundary" "in") NIL NIL NIL) 15 NIL NIL NIL NIL)` +
			`("application" "pdf" ("name" "a.pdf") NIL NIL "x-odd" 3 NIL NIL NIL NIL) "mixed" ("boundary" "out") NIL NIL NIL)`},
		// Shapes over which servers are known to have stumbled.
		{"Content-Type: multipart/mixed; boundary=x\n\nno parts\n", "BODYSTRUCTURE", ""},
		{"Content-Type: multipart/mixed\n\n", "BODYSTRUCTURE", ""},
		{"\x00\xff\xfe", "(BODYSTRUCTURE BODY ENVELOPE)", ""},
		{"Content-Type: message/rfc822\n\n", "BODYSTRUCTURE", ""},
		{"Subject: \xc4\xe3\xba\xc3\nFrom: \xe4\xbd\xa0 <a@b>\n\n", "ENVELOPE", "ENVELOPE (NIL {4}\n\xc4\xe3\xba\xc3 (({3}\n你 NIL \"a\" \"b\")) (({3}\n你 NIL \"a\" \"b\")) (({3}\n你 NIL \"a\" \"b\")) NIL NIL NIL NIL NIL)"},
		{"In-Reply-To: <a@b> <c@d>\nDate: nonsense\n\n", "ENVELOPE", `ENVELOPE ("nonsense" NIL NIL NIL NIL NIL NIL NIL "<a@b> <c@d>" NIL)`},
		{strings.Repeat("Content-Type: multipart/mixed; boundary=x\n\n--x\n", 200), "BODYSTRUCTURE", ""},
	} {
		st.appendMessage("INBOX", crlf(c.msg))
		r.ok("NOOP")
		got := r.ok(fmt.Sprintf("FETCH %d %s", i+1, c.item))
		value := strings.Join(got[:len(got)-1], "\n") // its literals have lines of their own
		if want := fmt.Sprintf("* %d FETCH (%s)", i+1, c.want); c.want != "" && value != want {
			t.Errorf("%s\ngot  %s\nwant %s", c.item, value, want)
		}
	}
	if got := r.ok("FETCH 1 ALL"); !strings.HasPrefix(got[0], `* 1 FETCH (FLAGS () INTERNALDATE "15-Jun-2025 23:06:40 +0800" RFC822.SIZE `+strconv.Itoa(len(crlf(nested)))+" ENVELOPE (") {
		t.Errorf("%q", got)
	}
	if got := r.ok("FETCH 1 (BODY BODYSTRUCTURE)"); !strings.Contains(got[0], "BODY (") || !strings.Contains(got[0], "BODYSTRUCTURE (") {
		t.Errorf("%q", got)
	}
	r.ok("FETCH 1:* FULL")
}

func testAppend(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "append", nil)
	r := st.rawUser("INBOX")
	send := func(args, msg string) []string {
		r.n++
		tag := fmt.Sprintf("t%d", r.n)
		r.send(fmt.Sprintf("%s APPEND %s {%d}\r\n", tag, args, len(msg)))
		l := r.line()
		if !strings.HasPrefix(l, "+ ") {
			return []string{strings.TrimPrefix(l, tag+" ")}
		}
		r.send(msg + "\r\n")
		return r.until(tag)
	}
	got := send(`INBOX (\Seen \Flagged $Work) "01-Feb-2020 03:04:05 -0730"`, "a: b\r\n\r\nc\r\n")
	if len(got) != 3 || got[0] != "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)" || got[1] != "* 1 EXISTS" ||
		!regexp.MustCompile(`^OK \[APPENDUID \d+ 1\]`).MatchString(got[2]) {
		t.Errorf("%q", got)
	}
	if got := r.ok("FETCH 1 (FLAGS INTERNALDATE)"); got[0] != `* 1 FETCH (FLAGS (\Flagged \Seen $Work) INTERNALDATE " 1-Feb-2020 03:04:05 -0730")` {
		t.Errorf("%q", got)
	}
	for _, c := range []struct{ args, msg, want string }{
		{"nowhere", "a", "NO [TRYCREATE]"},
		{"INBOX", "", "NO [CANNOT]"},
		{`INBOX (\Nonsense)`, "a", "BAD"},
		{`INBOX (\Recent)`, "a", "BAD"},
		{"INBOX (" + strings.Repeat("k", 100) + ")", "a", "NO [LIMIT]"},
		{`INBOX "not a date"`, "a", "BAD"},
	} {
		if got := send(c.args, c.msg); !strings.HasPrefix(got[len(got)-1], c.want) {
			t.Errorf("%s: %q, want %s", c.args, got, c.want)
		}
	}
	r.send("big APPEND INBOX {200000000}\r\n")
	if l := r.line(); !strings.HasPrefix(l, "big NO [TOOBIG]") {
		t.Errorf("%q", l)
	}
	if got := r.ok("STATUS INBOX (MESSAGES)"); got[0] != "* STATUS INBOX (MESSAGES 1)" {
		t.Errorf("%q", got)
	}
	// A connection that ends inside the literal leaves nothing.
	cut := st.rawUser("")
	cut.send("a APPEND INBOX {100}\r\n")
	cut.line()
	cut.send("half of it")
	if err := cut.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.ok("NOOP"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// testLarge passes a message through that is far larger than any buffer, and reads it back in pieces.
func testLarge(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "large", nil)
	size := effort.Of(10<<20, 30<<20, 30<<20)
	r := st.rawUser("INBOX")
	sum := func(fill func(io.Writer)) string {
		h := sha256.New()
		fill(h)
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	write := func(w io.Writer) {
		rng := rand.New(rand.NewPCG(1, 1))
		left := size
		for left > 0 {
			line := fmt.Sprintf("%064x%064x\r\n", rng.Uint64(), rng.Uint64())
			line = line[max(0, len(line)-left):]
			if _, err := io.WriteString(w, line); err != nil {
				t.Fatal(err)
			}
			left -= len(line)
		}
	}
	want := sum(write)
	r.send(fmt.Sprintf("a APPEND INBOX {%d}\r\n", size))
	r.line()
	write(r.Conn)
	r.send("\r\n")
	if got := r.until("a"); !strings.HasPrefix(got[len(got)-1], "OK [APPENDUID") {
		t.Fatalf("%q", got)
	}
	got := r.literal("FETCH 1 BODY.PEEK[]")
	if sum(func(w io.Writer) { _, _ = io.WriteString(w, got) }) != want {
		t.Error("the message came back different")
	}
	if part := r.literal(fmt.Sprintf("FETCH 1 BODY.PEEK[]<%d.%d>", size/2, 100_000)); part != got[size/2:size/2+100_000] {
		t.Error("a piece came back different")
	}
}

func testBrokenStreams(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "broken", nil)
	msg := strings.Repeat("0123456789abcdef", 20_000) // larger than what is read before the response begins
	st.appendMessage("INBOX", msg)
	st.appendMessage("INBOX", "small")
	r := st.rawUser("INBOX")
	reads := 0
	st.mail.at(func(op string) error {
		if op == "read" {
			reads++
		}
		return nil
	})
	st.mail.cut = func() int64 { // every stream but each third ends early
		if reads%3 != 0 {
			return 100_000
		}
		return -1
	}
	if got := r.literal("FETCH 1 BODY.PEEK[]"); got != msg {
		t.Error("a stream that broke was not taken up where it did")
	}
	st.mail.cut = func() int64 { return 0 }
	r.want("FETCH 2 BODY.PEEK[]", "NO [UNAVAILABLE]")
	st.mail.cut = func() int64 { return 10_000 }
	r.send("a FETCH 1 BODY.PEEK[]\r\n")
	if got := r.eof(); strings.Contains(got, "a OK") || strings.Contains(got, "a NO") {
		t.Error("a literal that ended early was answered")
	}
	if s := st.srv.Stats(); s.Unavailable == 0 {
		t.Errorf("%+v", s)
	}
}

// A message whose content is lost, or whose entry has just been corrected, keeps no other one of the same command from its client.
func testLostContent(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "lost", nil)
	for _, body := range []string{"first", "second", "third"} {
		st.appendMessage("INBOX", "Subject: x\r\n\r\n"+body)
	}
	r := st.rawUser("INBOX")
	st.mail.odd = func(uid uint32) error {
		if uid == 2 {
			return fmt.Errorf("%w: nowhere", client.ErrLost)
		}
		return nil
	}
	lines := r.want("FETCH 1:3 (UID FLAGS BODY[TEXT])", "NO [CORRUPTION]")
	if all := strings.Join(lines, "\n"); !strings.Contains(all, "first") || !strings.Contains(all, "third") || strings.Contains(all, "* 2 FETCH") && strings.Contains(all, "second") {
		t.Errorf("%q", lines)
	}
	r.ok("FETCH 1:3 (UID FLAGS RFC822.SIZE)")
	if lines := r.ok("SEARCH TEXT third"); !strings.Contains(lines[0], "SEARCH 3") {
		t.Errorf("%q", lines)
	}
	corrected := 0
	st.mail.odd = func(uid uint32) error {
		if uid == 2 && corrected == 0 {
			corrected++
			return client.ErrAmended
		}
		return nil
	}
	if all := strings.Join(r.ok("FETCH 1:3 BODY.PEEK[TEXT]"), "\n"); !strings.Contains(all, "first") || !strings.Contains(all, "second") || !strings.Contains(all, "third") {
		t.Errorf("%q", all)
	}
}

// cutReader ends early, as a stream from a node that dies.
type cutReader struct {
	io.ReadCloser
	left int64
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("stream cut: %w", client.ErrUnavailable)
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

func (h *hooked) Open(ctx context.Context, a client.Account, mailbox, uid uint32, ref client.Ref, off, n uint64) (io.ReadCloser, error) {
	h.reads.Add(1)
	if err := h.before("read"); err != nil {
		return nil, err
	}
	if h.odd != nil {
		if err := h.odd(uid); err != nil {
			return nil, err
		}
	}
	r, err := h.mail.Open(ctx, a, mailbox, uid, ref, off, n)
	if err != nil || h.cut == nil {
		return r, err
	}
	if left := h.cut(); left >= 0 {
		return &cutReader{r, left}, nil
	}
	return r, nil
}

func TestWholeHeader(t *testing.T) {
	for _, raw := range []string{"a: b\r\n\r\nc", "a: b\n\nc", "a: b\r\n", "a: b", "", "a: b\r\n\r", "a: b\r\n\r\r", "\r\nx", "junk\r\n\r\n", "a: b\r\n folded\r\n\r\n"} {
		sc := message.NewScanner()
		if _, err := sc.Write([]byte(raw)); err != nil {
			t.Fatal(err)
		}
		sum := sc.Finish()
		start, end, ok := sum.Range(nil, message.Header)
		if !ok {
			t.Fatal("no header")
		}
		if got, ok := wholeHeader(sum, end-start, uint64(len(raw))); ok && string(got) != raw[start:end] {
			t.Errorf("%q: %q, want %q", raw, got, raw[start:end])
		}
	}
}

// testManySections asks for the same 60 KiB thousands of times in one command, and does not read the answer: the server must not
// have all of it in memory meanwhile.
func testManySections(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "many-sections", nil)
	body := strings.Repeat("0123456789abcde\n", 60<<6)
	st.appendMessage("INBOX", "Subject: x\r\n\r\n"+body)
	r := st.rawUser("INBOX")
	items := strings.Repeat("BODY.PEEK[TEXT] ", 40)
	lines := r.ok("FETCH 1 (" + items + "BODY.PEEK[1]<3.5> BINARY.SIZE[1])")
	all := strings.Join(lines, "\n")
	if n := strings.Count(all, "BODY[TEXT] {"); n != 40 || !strings.Contains(all, "BODY[1]<3> {5}\n34567 BINARY.SIZE[1] 61440)") {
		t.Fatalf("%d sections, and at the end %q", n, all[len(all)-200:])
	}
	st.appendMessage("INBOX", crlf(nested))
	r.ok("NOOP")
	r.want("FETCH 2 ("+strings.Repeat("BODY.PEEK[] ", 3000)+"BINARY[3])", "NO [UNKNOWN-CTE]") // before anything is sent of it
	var reads atomic.Int64
	st.mail.at(func(op string) error {
		if op == "read" {
			reads.Add(1)
		}
		return nil
	})
	r.send("a FETCH 1 (" + strings.Repeat("BODY.PEEK[TEXT] ", 2900) + "UID)\r\n")
	clustertest.Eventually(t, 5*time.Second, func() bool { return reads.Load() > 10 }, func() string { return "nothing is read" })
	time.Sleep(500 * time.Millisecond)
	if n := reads.Load(); n > 1000 {
		t.Errorf("%d sections of 60 KiB were read for a client that takes none", n)
	}
	_ = r.Close()
}
