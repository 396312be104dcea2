package imap

import (
	"context"
	"errors"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/order"
)

// thread answers THREAD and UID THREAD (RFC 5256).
func (s *session) thread(c *call) error {
	asked, err := command.ParseThread(s.dec)
	if err != nil {
		return err
	}
	sel, err := s.open()
	if err != nil {
		return err
	}
	s.srv.stats.searches.Add(1)
	held := holding{total: &s.srv.sorting}
	defer held.release()
	forest, err := s.threads(sel, asked, &held)
	if err != nil {
		return s.answer("thread "+sel.name, err)
	}
	if !sel.view.gone.IsEmpty() && !c.uid {
		c.code = string(codeExpungeIssued)
	}
	return s.tellThreads(c, sel, forest)
}

// threads finds messages and joins them.
func (s *session) threads(sel *selected, asked *command.Thread, held *holding) (*order.Forest, error) {
	found, err := s.find(sel, asked.Key)
	if err != nil {
		return nil, err
	}
	t := order.NewThreads()
	err = s.eachFound(sel, found, index.WantFlags|index.WantSummary, func(ctx context.Context, e *entry) error {
		v, err := s.envelope(e)
		if err != nil {
			return err
		}
		m := order.Mail{UID: e.uid, Sent: sentDate(e), Subject: message.DecodeHeader(v.Subject)}
		if asked.Algorithm == command.OrderedSubject {
			t.AddSubject(&m)
			return held.grow(t.Size())
		}
		fields, err := s.fields(ctx, e, []string{"References"})
		if err != nil && !errors.Is(err, client.ErrLost) {
			return err
		}
		if values := fieldValues(fields); len(values) > 0 {
			m.References = values[0]
		}
		m.MessageID, m.InReplyTo = v.MessageID, v.InReplyTo
		t.Add(&m)
		return held.grow(t.Size())
	})
	if err != nil {
		return nil, err
	}
	if asked.Algorithm == command.OrderedSubject {
		return t.BySubject(), nil
	}
	return t.ByReferences(), nil
}

// tellThreads writes threads, a list each; a branch is a list in the list.
func (s *session) tellThreads(c *call, sel *selected, forest *order.Forest) error {
	out := s.out
	out.Raw("* THREAD")
	previous := order.Message
	for tok := range forest.Tokens() {
		if previous == order.Message && tok.Kind != order.Close {
			out.SP()
		}
		switch previous = tok.Kind; tok.Kind {
		case order.Open:
			out.Raw("(")
		case order.Close:
			out.Raw(")")
		default:
			n := tok.UID
			if !c.uid {
				n = sel.view.seq(n)
			}
			out.Num(uint64(n))
		}
		if out.Err() != nil {
			break
		}
	}
	return out.Line("").Err()
}
