package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
	"hongyan/frontends/listen"
)

const (
	// commandBudget is the input, TLS records included, before a greeting, between two steps of a transaction and between two pieces of a message in chunks. It
	// bounds a command line, a flood of commands that lead nowhere, and what go-smtp reads on of a BDAT chunk that it refused.
	commandBudget = 128 << 10
	// maxStrikes is how many refused commands and transactions without a message a client is allowed between two messages.
	maxStrikes  = 50
	resolveTime = 10 * time.Second
	// envelopeTime is how long a client may take from MAIL to the message, our own time not counted; envelopeTimeBusy is that of who begins while more than
	// half of all transactions are under way. However many recipients it names, it holds one no longer.
	envelopeTime     = 10 * time.Minute
	envelopeTimeBusy = 2 * time.Minute
)

// session is one client's conversation since its last EHLO.
type session struct {
	srv    *Server
	lmtp   bool
	conn   *gosmtp.Conn
	engine *gosmtp.Server // of this connection alone
	guard  *listen.Conn
	secure *tls.ConnectionState // nil without TLS

	mu      sync.Mutex // guards what follows: with BDAT a message is received beside the command loop
	tx      *transaction
	strikes int
	broken  bool // a message was broken off between chunks: see Reset
	left    bool // the connection is about to end, and is granted nothing more
}

// transaction is what is known of a message before it arrives. Only the command loop changes it, and
// only before somebody receives the message.
type transaction struct {
	id       string
	from     string
	helo     string
	utf8     bool
	size     uint64   // as announced with MAIL (RFC 1870); 0 is unknown
	given    []string // recipients as the client named them, in order
	accounts []client.Account
	index    []int // for each of given its place in accounts: one account gets one copy however often it is named
	free     func()
	by       time.Time // when the message must have begun
	before   uintptr   // see chunks, as it was when the transaction began
	last     bool      // the last of its chunks has come; guarded by the session's mu
}

func (s *Server) newSession(c *gosmtp.Conn, lmtp bool) (*session, error) {
	guard, ok := listen.From(c.Conn())
	if !ok {
		return nil, fmt.Errorf("connection %T is not guarded", c.Conn())
	}
	guard.Renew()
	guard.Limit(commandBudget)
	guard.SaysGoodbye()
	se := &session{srv: s, lmtp: lmtp, conn: c, engine: c.Server(), guard: guard}
	if state, ok := c.TLSConnectionState(); ok {
		se.secure = &state
	}
	return se, nil
}

// Mail opens a transaction.
func (s *session) Mail(from string, opts *gosmtp.MailOptions) error {
	return s.srv.metrics.refused(stageMail, s.begin(from, opts))
}

// begin opens a transaction. go-smtp would let a second MAIL keep the recipients of the first. And with DATA it refuses a message that is as large as it announces, before it
// sees whether that was all: where EHLO and MAIL have heard that size, it is told one more (see close), and what is over it is refused in receive.
func (s *session) begin(from string, opts *gosmtp.MailOptions) error {
	s.renew()
	if s.open() != nil {
		return s.strike(errNestedMail)
	}
	if from != "" {
		_, _, ascii, ok := split(from)
		if !ok {
			return s.strike(errBadSender)
		}
		if !ascii && !opts.UTF8 {
			return s.strike(errNeedsUTF8)
		}
	}
	if s.struckOut() {
		return s.hangUp()
	}
	if s.brokeOff() {
		s.leave()
		s.say([]*gosmtp.SMTPError{errBroken})
		return errBroken
	}
	select {
	case s.srv.slots <- struct{}{}:
	default:
		s.srv.log.Warn("transaction refused", "remote", s.remote(), "reason", "too many at once")
		return errBusy
	}
	tx := &transaction{
		id: s.srv.nextID(), from: from, helo: s.conn.Hostname(), utf8: opts.UTF8, size: uint64(max(opts.Size, 0)), by: time.Now().Add(s.srv.envelopeTime()),
		free: sync.OnceFunc(func() { <-s.srv.slots }), before: chunks(s.conn),
	}
	s.guard.SetBusy(true)
	s.mu.Lock()
	s.tx = tx
	s.mu.Unlock()
	s.engine.MaxMessageBytes = s.srv.maxMessage() + 1
	s.extend(tx, 0)
	s.srv.metrics.transactions.Inc()
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	return s.srv.metrics.refused(stageRcpt, s.recipient(to))
}

