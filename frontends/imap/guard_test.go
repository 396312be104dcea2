package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/frontends/listen"
)

// stub is a session that agrees to everything and counts what it was given.
type stub struct{ appended *bytes.Buffer }

func (stub) Close() error                              { return nil }
func (stub) Login(_, _ string) error                   { return imapserver.ErrAuthFailed }
func (stub) Delete(string) error                       { return nil }
func (stub) Subscribe(string) error                    { return nil }
func (stub) Unsubscribe(string) error                  { return nil }
func (stub) Unselect() error                           { return nil }
func (stub) AppendLimit() uint32                       { return 10_000 }
func (stub) Poll(*imapserver.UpdateWriter, bool) error { return nil }
func (stub) Select(string, *goimap.SelectOptions) (*goimap.SelectData, error) {
	return &goimap.SelectData{}, nil
}
func (stub) Create(string, *goimap.CreateOptions) error                               { return nil }
func (stub) Rename(_, _ string, _ *goimap.RenameOptions) error                        { return nil }
func (stub) List(*imapserver.ListWriter, string, []string, *goimap.ListOptions) error { return nil }
func (stub) Status(name string, _ *goimap.StatusOptions) (*goimap.StatusData, error) {
	return nil, no(goimap.ResponseCodeNonExistent, "none")
}
func (s stub) Append(_ string, r goimap.LiteralReader, _ *goimap.AppendOptions) (*goimap.AppendData, error) {
	_, err := io.Copy(s.appended, r)
	return nil, err
}
func (stub) Idle(_ *imapserver.UpdateWriter, stop <-chan struct{}) error { <-stop; return nil }
func (stub) Expunge(*imapserver.ExpungeWriter, *goimap.UIDSet) error     { return nil }
func (stub) Search(kind imapserver.NumKind, c *goimap.SearchCriteria, _ *goimap.SearchOptions) (*goimap.SearchData, error) {
	if kind == imapserver.NumKindUID {
		return &goimap.SearchData{All: goimap.UIDSet{}}, nil
	}
	return &goimap.SearchData{All: goimap.SeqSet{}}, nil
}
func (stub) Fetch(*imapserver.FetchWriter, goimap.NumSet, *goimap.FetchOptions) error { return nil }
func (stub) Store(*imapserver.FetchWriter, goimap.NumSet, *goimap.StoreFlags, *goimap.StoreOptions) error {
	return nil
}
func (stub) Copy(goimap.NumSet, string) (*goimap.CopyData, error)     { return nil, nil }
func (stub) Move(*imapserver.MoveWriter, goimap.NumSet, string) error { return nil }
func (stub) Namespace() (*goimap.NamespaceData, error)                { return &goimap.NamespaceData{}, nil }

// once is a listener with a single connection.
type once struct{ c chan net.Conn }

func (o once) Accept() (net.Conn, error) {
	c, ok := <-o.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (o once) Close() error   { return nil }
func (o once) Addr() net.Addr { return &net.UnixAddr{Name: "once"} }

// duplex is a connection in memory whose client can stop sending and go on listening.
type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) Close() error                     { return errors.Join(d.PipeReader.Close(), d.PipeWriter.Close()) }
func (d duplex) LocalAddr() net.Addr              { return once{}.Addr() }
func (d duplex) RemoteAddr() net.Addr             { return once{}.Addr() }
func (d duplex) SetDeadline(time.Time) error      { return nil }
func (d duplex) SetReadDeadline(time.Time) error  { return nil }
func (d duplex) SetWriteDeadline(time.Time) error { return nil }

// conversation runs the library behind the guard on input, logged in, and returns what the client heard.
func conversation(t testing.TB, input []byte) (output, appended string, srv *Server) {
	t.Helper()
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	o := once{make(chan net.Conn, 1)}
	o.c <- duplex{in, out}
	accepted, err := listen.Wrap(o, listen.Config{Name: "test", Idle: 5 * time.Second}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	srv = &Server{cfg: Config{}}
	srv.cfg.Limits.defaults()
	c := newConn(accepted, accepted.(*listen.Conn), srv, false)
	c.login = time.Time{}
	buf := new(bytes.Buffer)
	hand := once{make(chan net.Conn, 1)}
	hand.c <- c
	close(hand.c)
	lib := imapserver.New(&imapserver.Options{Caps: capabilities(), InsecureAuth: true, Logger: fatalPanics{t},
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return stub{buf}, &imapserver.GreetingData{PreAuth: true}, nil
		}})
	if err := lib.Serve(hand); err != nil {
		t.Fatal(err)
	}
	go func() {
		// The server may hang up before it has read all.
		_, _ = toServer.Write(input)
		_ = toServer.Close()
	}()
	slow := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("no end of a conversation: %q", input)) })
	defer slow.Stop()
	heard, err := io.ReadAll(fromServer)
	if err != nil {
		t.Fatal(err)
	}
	return string(heard), buf.String(), srv
}

