package imap

import (
	"fmt"
	"strings"
	"testing"
)

func TestFraming(t *testing.T) {
	evil := "EVIL NOOP\r\n" // 11 bytes that must never be run
	big := strings.Repeat(evil, 500)
	for _, c := range []struct {
		name, in string
		want     []string // in the output, in this order
		not      []string
	}{
		{"small literal without waiting", "a APPEND x {11+}\r\n" + evil + "\r\n", []string{"a OK [APPENDUID"}, []string{"+ Ready"}},
		{"literal after asking", "a APPEND x {11}\r\n" + evil + "\r\n", []string{"+ Ready", "a OK [APPENDUID"}, nil},
		{"refused small literal", "a NOSUCH x {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK NOOP"}, nil},
		{"refused chain", "a NOSUCH {11+}\r\n" + evil + " {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK NOOP"}, nil},
		{"large literal without waiting", fmt.Sprintf("a APPEND x {%d+}\r\n%s\r\nb NOOP\r\n", len(big), big), []string{"a OK [APPENDUID 1 1]", "b OK"}, []string{"+ Ready"}},
		{"refused message without waiting", "a APPEND x (\\Bad) {5500+}\r\n" + big + "\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"skipped without an end", "a APPEND x {99999999+}\r\n" + big, []string{"* BYE [TOOBIG]"}, []string{"a "}},
		{"hidden in a refused command", fmt.Sprintf("a NOSUCH {11+}\r\n%s {%d+}\r\n%s\r\nb NOOP\r\n", evil, len(big), big), []string{"a BAD", "b OK"}, nil},
		{"several messages", "a APPEND x {3+}\r\nabc {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a OK [APPENDUID 1 1:2]", "b OK"}, []string{"+ Ready"}},
		{"cancelled messages", "a APPEND x {3+}\r\nabc {0+}\r\n {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a NO [CANNOT]", "b OK"}, []string{"a OK"}},
		{"too many messages", "a APPEND x" + strings.Repeat(" {11+}\r\n"+evil, 101) + "\r\nb NOOP\r\n", []string{"a NO [LIMIT]", "b OK"}, []string{"a OK"}},
		{"messages too large together", "a APPEND x" + strings.Repeat(" {5500+}\r\n"+big, 8) + "\r\nb NOOP\r\n", []string{"a NO [LIMIT]", "b OK"}, []string{"a OK"}},
		{"replacing in no mailbox", "a REPLACE 1 x {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"space before the line end", "a NOSUCH {11+} \r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"bare line feed", "a NOSUCH {11+}\n" + evil + "\nb NOOP\n", []string{"a BAD", "b OK"}, nil},
		{"refused big literal waits", "a APPEND x {20000}\r\nb NOOP\r\n", []string{"a NO [TOOBIG]", "b OK"}, []string{"+ Ready"}},
		{"literal that is too large for its place", "a CREATE {70000}\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, []string{"+ Ready"}},
		{"too many bytes in literals", "a SELECT x\r\nb SEARCH" + strings.Repeat(" SUBJECT {4000+}\r\n"+strings.Repeat("x", 4000), 20) + "\r\nc NOOP\r\n", []string{"b BAD", "c OK"}, nil},
		{"too many literals", "a SELECT x\r\nb SEARCH" + strings.Repeat(" SUBJECT {1+}\r\nx", 200) + "\r\nc NOOP\r\n", []string{"b BAD", "c OK"}, nil},
		{"empty literal", "a CREATE {0+}\r\n\r\nb NOOP\r\n", []string{"a ", "b OK"}, nil},
		{"literal of absurd size", "a APPEND x {99999999999999999999}\r\nb NOOP\r\n", []string{"a NO [TOOBIG]", "b OK"}, nil},
		{"long line", "a CREATE " + strings.Repeat("x", 64<<10) + "\r\n", []string{"BYE [TOOBIG]"}, nil},
		{"lone carriage return", "a FOO\rEVIL NOOP\r\n", []string{"BYE [CLIENTBUG]"}, nil},
		{"NUL", "a FOO \x00\r\n", []string{"BYE [CLIENTBUG]"}, nil},
		{"empty lines", "\r\n\r\na NOOP\r\n", []string{"a OK NOOP"}, nil},
		{"no command", "a\r\n(\r\nb NOOP\r\n", []string{"a BAD", "* BAD", "b OK NOOP"}, nil},
		{"UID alone", "a UID\r\nb UID 7%\r\nc NOOP\r\n", []string{"a BAD", "b BAD", "c OK"}, nil},
		{"ID", "a ID (\"name\" \"x\")\r\nb ID NIL\r\n", []string{"* ID (", "a OK", "b OK"}, nil},
		{"no modified UTF-7", "a CREATE \"&x\"\r\nb NOOP\r\n", []string{"a NO [CANNOT]", "b OK"}, []string{"SERVERBUG"}},
		{"bad number set", "a SELECT x\r\nb FETCH 1,,2 FLAGS\r\nc NOOP\r\n", []string{"b BAD", "c OK"}, []string{"SERVERBUG"}},
		{"DONE in any case", "a IDLE\r\ndone\r\nb NOOP\r\n", []string{"+ idling", "a OK IDLE", "b OK"}, nil},
		{"not DONE", "a IDLE\r\nEVIL NOOP\r\nb NOOP\r\n", []string{"+ idling", "a BAD", "b OK"}, nil},
		{"literal in place of DONE", "a IDLE\r\nx {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"TLS twice", "a STARTTLS\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"too many bad", strings.Repeat("a NOSUCH\r\n", 30), []string{"a BAD", "* BYE Too many bad commands"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _, _ := conversation(t, []byte(c.in))
			rest := out
			for _, w := range c.want {
				i := strings.Index(rest, w)
				if i < 0 {
					t.Fatalf("no %q in %q", w, out)
				}
				rest = rest[i+len(w):]
			}
			for _, n := range append(c.not, "EVIL OK", "EVIL BAD", "EVIL NO") {
				if strings.Contains(out, n) {
					t.Fatalf("%q in %q", n, out)
				}
			}
		})
	}
}