func (s *session) recipient(to string) error {
	s.renew()
	tx := s.open()
	if tx == nil {
		return s.strike(errNoTransaction)
	}
	defer func(begun time.Time) { s.extend(tx, time.Since(begun)) }(time.Now())
	ctx, cancel := context.WithTimeout(s.srv.life, resolveTime)
	defer cancel()
	if strings.EqualFold(to, postmaster) {
		to = s.srv.postmaster(ctx)
	}
	local, _, ascii, ok := split(to)
	if !ok {
		return s.strike(errBadRecipient)
	}
	if strings.ContainsRune(local, '@') { // was quoted; nobody behind the door shall split it elsewhere
		return s.strike(errNoUser)
	}
	if !ascii && !tx.utf8 {
		return s.strike(errNeedsUTF8)
	}
	account, err := s.srv.store.Recipient(ctx, to)
	if err != nil {
		r := replyFor(err)
		s.srv.log.Info("recipient refused", "id", tx.id, "remote", s.remote(), "from", tx.from, "to", to,
			"code", r.Code, "reason", err)
		if r.Code/100 == 4 {
			return r
		}
		return s.strike(r)
	}
	if full := s.full(ctx, tx, to, account); full != nil {
		s.srv.log.Info("recipient refused", "id", tx.id, "remote", s.remote(), "from", tx.from, "to", to, "code", full.Code, "reason", full.Message)
		return full
	}
	tx.add(to, account)
	return nil
}

const postmaster = "postmaster"

// postmaster is who gets mail for <Postmaster>, which every server must take (RFC 5321 section 4.5.1): the one of the server's own name, or else of the
// nearest domain above it that has one.
func (s *Server) postmaster(ctx context.Context) string {
	for domain, more := s.cfg.Hostname, true; more; _, domain, more = strings.Cut(domain, ".") {
		address := postmaster + "@" + domain
		if _, err := s.store.Recipient(ctx, address); err == nil || replyFor(err).Code/100 == 4 {
			return address
		}
	}
	return postmaster + "@" + s.cfg.Hostname
}

// envelopeTime is that of a transaction that begins now.
func (s *Server) envelopeTime() time.Duration {
	if len(s.slots) > cap(s.slots)/2 {
		return envelopeTimeBusy
	}
	return envelopeTime
}

// extend gives back what we took of a transaction's time.
func (s *session) extend(tx *transaction, d time.Duration) {
	tx.by = tx.by.Add(d)
	_ = s.guard.SetReadDeadline(tx.by) // fails only when closed
}

// full is the refusal of a recipient whose account has no room for the message. It is given here, for behind the message SMTP has one reply for all recipients.
// That somebody could not be asked is no reason: the shard that takes the message decides. Our trace header takes room as well.
func (s *session) full(ctx context.Context, tx *transaction, to string, account client.Account) *gosmtp.SMTPError {
	need := uint64(1)
	if tx.size > 0 {
		trace := s.trace(tx)
		trace.recipients = append(slices.Clone(tx.given), to)
		need = tx.size + uint64(len(trace.header()))
	}
	err := s.srv.store.Room(ctx, account, need)
	if over := (*client.QuotaError)(nil); errors.As(err, &over) {
		return replyFor(err)
	}
	return nil
}

// add enters a recipient, whose account may be there under another name already.
func (t *transaction) add(to string, account client.Account) {
	at := len(t.accounts)
	for i, a := range t.accounts {
		if a.ID == account.ID {
			at = i
		}
	}
	if at == len(t.accounts) {
		t.accounts = append(t.accounts, account)
	}
	t.given = append(t.given, to)
	t.index = append(t.index, at)
}

// Reset ends the transaction, if any. go-smtp calls it after each message, for RSET and for a repeated EHLO.
// A client that only ever resets gets no more patience for it, but what was granted for a message is over.
//
// Where a message was broken off (see close), go-smtp may take what becomes of it for the answer to the connection's next message (it says 250 for that by LMTP,
// whether or not it is delivered), or its goroutine claims that one. So there is none: the next MAIL is told to connect again.
func (s *session) Reset() {
	s.close()
	s.mu.Lock()
	s.strikes++ // a message that arrived has set it to -1
	out := s.left || s.strikes >= maxStrikes
	s.mu.Unlock()
	s.guard.AtMost(commandBudget)
	if !out {
		s.renew()
	}
}

