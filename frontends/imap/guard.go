package imap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// The guard on input. The library parses a command while it reads it, and where it gives up it goes on with
// whatever comes next; a literal that it refused would then be run as commands. So it is handed one line at a time,
// never more than it asked for, and at a literal the guard waits for its decision, which shows in what it writes:
//
//	"+ …"          accepted: the literal's bytes follow
//	other output   refused: nothing of this command follows; what the client sent of it unasked is skipped
//	nothing        it forgot about a literal over its limit and reads on: it gets an empty line, and fails with BAD
//
// A small non-synchronising literal (LITERAL-, RFC 7888) is handed on as a synchronising one, so that the same
// decision is made; the continuation request is kept from the client.
const (
	maxNonSync   = 4096     // RFC 7888 section 5
	maxLines     = 48 << 10 // bytes of a command without literals; the library takes 50 KiB
	maxLinesAnon = 8 << 10  // the same before login
	maxLiterals  = 64 << 10 // bytes of a command's literals that are kept in memory
)

var (
	errTooLong  = errors.New("command too long")
	errBadOctet = errors.New("invalid octet in a command")
)

// input is the framing of what the client sends.
type input struct {
	br       *bufio.Reader
	ready    []byte // framed, to be handed on first
	line     []byte // buffer of the current line
	through  int64  // bytes of an accepted literal still to be handed on
	inside   bool   // in a command: more of it follows
	lines    int    // bytes of this command's lines so far
	literals int64  // bytes of this command's buffered literals so far
	search   *searchFix
}

// Read hands framed input to the library.
func (c *conn) Read(p []byte) (int, error) {
	in := &c.input
	for {
		switch {
		case len(in.ready) > 0:
			n := copy(p, in.ready)
			in.ready = in.ready[n:]
			return n, nil
		case in.through > 0:
			n, err := in.br.Read(p[:min(int64(len(p)), in.through)])
			in.through -= int64(n)
			return n, err
		}
		if err := c.advance(); err != nil {
			return 0, c.inputFailed(err)
		}
	}
}

// advance prepares the next line or literal.
func (c *conn) advance() error {
	in := &c.input
	c.mu.Lock()
	lit, answer := c.dialog.literal, c.dialog.line
	c.mu.Unlock()
	switch {
	case lit != nil:
		return c.decide(lit)
	case in.inside:
		return c.nextLine()
	case answer:
		return c.answerLine()
	default:
		return c.nextCommand()
	}
}

// decide follows the library's decision about a literal.
func (c *conn) decide(lit *literal) error {
	in := &c.input
	c.mu.Lock()
	accepted, replied := lit.accepted, lit.replied
	if accepted || replied {
		c.dialog.literal = nil
	}
	c.mu.Unlock()
	switch {
	case accepted:
		in.through = lit.size
		return nil
	case replied:
		return c.skip(lit)
	case !lit.released:
		lit.released = true
		in.ready = append(in.line[:0], "\r\n"...)
		return nil
	default:
		return fmt.Errorf("literal of %d bytes neither accepted nor refused", lit.size)
	}
}

// skip drops what the client sends of a refused command without being asked, and ends the command.
func (c *conn) skip(lit *literal) error {
	in := &c.input
	for lit != nil && lit.nonSync {
		if _, err := io.CopyN(io.Discard, in.br, lit.size); err != nil {
			return err
		}
		line, err := c.readLine()
		if err != nil {
			return err
		}
		if lit = announced(line); lit != nil && lit.nonSync && lit.size > maxNonSync {
			return errTooLong
		}
	}
	in.inside = false
	return nil
}

// nextCommand waits for a command's first line.
func (c *conn) nextCommand() error {
	in := &c.input
	in.lines, in.literals, in.search = 0, 0, nil
	if cap(in.line) > 1<<10 {
		in.line = nil
	}
	if reason := c.enough(); reason != "" {
		c.refuseInput(reason)
		return net.ErrClosed
	}
	if in.br.Buffered() == 0 {
		c.base.SetBusy(false)
		c.base.SetIdle(c.patience())
	}
	line, err := c.readLine()
	if err != nil {
		return err
	}
	c.base.SetBusy(true)
	c.base.SetIdle(c.limits.ProgressTimeout)
	return c.begin(line)
}

// enough forgets the command that is over, and says why the client may not send another.
func (c *conn) enough() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialog.tag, c.dialog.command = "", ""
	switch {
	case c.dialog.distrust:
		return "Too many failed logins"
	case c.dialog.bad >= c.limits.MaxBad:
		return "Too many bad commands"
	}
	return ""
}

// distrust ends the connection before the next command.
func (c *conn) distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialog.distrust = true
}

// patience is how long a client may be silent between commands.
func (c *conn) patience() time.Duration {
	if !c.login.IsZero() {
		return time.Until(c.login)
	}
	return c.limits.IdleTimeout
}

