package send

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"hongyan/bench/load"
)

// conn is one connection to a server, greeted. One goroutine uses it.
type conn struct {
	net        net.Conn
	br         *bufio.Reader
	out        []byte // commands
	body       []byte // of a message that is like no other
	lmtp       bool
	pipelining bool // RFC 2920
	eightBit   bool // RFC 6152
	replies    int  // read since the message began
	messages   int  // begun on this connection
}

// dial connects and introduces itself.
func dial(ctx context.Context, addr string, o Options) (*conn, error) {
	d := net.Dialer{Timeout: o.DialTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, br: bufio.NewReaderSize(nc, maxReplyLine), lmtp: o.Protocol == LMTP}
	if err := c.greet(ctx, o.Timeout); err != nil {
		c.close()
		return nil, fmt.Errorf("greet %s: %w", addr, err)
	}
	return c, nil
}

func (c *conn) close() { _ = c.net.Close() } // nothing of ours is buffered in it

// within bounds what follows by a time and the context; the returned function ends that.
func (c *conn) within(ctx context.Context, d time.Duration) (done func() bool, err error) {
	if err := c.net.SetDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) }), nil // on a closed connection it is not needed
}

func (c *conn) greet(ctx context.Context, timeout time.Duration) error {
	done, err := c.within(ctx, timeout)
	if err != nil {
		return err
	}
	defer done()
	r, err := readReply(c.br, false)
	if err != nil {
		return err
	}
	if !r.positive() {
		return r.refusal("greeting")
	}
	hello := "EHLO"
	if c.lmtp {
		hello = "LHLO"
	}
	if _, err := fmt.Fprintf(c.net, "%s bench.test\r\n", hello); err != nil {
		return err
	}
	if r, err = readReply(c.br, true); err != nil {
		return err
	}
	if !r.positive() {
		return r.refusal(hello)
	}
	for _, line := range r.lines[1:] {
		switch strings.ToUpper(line) {
		case "PIPELINING":
			c.pipelining = true
		case "8BITMIME":
			c.eightBit = true
		}
	}
	return nil
}

// outcome is what became of one recipient: acknowledged, refused with err, or neither while it is open.
type outcome struct {
	acked bool
	err   error
}

func (o outcome) open() bool { return !o.acked && o.err == nil }

// transact brings one message to the recipients. An error means that the connection is of no use any more; the recipients whose outcome was not
// known by then have that error.
func (c *conn) transact(ctx context.Context, m *load.Message, to []string, timeout time.Duration) ([]outcome, error) {
	outcomes := make([]outcome, len(to))
	c.replies = 0
	c.messages++
	done, err := c.within(ctx, timeout)
	if err == nil {
		err = c.converse(m, to, outcomes)
		done()
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // which is why the deadline passed
	}
	if err != nil {
		settle(outcomes, err)
	}
	return outcomes, err
}

// settle gives every open outcome the error.
func settle(outcomes []outcome, err error) {
	for i := range outcomes {
		if outcomes[i].open() {
			outcomes[i].err = err
		}
	}
}

// converse is the conversation: 1 envelope and DATA, in one write where the server takes that, 2 their replies, 3 the message, or a lone dot when
// no recipient is left (RFC 2920 section 3.1), 4 one reply (SMTP), or one for each recipient that is left (LMTP, RFC 2033 section 4.2), 5 RSET where the
// server may still hold an envelope.
func (c *conn) converse(m *load.Message, to []string, outcomes []outcome) error {
	data, err := c.envelope(m.From, to, outcomes) // 1, 2
	if err != nil {
		return err
	}
	if data.code != 354 {
		settle(outcomes, data.refusal("DATA"))
		return c.reset() // 5
	}
	left := 0
	for _, o := range outcomes {
		if o.open() {
			left++
		}
	}
	if err := c.content(m, left > 0); err != nil { // 3
		return err
	}
	return c.verdicts(to, outcomes, left) // 4
}

