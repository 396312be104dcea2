package imap

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hongyan/cluster/clustertest"
)

// letter is what testTranscripts delivers and clients append.
const letter = "Date: Tue, 17 Jun 2025 10:00:00 +0800\r\nFrom: =?utf-8?b?5byg5LiJ?= <zhang@example.test>\r\nTo: li@example.test\r\n" +
	"Subject: =?utf-8?b?5L2g5aW9?=\r\nMessage-ID: <1@example.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n" +
	"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0=\r\n--b--\r\n"

// testTranscripts plays testdata/transcripts: what mail programs are known to send, written from public documentation and logs of them, and what they
// count on in the answers. Before each there are three letters in INBOX. A line of a transcript is one of
//
//	# remark
//	C: a line of the client      C2: on its second connection
//	S: a line of the server      S2: …; a literal in it is part of the line
//	D: letter                    a letter is delivered into INBOX
//	B: letter                    the client sends the letter as a literal
//	...                          any lines of the server up to the one that matches the next S:
//
// In lines, {user}, {password}, {plain} and {size} (of the letter) have values; {name} of anything else takes the digits that stand there
// in an S: line, and stands for them from then on. In S: lines "..." is any text.
func testTranscripts(t *testing.T, c *clustertest.Cluster) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			st := serve(t, c, "transcript-"+name, nil)
			for range 3 {
				st.appendMessage("INBOX", letter)
			}
			newPlay(t, st).file(file)
		})
	}
}

// play is a transcript under way.
type play struct {
	t     *testing.T
	st    *stage
	conns map[string]*raw
	vars  map[string]string
	skip  bool   // "..." came: lines may be passed over
	at    string // file and line
}

func newPlay(t *testing.T, st *stage) *play {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + st.user + "\x00" + clustertest.Password))
	return &play{t: t, st: st, conns: map[string]*raw{}, vars: map[string]string{"user": st.user, "password": clustertest.Password,
		"plain": plain, "size": strconv.Itoa(len(letter))}}
}

func (p *play) file(name string) {
	p.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		p.at = fmt.Sprintf("%s:%d: %s", name, i+1, line)
		who, text, _ := strings.Cut(line, ": ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case line == "...":
			p.skip = true
		case line == "D: letter":
			p.st.appendMessage("INBOX", letter)
		case line == "B: letter":
			p.conn("").send(letter + "\r\n")
		case strings.HasPrefix(who, "C"):
			p.conn(who[1:]).send(p.fill(text) + "\r\n")
		case strings.HasPrefix(who, "S"):
			p.expect(p.conn(who[1:]), text)
		default:
			p.t.Fatalf("%s\nis no line of a transcript", p.at)
		}
	}
}

// conn is a connection by its number, made when it is first named.
func (p *play) conn(number string) *raw {
	if p.conns[number] == nil {
		p.conns[number] = p.st.rawTLS()
	}
	return p.conns[number]
}

var variable = regexp.MustCompile(`\{[a-z]+\}`)

// fill puts values in a client's line.
func (p *play) fill(text string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		value, ok := p.vars[v[1:len(v)-1]]
		if !ok {
			p.t.Fatalf("%s\n%s has no value yet", p.at, v)
		}
		return value
	})
}

// pattern is a server's line as a regular expression whose groups take the variables that are returned.
func (p *play) pattern(text string) (re *regexp.Regexp, takes []string) {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(text), `\.\.\.`, `.*`)
	quoted = regexp.MustCompile(`\\\{([a-z]+)\\\}`).ReplaceAllStringFunc(quoted, func(v string) string {
		name := strings.Trim(v, `\{}`)
		if value, ok := p.vars[name]; ok {
			return regexp.QuoteMeta(value)
		}
		takes = append(takes, name)
		return `(\d+)`
	})
	return regexp.MustCompile(`(?s)^` + quoted + `$`), takes
}

func (p *play) expect(r *raw, text string) {
	p.t.Helper()
	re, takes := p.pattern(text)
	var passed []string
	for {
		got := p.line(r, passed)
		if m := re.FindStringSubmatch(got); m != nil {
			for i, name := range takes {
				p.vars[name] = m[i+1]
			}
			p.skip = false
			return
		}
		passed = append(passed, got)
		if !p.skip {
			p.t.Fatalf("%s\nthe server said %q", p.at, got)
		}
	}
}

// line reads a line of the server with the literals in it.
func (p *play) line(r *raw, passed []string) string {
	p.t.Helper()
	var all strings.Builder
	for {
		s, err := r.r.ReadString('\n')
		all.WriteString(strings.TrimRight(s, "\r\n"))
		if err != nil {
			p.t.Fatalf("%s\nthe server said %q: %v", p.at, append(passed, all.String()), err)
		}
		m := literalEnd.FindStringSubmatch(s)
		if m == nil {
			return all.String()
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			p.t.Fatalf("%s: %v", p.at, err)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r.r, body); err != nil {
			p.t.Fatalf("%s: literal of %d bytes: %v", p.at, n, err)
		}
		all.Write(body)
	}
}

var literalEnd = regexp.MustCompile(`\{(\d+)\}\r\n$`)
