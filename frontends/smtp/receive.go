package smtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/cluster/client"
)

const (
	maxHops     = 50               // Received fields; RFC 5321 section 6.3 asks for 100 at least to be seen, loops end sooner
	maxReceive  = 2 * time.Hour    // for a whole message
	deliverTime = 15 * time.Second // from the message's last byte to the reply, and more for a large one:
	storeRate   = 1 << 20          // bytes a second that storing it on all copies is at least expected to reach
	pollTime    = 2 * time.Second  // see receive
	dataSlack   = 1 << 20          // input beyond twice the largest message before the connection is cut
)

// Data takes a message by SMTP: one reply for all recipients.
func (s *session) Data(r io.Reader) error {
	tx, refusal := s.claim()
	if refusal != nil {
		return s.srv.metrics.refused(stageData, refusal)
	}
	results, ended := s.take(tx, r)
	one := merge(results)
	if ended {
		s.say([]*gosmtp.SMTPError{one, errReconnect})
	}
	return one
}

// LMTPData takes a message by LMTP: one reply for each RCPT, in order (RFC 2033 section 4.2).
func (s *session) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	tx, refusal := s.claim()
	if refusal != nil {
		return s.srv.metrics.refused(stageData, refusal)
	}
	results, ended := s.take(tx, r)
	if ended {
		named := make([]*gosmtp.SMTPError, len(results))
		for i, one := range results {
			named[i] = reply(one.Code, one.EnhancedCode, "<"+tx.given[i]+"> "+one.Message)
		}
		s.say(append(named, errReconnect))
	}
	for i, one := range results {
		status.SetStatus(tx.given[i], one)
	}
	return merge(results) // heard only by who still sends chunks when the message was given up
}

// take receives a message and delivers it. It returns a reply for each recipient as named; ended says that go-smtp
// did not see the message's end and cannot go on with this connection.
func (s *session) take(tx *transaction, r io.Reader) (results []*gosmtp.SMTPError, ended bool) {
	start := time.Now()
	d := s.srv.store.NewDraft()
	defer func() {
		if err := d.Close(); err != nil {
			s.srv.log.Warn("draft not closed", "id", tx.id, "error", err)
		}
	}()
	body := s.digest(tx)
	size, ended, refusal := s.receive(tx, r, d, body)
	defer func() { s.count(results, size) }()
	if refusal != nil {
		s.srv.log.Info("message refused", "id", tx.id, "remote", s.remote(), "from", tx.from,
			"size", size, "code", refusal.Code, "reason", refusal.Message)
		results = make([]*gosmtp.SMTPError, len(tx.given))
		for i := range results {
			results[i] = refusal
		}
		return results, ended
	}
	return s.deliver(tx, d, body.keys(tx), size, start), ended
}

// count enters the replies in the metrics, as the client hears them.
func (s *session) count(results []*gosmtp.SMTPError, size int64) {
	if !s.lmtp {
		results = slices.Repeat([]*gosmtp.SMTPError{merge(results)}, len(results))
	}
	s.srv.metrics.answered(results, size)
}

// receive streams trace header and message into d, and the message without that header into body unless it is nil.
//
// A stream that go-smtp reads as DATA fills whole buffers before it returns, so the end that only dotReader can
// see would stay hidden while go-smtp waits for more: a read deadline of pollTime brings out what has come so far.
// How long a client may really pause is the connection's patience (listen.ErrIdle).
//
// Between two chunks go-smtp takes commands, of any length and number. So input is not granted for the message at once, but bit by bit as it arrives.
func (s *session) receive(tx *transaction, r io.Reader, d draft, body *digest) (size int64, ended bool, refusal *gosmtp.SMTPError) {
	s.guard.Renew()
	dots := &dotReader{src: r}
	src := io.Reader(dots)
	_, chunked := r.(*io.PipeReader)
	if chunked { // BDAT counts bytes: dots and line ends mean nothing (RFC 3030)
		src = r
		s.grant()
		s.guard.EndsWith(errCut) // go-smtp reads the chunks itself, and would refuse the message for good (see close)
	} else {
		s.guard.Limit(2*s.srv.store.MaxMessage() + dataSlack)
		defer func() { _ = s.guard.SetReadDeadline(time.Time{}) }() // fails only when closed
	}
	if _, err := d.Write(s.trace(tx).header()); err != nil {
		refusal = s.writeFailed(tx, err) // and what comes is skipped: by LMTP only the message's end has an answer for each recipient
	}
	buf := s.srv.buffers.Get().(*[]byte)
	defer s.srv.buffers.Put(buf)
	hops := fieldCounter{name: "received:"}
	for start := time.Now(); ; {
		if !chunked {
			_ = s.guard.SetReadDeadline(time.Now().Add(pollTime)) // fails only when closed, and so will the read
		}
		n, err := src.Read(*buf)
		size += int64(n)
		if chunked && n > 0 {
			s.grant()
		}
		if n > 0 && refusal == nil {
			_, _ = hops.Write((*buf)[:n]) // never fails
			if body != nil {
				_, _ = body.Write((*buf)[:n]) // never fails
			}
			_, werr := d.Write((*buf)[:n])
			if werr != nil {
				refusal = s.writeFailed(tx, werr)
			} else if size > s.srv.maxMessage() {
				refusal = errTooBig
			} else if hops.n > maxHops {
				refusal = errLoop
			}
		}
		switch {
		case errors.Is(err, io.EOF) && chunked:
			s.lastChunk(tx)
			if size != announced(s.conn) {
				return size, false, s.cutOff(tx, io.ErrUnexpectedEOF)
			}
			return size, false, refusal
		case errors.Is(err, io.EOF):
			return size, dots.ended, refusal
		case errors.Is(err, gosmtp.ErrDataTooLarge):
			return size, false, errTooBig // go-smtp reads on to the end, within the budget
		case errors.Is(err, os.ErrDeadlineExceeded) && !chunked:
		case err != nil:
			return size, false, s.cutOff(tx, err)
		}
		if time.Since(start) > maxReceive {
			s.leave()
			s.guard.Limit(0)
			return size, false, errSlow
		}
	}
}