// envelope sends MAIL, RCPT and DATA and gives DATA's reply.
func (c *conn) envelope(from string, to []string, outcomes []outcome) (reply, error) {
	if c.pipelining {
		c.out = c.mail(c.out[:0], from)
		for _, t := range to {
			c.out = rcpt(c.out, t)
		}
		c.out = append(c.out, "DATA\r\n"...)
		if _, err := c.net.Write(c.out); err != nil {
			return reply{}, err
		}
	}
	r, err := c.ask(func(b []byte) []byte { return c.mail(b, from) })
	if err != nil {
		return r, err
	}
	if !r.positive() {
		settle(outcomes, r.refusal("MAIL FROM:<"+from+">"))
		if !c.pipelining {
			return r, nil
		}
	}
	any := false
	for i, t := range to {
		r, err := c.ask(func(b []byte) []byte { return rcpt(b, t) })
		switch {
		case err != nil:
			return r, err
		case !r.positive() && outcomes[i].open():
			outcomes[i].err = r.refusal("RCPT TO:<" + t + ">")
		}
		any = any || outcomes[i].open()
	}
	if !any && !c.pipelining {
		return reply{code: 554}, nil // nobody to send it to
	}
	return c.ask(func(b []byte) []byte { return append(b, "DATA\r\n"...) })
}

// ask gives the next reply. Without pipelining it sends the command first; with it, all went out before.
func (c *conn) ask(command func([]byte) []byte) (reply, error) {
	if !c.pipelining {
		c.out = command(c.out[:0])
		if _, err := c.net.Write(c.out); err != nil {
			return reply{}, err
		}
	}
	return c.next()
}

// next reads a reply. A goodbye that was said while the connection was kept (421, RFC 5321 section 3.8) answers no command of ours: the connection is closed.
func (c *conn) next() (reply, error) {
	r, err := readReply(c.br, false)
	if err == nil && r.code == 421 && c.replies == 0 && c.messages > 1 {
		return r, fmt.Errorf("%w: the server said goodbye before, with %d", net.ErrClosed, r.code)
	}
	if err == nil {
		c.replies++
	}
	return r, err
}

func (c *conn) mail(b []byte, from string) []byte {
	b = append(append(append(b, "MAIL FROM:<"...), from...), '>')
	if c.eightBit {
		b = append(b, " BODY=8BITMIME"...)
	}
	return append(b, "\r\n"...)
}

func rcpt(b []byte, to string) []byte {
	return append(append(append(b, "RCPT TO:<"...), to...), ">\r\n"...)
}

// content sends the message and the dot that ends it; without whole, the dot only.
func (c *conn) content(m *load.Message, whole bool) error {
	dot := []byte(".\r\n")
	if !whole {
		_, err := c.net.Write(dot)
		return err
	}
	var parts net.Buffers
	var head, body []byte
	head, body, c.body = m.Wire(c.body)
	parts = append(parts, head, body, dot)
	_, err := parts.WriteTo(c.net) // one writev
	return err
}

// verdicts reads what became of the message.
func (c *conn) verdicts(to []string, outcomes []outcome, left int) error {
	if left == 0 { // an SMTP server says no to nobody; an LMTP server has nobody to answer for
		if c.lmtp {
			return c.reset()
		}
		_, err := c.next()
		return err
	}
	var r reply
	var err error
	for i := range outcomes {
		if !outcomes[i].open() {
			continue
		}
		if c.lmtp || r.code == 0 {
			if r, err = c.next(); err != nil {
				return err
			}
		}
		if r.positive() {
			outcomes[i].acked = true
		} else {
			outcomes[i].err = r.refusal("message for " + to[i])
		}
	}
	return nil
}

// reset clears the server's envelope.
func (c *conn) reset() error {
	if _, err := c.net.Write([]byte("RSET\r\n")); err != nil {
		return err
	}
	r, err := c.next()
	if err == nil && !r.positive() {
		err = r.refusal("RSET")
	}
	return err
}
