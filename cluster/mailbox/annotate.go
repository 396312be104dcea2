package mailbox

import (
	"hongyan/engine/index"
)

// Annotate sets and removes annotations of a folder, or of the account itself (RFC 5464): all of them, or none.
type Annotate struct {
	Account uint64             `cbor:"1,keyasint"`
	Mailbox string             `cbor:"2,keyasint,omitempty"` // "": the account itself
	List    []index.Annotation `cbor:"3,keyasint"`           // those without a value are removed
}

func (m *Machine) annotate(t *index.Txn, now int64, c *Annotate) (*Result, error) {
	if err := m.ensure(t, c.Account, now); err != nil {
		return nil, err
	}
	var box index.Mailbox
	if c.Mailbox != "" {
		var err error
		if box, err = t.MailboxByName(c.Account, c.Mailbox); err != nil {
			return nil, err
		}
	}
	if err := t.Annotate(c.Account, box.ID, c.List); err != nil {
		return nil, err
	}
	m.note(c.Account, 0)
	return &Result{}, nil
}

func answerAnnotations(v *index.View, q *Query, emit func(*Frame) error) error {
	var list []index.Annotation
	size := 0
	take := func(n *index.Annotation) error {
		kept := *n
		if kept.Value = nil; q.Kind == QueryAnnotations {
			kept.Value = append([]byte{}, n.Value...)
		}
		list = append(list, kept)
		if size += len(kept.Value) + len(kept.Name) + 32; size < frameBytes {
			return nil
		}
		full := list
		list, size = nil, 0
		return emit(&Frame{Annotations: full})
	}
	err := error(nil)
	if q.Kind == QueryNotes {
		err = v.AccountAnnotations(q.Account, take)
	} else {
		var box index.Mailbox
		if q.Name != "" {
			if box, err = v.MailboxByName(q.Account, q.Name); err != nil {
				return err
			}
		}
		err = v.Annotations(q.Account, box.ID, take)
	}
	if err != nil {
		return err
	}
	return emit(&Frame{Annotations: list})
}