// fatalPanics fails a test in which the library panics.
type fatalPanics struct{ t testing.TB }

func (l fatalPanics) Printf(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); strings.HasPrefix(s, "panic") {
		l.t.Error(s)
	}
}

func TestGuard(t *testing.T) {
	evil := "EVIL NOOP\r\n" // 11 bytes that must never be run
	big := strings.Repeat(evil, 500)
	for _, c := range []struct {
		name, in string
		want     []string // in the output, in this order
		not      []string
	}{
		{"small literal without waiting", "a APPEND x {11+}\r\n" + evil + "\r\n", []string{"a OK APPEND"}, []string{"+ Ready"}},
		{"literal after asking", "a APPEND x {11}\r\n" + evil + "\r\n", []string{"+ Ready", "a OK APPEND"}, nil},
		{"refused small literal", "a NOSUCH x {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK NOOP"}, nil},
		{"refused chain", "a NOSUCH {11+}\r\n" + evil + " {11+}\r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK NOOP"}, nil},
		{"oversized literal", fmt.Sprintf("a APPEND x {%d+}\r\n", len(big)) + big, []string{"* BYE [TOOBIG]"}, nil},
		{"hidden in a refused command", fmt.Sprintf("a NOSUCH {11+}\r\n%s {%d+}\r\n", evil, len(big)) + big, []string{"BYE [TOOBIG]"}, nil},
		{"space before the line end", "a NOSUCH {11+} \r\n" + evil + "\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"bare line feed", "a NOSUCH {11+}\n" + evil + "\nb NOOP\n", []string{"a BAD", "b OK"}, nil},
		{"refused big literal waits", "a APPEND x {20000}\r\nb NOOP\r\n", []string{"a NO [TOOBIG]", "b OK"}, []string{"+ Ready"}},
		{"forgotten literal", "a CREATE {5000}\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, []string{"+ Ready"}},
		{"too many literals", "a SELECT x\r\nb SEARCH" + strings.Repeat(" SUBJECT {4000}\r\n"+strings.Repeat("x", 4000), 20) + "\r\n", []string{"BYE [TOOBIG]"}, nil},
		{"empty literal", "a CREATE {0+}\r\n\r\nb NOOP\r\n", []string{"a ", "b OK"}, nil},
		{"literal of absurd size", "a APPEND x {99999999999999999999}\r\nb NOOP\r\n", []string{"a BAD", "b OK"}, nil},
		{"long line", "a CREATE " + strings.Repeat("x", maxLines) + "\r\n", []string{"BYE [TOOBIG]"}, nil},
		{"lone carriage return", "a FOO\rEVIL NOOP\r\n", []string{"BYE [CLIENTBUG]"}, nil},
		{"NUL", "a FOO \x00\r\n", []string{"BYE [CLIENTBUG]"}, nil},
		{"empty lines", "\r\n\r\na NOOP\r\n", []string{"a OK NOOP"}, nil},
		{"no command", "a\r\n(\r\nb NOOP\r\n", []string{"a BAD", "* BAD", "b OK NOOP"}, nil},
		{"UID alone", "a UID\r\nb UID 7%\r\nc NOOP\r\n", []string{"a BAD", "b BAD", "c OK"}, nil},
		{"ID", "a ID (\"name\" \"x\")\r\nb ID NIL\r\n", []string{"* ID NIL", "a OK", "b OK"}, nil},
		{"bad UTF-7 is the client's fault", "a CREATE \"&x\"\r\nb NOOP\r\n", []string{"a BAD [CLIENTBUG]", "b OK"}, []string{"SERVERBUG"}},
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

func TestGuardPassesLiterals(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 600)
	in := fmt.Sprintf("a APPEND x {%d}\r\n%s\r\nb APPEND y {5+}\r\nhello\r\n", len(body), body)
	if _, got, _ := conversation(t, []byte(in)); got != body+"hello" {
		t.Errorf("appended %d bytes, want %d", len(got), len(body)+5)
	}
}

// FuzzGuard writes commands from a plan, with literals that hold commands of their own: none of those may run.
func FuzzGuard(f *testing.F) {
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

// FuzzInput holds the guard and the library behind it against arbitrary bytes.
func FuzzInput(f *testing.F) {
	f.Add([]byte("a NOOP\r\nb LIST \"\" *\r\n"))
	f.Add([]byte("a UID SEARCH OR {3}\r\nabc\r\n(()\r\n"))
	f.Add([]byte("a FETCH 1 (BODY[1.2.HEADER.FIELDS.NOT (X)]<1.2>)\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 10_000 {
			conversation(t, in)
		}
	})
}
