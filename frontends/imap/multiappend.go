package imap

import (
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
)

// maxTogether is how many times as large as the largest message those of one APPEND may be together: until it ends they are in volumes for nothing.
const maxTogether = 4

// appendAll takes the messages behind the first one in, and enters all of them or none (RFC 3502). Each becomes durable before the next is read, so that one draft is
// held at a time; a client that breaks off, a message that is refused, a node that dies leave no message in the mailbox.
func (s *session) appendAll(c *call, p *place, next taken) error {
	if !s.mail.Sharing() {
		s.closeDraft(next.draft)
		return no(goimap.ResponseCodeUnavailable, "Several messages at once can be appended when all servers are updated")
	}
	b := s.mail.NewBatch(p.account, p.name)
	total, count := int64(0), 0
	for more := true; ; {
		total += next.size
		count++
		if err := s.add(b, p.shown, next, total); err != nil {
			return err
		}
		if !more {
			break
		}
		if count == client.MaxBatch {
			return no(goimap.ResponseCodeLimit, "Too many messages in one APPEND")
		}
		var err error
		if next, more, err = s.take(p); err != nil {
			return err
		}
	}
	ctx, cancel := s.question()
	defer cancel()
	validity, first, err := b.Commit(ctx)
	if err != nil {
		return s.answerInto("append to "+p.shown, err)
	}
	s.appended(count, total)
	s.added(*p, uidsFrom(first, count))
	set := goimap.UIDSet{{Start: goimap.UID(first), Stop: goimap.UID(first) + goimap.UID(count-1)}}
	c.code = "APPENDUID " + decimal(validity) + " " + set.String()
	return nil
}

// add puts a message where it is durable, and lets go of its draft.
func (s *session) add(b batch, name string, m taken, total int64) error {
	defer s.closeDraft(m.draft)
	if total > maxTogether*s.mail.MaxMessage() {
		return no(goimap.ResponseCodeLimit, "Messages too large together")
	}
	ctx, cancel := s.storing(m.size)
	defer cancel()
	return s.answerInto("append to "+name, b.Add(ctx, m.draft, m.flags, m.date))
}