func TestLiteralsPass(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 600)
	in := fmt.Sprintf("a APPEND x {%d}\r\n%s\r\nb APPEND y {5+}\r\nhello\r\n", len(body), body)
	if _, got, _ := conversation(t, []byte(in)); got != body+"hello" {
		t.Errorf("appended %d bytes, want %d", len(got), len(body)+5)
	}
	in = fmt.Sprintf("a APPEND x {%d+}\r\n%s ~{3+}\r\na\x00b UTF8 (~{1+}\r\nc)\r\n", len(body), body) // together, or not at all
	if _, got, _ := conversation(t, []byte(in)); got != body+"a\x00bc" {
		t.Errorf("appended %d bytes, want %d", len(got), len(body)+4)
	}
	for _, end := range []string{" {4+}\r\ncut", " {0+}\r\n\r\n", " (\\Bad) {1+}\r\nx\r\n", " x\r\n", " {1+}\r\nx x\r\n"} {
		if _, got, _ := conversation(t, []byte("a APPEND x {5+}\r\nhello"+end)); got != "" {
			t.Errorf("%q: appended %q", end, got)
		}
	}
}

// FuzzCommands writes commands from a plan, with literals that hold commands of their own: none of those may run.
func FuzzCommands(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240})
	words := []string{"NOOP", "APPEND", "CREATE", "SEARCH", "UID FETCH", "LIST", "LOGIN", "IDLE", "(\\Seen)", "\"q\\\"\"", "{", "1:*",
		"\"", ")", "SMALLER", "NOSUCH", "ID", "STATUS", "SELECT x", "AUTHENTICATE PLAIN"}
	f.Fuzz(func(t *testing.T, plan []byte) {
		if len(plan) > 200 {
			return
		}
		var in strings.Builder
		in.WriteString("a")
		for _, b := range plan {
			switch {
			case b < 160:
				in.WriteString(" " + words[int(b)%len(words)])
			case b < 200:
				lit := strings.Repeat("\r\nEVIL NOOP\r\n", 1+int(b-160))
				fmt.Fprintf(&in, " {%d+}\r\n%s", len(lit), lit)
			case b < 220:
				in.WriteString(" {7}\r\n1234567")
			case b < 230:
				in.WriteString("\n")
			default:
				in.WriteString("\r\na")
			}
		}
		in.WriteString("\r\n")
		out, _, _ := conversation(t, []byte(in.String()))
		if strings.Contains(out, "EVIL OK") || strings.Contains(out, "EVIL BAD") || strings.Contains(out, "EVIL NO") {
			t.Fatalf("a literal ran: %q\n%q", in.String(), out)
		}
	})
}

// FuzzInput holds the engine against arbitrary bytes.
func FuzzInput(f *testing.F) {
	f.Add([]byte("a NOOP\r\nb LIST \"\" *\r\n"))
	f.Add([]byte("a UID SEARCH OR {3}\r\nabc\r\n(()\r\n"))
	f.Add([]byte("a ENABLE QRESYNC\r\nb SELECT x (QRESYNC (1 2 3:4 (1 3)))\r\nc UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\nd STORE 1 (UNCHANGEDSINCE 0) FLAGS ()\r\n"))
	f.Add([]byte("a FETCH 1 (BODY[1.2.HEADER.FIELDS.NOT (X)]<1.2>)\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 10_000 {
			conversation(t, in)
		}
	})
}