// begin reads a command's first line: its tag and name. What the library would answer by hanging up, or not as the
// RFCs say, is answered here.
func (c *conn) begin(line []byte) error {
	tag, name, ok := commandName(line)
	c.mu.Lock()
	c.dialog.tag, c.dialog.command = tag, name
	c.mu.Unlock()
	c.stats.commands.Add(1)
	reply := ""
	switch {
	case len(trimEnd(line)) == 0:
		return c.refuse(line, "") // a stray empty line
	case !ok:
		reply = or(tag, "*") + " BAD [CLIENTBUG] Expected a tag and a command\r\n"
	case name == "ID":
		reply = "* ID NIL\r\n" + tag + " OK ID completed\r\n" // RFC 2971: some clients ask without being offered
	case name == "STARTTLS":
		reply = tag + " BAD [CLIENTBUG] TLS is already active\r\n"
	case name == "SEARCH" || name == "UID SEARCH":
		c.input.search = new(searchFix)
	}
	if reply != "" {
		return c.refuse(line, reply)
	}
	return c.frame(line)
}

// refuse answers a line in the library's place and skips what belongs to it.
func (c *conn) refuse(line []byte, reply string) error {
	if !strings.Contains(reply, " OK ") {
		c.mu.Lock()
		c.dialog.bad++
		c.mu.Unlock()
		c.stats.bad.Add(1)
	}
	lit := announced(line)
	if lit != nil && lit.nonSync && lit.size > maxNonSync {
		return errTooLong
	}
	if err := c.skip(lit); err != nil {
		return err
	}
	if reply == "" {
		return nil
	}
	return c.say(reply)
}

// nextLine reads on in a command after a literal.
func (c *conn) nextLine() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	return c.frame(line)
}

// answerLine reads the client's answer to a continuation request: the end of IDLE, or a SASL response.
func (c *conn) answerLine() error {
	c.mu.Lock()
	c.dialog.line = false
	idle := c.dialog.command == "IDLE"
	c.mu.Unlock()
	if idle {
		c.base.SetBusy(false)
		c.base.SetIdle(c.patience())
	}
	line, err := c.readLine()
	if err != nil {
		return err
	}
	c.base.SetBusy(true)
	c.base.SetIdle(c.limits.ProgressTimeout)
	if idle && strings.EqualFold(string(trimEnd(line)), "DONE") {
		line = append(line[:0], "DONE\r\n"...) // the library compares bytes
	}
	if lit := announced(line); lit != nil { // no answer has one: the library will refuse it
		if lit.nonSync && lit.size > maxNonSync {
			return errTooLong
		}
		c.mu.Lock()
		c.dialog.literal = lit
		c.mu.Unlock()
	}
	c.input.ready = line
	return nil
}

// frame checks a line against the limits and hands it on.
func (c *conn) frame(line []byte) error {
	in := &c.input
	lit := announced(line)
	in.inside = lit != nil
	in.ready = in.search.fix(line)
	if in.lines += len(in.ready); in.lines > maxLines {
		return errTooLong
	}
	if lit == nil {
		return nil
	}
	c.mu.Lock()
	apnd := c.dialog.command == "APPEND"
	c.dialog.literal = lit
	c.mu.Unlock()
	if lit.nonSync && lit.size > maxNonSync {
		return errTooLong
	}
	if !apnd {
		if in.literals += lit.size; lit.size <= maxNonSync && in.literals > maxLiterals {
			return errTooLong
		}
	}
	if lit.nonSync {
		in.ready = syncLiteral(in.ready)
	}
	return nil
}

// readLine reads up to a line feed, within the limit of the command's lines.
func (c *conn) readLine() ([]byte, error) {
	in := &c.input
	in.line = in.line[:0]
	limit := maxLines
	if !c.login.IsZero() {
		limit = maxLinesAnon
	}
	for {
		piece, err := in.br.ReadSlice('\n')
		if len(in.line)+len(piece)+in.lines > limit {
			return nil, errTooLong
		}
		in.line = append(in.line, piece...)
		switch {
		case err == nil:
			return in.line, checkOctets(in.line)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// checkOctets refuses what no line of a command may contain, and about whose line ends we and the library could
// disagree.
func checkOctets(line []byte) error {
	for i, b := range line {
		if b == 0 || b == '\r' && line[i+1] != '\n' {
			return errBadOctet
		}
	}
	return nil
}

// inputFailed says goodbye where the client can still hear it, and gives the library its reason to stop.
func (c *conn) inputFailed(err error) error {
	switch {
	case errors.Is(err, errTooLong):
		c.refuseInput("[TOOBIG] Command or literal too long")
	case errors.Is(err, errBadOctet):
		c.refuseInput("[CLIENTBUG] Invalid octet in a command")
	case !timedOut(err):
		return err
	case c.stopping():
		c.bye("[UNAVAILABLE] Server is shutting down")
	case !c.login.IsZero():
		c.bye("Login took too long")
	default:
		c.bye("Idle for too long")
	}
	return net.ErrClosed
}