// announced is how many bytes the chunks of a message that has ended were said to have. go-smtp takes the end of the connection, which under TLS is a close_notify
// that nothing below TLS can see, for that of the chunk, and tells nobody. But it adds the sizes up, and has stopped doing so when it ends the stream: until Data returns
// it waits. Should the sum be elsewhere one day, no chunks are taken: -1 is never right.
func announced(c *gosmtp.Conn) int64 {
	sum := reflect.ValueOf(c).Elem().FieldByName("bytesReceived")
	if !sum.IsValid() || !sum.CanInt() {
		return -1
	}
	return sum.Int()
}

// writeFailed is the refusal when the draft takes no more.
func (s *session) writeFailed(tx *transaction, err error) *gosmtp.SMTPError {
	if errors.Is(err, client.ErrLimit) {
		return errTooBig
	}
	s.srv.log.Warn("draft not written", "id", tx.id, "error", err)
	return errLater
}

// cutOff is the refusal, which hardly anybody hears, when the input broke off. Between two chunks a client may also
// reset, and hears that its connection ends when it goes on (see Reset).
func (s *session) cutOff(tx *transaction, err error) *gosmtp.SMTPError {
	if !errors.Is(err, gosmtp.ErrDataReset) {
		s.leave()
	}
	s.srv.log.Debug("message cut off", "id", tx.id, "error", err)
	return errCut
}

// trace describes the transaction for its header.
func (s *session) trace(tx *transaction) *trace {
	return &trace{
		from: tx.from, helo: tx.helo, remote: s.remote(), by: s.srv.cfg.Hostname, tls: s.secure, id: tx.id,
		protocol: protocolName(s.lmtp, s.secure != nil, tx.utf8), recipients: tx.given, date: s.srv.cfg.Clock.Now(),
	}
}

// deliver hands the draft to the cluster. It is not tied to the connection: a client that leaves now may have
// its message delivered all the same, as RFC 5321 section 4.1.1.4 has it.
func (s *session) deliver(tx *transaction, d draft, keys []partKey, size int64, start time.Time) []*gosmtp.SMTPError {
	ctx, cancel := context.WithTimeout(s.srv.life, deliverTime+time.Duration(size/storeRate)*time.Second)
	defer cancel()
	s.arrived()
	received := time.Since(start)
	errs := s.store(ctx, tx, d, keys)
	s.srv.metrics.receive.Observe(received.Seconds())
	s.srv.metrics.delivery.Observe((time.Since(start) - received).Seconds())
	failed := 0
	results := make([]*gosmtp.SMTPError, len(tx.given))
	ok := reply(250, gosmtp.EnhancedCode{2, 0, 0}, "OK "+tx.id)
	for i, at := range tx.index {
		results[i] = ok
		if errs[at] != nil {
			results[i] = replyFor(errs[at])
		}
	}
	s.srv.partly.settle(merge(results).Code, keys, errs)
	for i, err := range errs {
		if err != nil {
			failed++
			s.srv.log.Warn("recipient not delivered", "id", tx.id, "to", tx.accounts[i].Address, "error", err)
		}
	}
	level := slog.LevelInfo
	if failed > 0 {
		level = slog.LevelWarn
	}
	s.srv.log.Log(ctx, level, "message", "id", tx.id, "remote", s.remote(), "from", tx.from, "recipients", len(errs),
		"failed", failed, "size", size, "received", received, "took", time.Since(start))
	return results
}
