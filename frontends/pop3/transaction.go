package pop3

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
)

const copyBuffer = 32 << 10

// transaction obeys a command in the transaction state (RFC 1939 section 5).
func (s *session) transaction(verb, arg string) error {
	switch verb {
	case "LIST":
		return s.list(arg)
	case "UIDL":
		return s.uniqueIDs(arg)
	case "RETR":
		return s.retrieve(arg)
	case "TOP":
		return s.top(arg)
	case "DELE":
		return s.remove(arg)
	}
	if arg != "" {
		return errSyntax
	}
	switch verb {
	case "STAT":
		size, err := s.drop.size(s.context())
		if err != nil {
			s.trouble(err)
			return nil
		}
		s.ok("%d %d", s.drop.count(), size)
	case "NOOP":
		s.ok("")
	case "RSET":
		s.drop.deleted = roaring.New()
		s.ok("%d messages", s.drop.count())
	case "QUIT":
		return s.quit()
	default:
		return errSyntax
	}
	return nil
}

// pick finds the message that arg names, or says that there is none.
func (s *session) pick(arg string) (n, uid uint32, ok bool) {
	list, err := numbers(arg, 1)
	if err == nil {
		n = list[0]
		uid, ok = s.drop.uid(n)
	}
	if !ok {
		s.fail("no such message")
	}
	return n, uid, ok
}

// list answers LIST: one message, or all, whose sizes are fetched and written a part at a time.
func (s *session) list(arg string) error {
	if arg != "" {
		n, uid, ok := s.pick(arg)
		if !ok {
			return nil
		}
		e, err := s.drop.message(s.context(), uid)
		if err != nil {
			s.trouble(err)
			return nil
		}
		s.ok("%d %d", n, e.Size)
		return nil
	}
	left := roaring.AndNot(s.drop.uids, s.drop.deleted)
	begun := false
	begin := func() {
		if !begun {
			s.ok("%d messages", left.GetCardinality())
		}
		begun = true
	}
	var line []byte
	err := s.drop.sizes(s.context(), left, func(number, size uint64) error {
		begin()
		line = strconv.AppendUint(line[:0], number, 10)
		line = append(line, ' ')
		line = strconv.AppendUint(line, size, 10)
		_, err := s.out.Write(append(line, crlf...))
		return err
	})
	if err != nil && begun {
		return err // the list cannot be taken back: only a lost connection tells that it is not whole
	}
	if err != nil {
		s.trouble(err)
		return nil
	}
	begin()
	s.write(".\r\n")
	return nil
}

// uniqueIDs answers UIDL, from the snapshot alone.
func (s *session) uniqueIDs(arg string) error {
	if arg != "" {
		if n, uid, ok := s.pick(arg); ok {
			s.ok("%d %s", n, s.drop.name(uid))
		}
		return nil
	}
	s.ok("unique-ids follow")
	var line []byte
	number := uint64(0)
	for it := s.drop.uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		number++
		if s.drop.deleted.Contains(uid) {
			continue
		}
		line = strconv.AppendUint(line[:0], number, 10)
		line = append(line, ' ')
		line = strconv.AppendUint(line, uint64(s.drop.box.UIDValidity), 10)
		line = append(line, '.')
		line = strconv.AppendUint(line, uint64(uid), 10)
		if _, err := s.out.Write(append(line, crlf...)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	s.write(".\r\n")
	return nil
}

// retrieve answers RETR.
func (s *session) retrieve(arg string) error {
	_, uid, ok := s.pick(arg)
	if !ok {
		return nil
	}
	return s.send(uid, func(size uint64) string { return fmt.Sprintf("%d octets", size) }, func(w io.Writer) io.Writer { return w })
}

// top answers TOP (RFC 1939 section 7).
func (s *session) top(arg string) error {
	list, err := numbers(arg, 2)
	if err != nil {
		s.fail("TOP needs a message and a number of lines")
		return nil
	}
	uid, ok := s.drop.uid(list[0])
	if !ok {
		s.fail("no such message")
		return nil
	}
	return s.send(uid, func(uint64) string { return "top of message follows" }, func(w io.Writer) io.Writer { return &topWriter{w: w, lines: list[1]} })
}

// body reads a message's first bytes, n of them in buf. An empty message is io.EOF.
func (s *session) body(uid uint32) (b *body, buf []byte, n int, err error) {
	e, err := s.drop.message(s.context(), uid)
	if err != nil {
		return nil, nil, 0, err
	}
	b = s.drop.body(s.context(), e)
	buf = make([]byte, min(e.Size, copyBuffer))
	n, err = b.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.Join(err, b.Close())
	}
	return b, buf, n, err
}

// send streams a message through a filter. Its first bytes are read before anything is promised; an error behind
// them can only be told by closing the connection.
func (s *session) send(uid uint32, promise func(size uint64) string, filter func(io.Writer) io.Writer) error {
	b, buf, n, err := s.body(uid)
	if errors.Is(err, client.ErrAmended) {
		b, buf, n, err = s.body(uid)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.trouble(err)
		return nil
	}
	defer func() { _ = b.Close() }() // everything wanted was read and checked
	s.ok("%s", promise(b.size))
	lines := &dotWriter{w: s.out}
	w := filter(lines)
	for !errors.Is(err, io.EOF) {
		if _, err = w.Write(buf[:n]); errors.Is(err, errTopDone) {
			break
		}
		if err != nil {
			return fmt.Errorf("send message %d: %w", uid, err)
		}
		n, err = b.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("send message %d: %w", uid, err)
		}
	}
	if err := lines.end(); err != nil {
		return fmt.Errorf("send message %d: %w", uid, err)
	}
	s.retrieved++
	s.srv.metrics.retrieved.Inc()
	s.srv.metrics.retrievedBytes.Add(float64(b.at))
	return nil
}

// remove marks a message.
func (s *session) remove(arg string) error {
	n, uid, ok := s.pick(arg)
	if ok {
		s.drop.deleted.Add(uid)
		s.ok("message %d will be removed", n)
	}
	return nil
}

// quit enters the update state: it removes what is marked (RFC 1939 section 6).
func (s *session) quit() error {
	marked := s.drop.deleted.GetCardinality()
	removed, err := s.drop.commit(s.context(), s.lock)
	s.removed = removed
	s.srv.metrics.removed.Add(float64(removed))
	if err != nil {
		s.srv.metrics.failures.Inc()
		why := "[SYS/TEMP] temporarily unavailable"
		switch {
		case errors.Is(err, errReplaced):
			why = errReplaced.Error()
		case errors.Is(err, client.ErrInUse):
			why = "[IN-USE] another session has the maildrop by now"
		}
		s.fail("%s, %d of %d deleted messages were removed", why, removed, marked)
		return err
	}
	s.ok("bye")
	return errQuit
}
