package imap

import (
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
	r := s.recall(sel)
	found, err := s.find(r, asked.Key)
	if err != nil {
		return nil, err
	}
	r = r.anew()
	uses := []column{sentColumn(), topicColumn()}
	bySubject := asked.Algorithm == command.OrderedSubject
	if !bySubject {
		uses = append(uses, linksColumn())
	}
	for _, c := range uses {
		if _, err := r.use(c); err != nil {
			return nil, err
		}
	}
	t := order.NewThreads()
	err = s.eachFound(r, found, func(e *entry) error {
		var values [3][]byte
		for i, k := range r.list {
			var err error
			if values[i], err = r.value(k, e); err != nil {
				return err
			}
		}
		sent, topic, links := numberOf(values[0]), values[1], values[2]
		if bySubject {
			t.AddSubject(e.uid, sent, topic)
		} else {
			t.Add(e.uid, sent, topic, links)
		}
		return held.grow(t.Size())
	})
	if err != nil {
		return nil, err
	}
	if bySubject {
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