// Logout ends the session. With a message broken off the connection ends too, which STARTTLS would go on with.
func (s *session) Logout() error {
	s.close()
	if s.guard.Closing() && !s.leave() {
		s.say([]*gosmtp.SMTPError{errStops})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		_ = s.guard.Close() // what could be said was said
	}
	return nil
}

// close gives up the transaction and its slot. A message that came by BDAT, but not its last chunk, is broken off. Its goroutine ends by itself, for its pipe is closed, and
// nobody waits for that: it may be over already, or not have begun, as go-smtp does not wait for its beginning either where a chunk is empty.
func (s *session) close() {
	s.mu.Lock()
	tx := s.tx
	s.tx = nil
	s.broken = s.broken || tx != nil && !tx.last && tx.before != chunks(s.conn)
	s.mu.Unlock()
	if tx != nil {
		tx.free()
	}
	s.engine.MaxMessageBytes = s.srv.maxMessage()
	s.guard.EndsWith(nil)
	_ = s.guard.SetReadDeadline(time.Time{}) // fails only when closed
	s.guard.SetBusy(false)
}

// open is the transaction under way, or nil.
func (s *session) open() *transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tx
}

// arrived clears the client's record: it sent a message. What we made of it is not its fault.
func (s *session) arrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strikes = -1
}

// renew gives the client time and input for its next command.
func (s *session) renew() {
	s.guard.Renew()
	s.guard.Limit(commandBudget)
}

// grant gives the client input for some commands, or for the next piece of a chunk.
func (s *session) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.left {
		s.guard.Limit(commandBudget)
	}
}

// claim is the transaction under way, of which the caller receives the message. With BDAT it may come late, for go-smtp has another goroutine call:
// behind a Reset. Then there is none, and no further one begins (see Reset).
func (s *session) claim() (*transaction, *gosmtp.SMTPError) {
	tx := s.open()
	if tx == nil {
		return nil, errNoTransaction
	}
	_ = s.guard.SetReadDeadline(time.Time{}) // fails only when closed
	return tx, nil
}

// chunks names go-smtp's latest message in chunks; each has a channel of its own for what becomes of it. Only the command loop may ask, and
// nobody else can tell that there is one. Should the channel be elsewhere one day, TestChunksBehindTheirReset says so.
func chunks(c *gosmtp.Conn) uintptr {
	result := reflect.ValueOf(c).Elem().FieldByName("dataResult")
	if result.Kind() != reflect.Chan {
		return 0
	}
	return result.Pointer()
}

// lastChunk notes that the last chunk of a message has come: go-smtp waits for what becomes of it.
func (s *session) lastChunk(tx *transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx.last = true
}

// brokeOff says whether a message was broken off between its chunks.
func (s *session) brokeOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

func (s *session) struckOut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strikes >= maxStrikes
}

// strike counts a refused command against the client. It returns r, or ends the connection.
func (s *session) strike(r *gosmtp.SMTPError) error {
	s.mu.Lock()
	s.strikes++
	out := s.strikes >= maxStrikes
	s.mu.Unlock()
	if out {
		return s.hangUp()
	}
	return r
}

// leave marks the connection as ending, after which it is granted nothing more, and reports whether it was marked already.
func (s *session) leave() (already bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	already, s.left = s.left, true
	return already
}

// hangUp says why and closes the connection.
func (s *session) hangUp() error {
	if !s.leave() {
		s.srv.log.Warn("connection ended", "remote", s.remote(), "reason", errStrikes.Message)
		s.say([]*gosmtp.SMTPError{errStrikes})
	}
	return errStrikes
}

// say writes replies past go-smtp, then closes the connection below it: what go-smtp still has buffered meets this
// session and a closed connection, while its own Close would leave it without a session to call. The client may be
// gone already; then nobody is there to tell.
func (s *session) say(replies []*gosmtp.SMTPError) {
	for _, r := range replies {
		e := r.EnhancedCode
		if _, err := fmt.Fprintf(s.conn.Conn(), "%d %d.%d.%d %s\r\n", r.Code, e[0], e[1], e[2], r.Message); err != nil {
			break
		}
	}
	_ = s.guard.Close()
}

// remote is the client's address.
func (s *session) remote() netip.Addr { return s.guard.Addr() }
