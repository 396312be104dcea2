package index

import (
	"encoding/binary"
	"math"
	"strings"
)

// Annotations are named values that clients keep with a mailbox (RFC 5464), or with the account itself, which is mailbox 0. They follow the mailbox by its id: through a
// rename, and into its grave. Their keys are few, so a move of the account copies them with the mailboxes.

// Limits of annotations.
const (
	MaxAnnotations       = 100  // of a mailbox, or the account itself
	MaxAccountNotes      = 1000 // of all mailboxes of an account together
	MaxAnnotationBytes   = 8 << 10
	MaxAnnotationName    = 256 // bytes
	MaxAnnotationsAtOnce = 20
)

// Annotation is a named value.
type Annotation struct {
	Mailbox uint32 `cbor:"1,keyasint,omitempty"` // 0: the account's own
	User    uint64 `cbor:"2,keyasint,omitempty"` // whose private one it is; 0: shared by all who may see the mailbox
	Name    string `cbor:"3,keyasint"`           // in lower case
	Seq     uint64 `cbor:"4,keyasint,omitempty"` // grows when the value changes
	Value   []byte `cbor:"5,keyasint"`           // nil: it is to be removed, or was not asked for; not the same as empty
}

const annotationHead = 4 + 8 // mailbox and user, in front of the name

func (k keys) annotations(account uint64, mailbox uint32) []byte {
	return binary.BigEndian.AppendUint32(k.account(account, tagAnnotation), mailbox)
}

func (k keys) annotation(account uint64, n *Annotation) []byte {
	b := binary.BigEndian.AppendUint64(k.annotations(account, n.Mailbox), n.User)
	return append(b, n.Name...)
}

func (n *Annotation) encode() []byte {
	b := binary.AppendUvarint([]byte{valueVersion}, n.Seq)
	return append(b, n.Value...)
}

// decode fills in what the value says; Value aliases b and is never nil.
func (n *Annotation) decode(b []byte) error {
	p := parse(b)
	n.Seq = p.uvarint(math.MaxUint64)
	n.Value = p.take(uint64(len(p.rest)))
	return p.end()
}

func (q source) eachAnnotation(prefix []byte, fn func(n *Annotation) error) error {
	skip := shardLen + 1 + 8 + 1
	return q.scanPrefix(prefix, func(key, value []byte) error {
		if len(key) < skip+annotationHead {
			return q.corrupt(key, "length of an annotation's key")
		}
		rest := key[skip:]
		n := &Annotation{Mailbox: binary.BigEndian.Uint32(rest), User: binary.BigEndian.Uint64(rest[4:]), Name: string(rest[annotationHead:])}
		if err := n.decode(value); err != nil {
			return q.corrupt(key, err.Error())
		}
		return fn(n)
	})
}

// Annotations calls fn for each annotation of a mailbox, of the account itself with 0. fn must not keep n's value.
func (v *View) Annotations(account uint64, mailbox uint32, fn func(n *Annotation) error) error {
	return v.wrap("annotations", v.q.eachAnnotation(v.q.k.annotations(account, mailbox), fn))
}

// AccountAnnotations is Annotations of all mailboxes of an account and of itself.
func (v *View) AccountAnnotations(account uint64, fn func(n *Annotation) error) error {
	return v.wrap("annotations", v.q.eachAnnotation(v.q.k.account(account, tagAnnotation), fn))
}

// Annotate sets annotations of one mailbox, or of the account itself with 0: all of them or none. One without a value is removed. ErrInvalidName: a name that
// cannot be; a *LimitError: too many, or one too large.
func (t *Txn) Annotate(account uint64, mailbox uint32, list []Annotation) error {
	return t.settle("annotate", t.annotate(account, mailbox, list))
}

func (t *Txn) annotate(account uint64, mailbox uint32, list []Annotation) error {
	if t.err != nil {
		return t.err
	}
	if len(list) > MaxAnnotationsAtOnce {
		return &LimitError{What: "annotations in one change", Limit: MaxAnnotationsAtOnce}
	}
	if mailbox != 0 {
		mb, err := t.mailbox(mailboxKey{account, mailbox})
		if err != nil {
			return err
		}
		if !mb.exists {
			return ErrNoMailbox
		}
	}
	was := make([]*Annotation, len(list))
	added := make(map[string]bool)
	for i := range list {
		n := &list[i]
		n.Mailbox = mailbox
		if err := n.check(); err != nil {
			return err
		}
		key := t.k.annotation(account, n)
		_, err := t.q.get(key, func(v []byte) error {
			was[i] = new(Annotation)
			return was[i].decode(v)
		})
		if err != nil {
			return err
		}
		if was[i] == nil && n.Value != nil {
			added[string(key)] = true
		}
	}
	if err := t.roomForNotes(account, mailbox, len(added)); err != nil {
		return err
	}
	for i := range list {
		if err := t.setAnnotation(account, &list[i], was[i]); err != nil {
			return err
		}
	}
	return nil
}

func (n *Annotation) check() error {
	switch {
	case len(n.Value) > MaxAnnotationBytes:
		return &LimitError{What: "bytes in an annotation", Limit: MaxAnnotationBytes}
	case len(n.Name) > MaxAnnotationName:
		return &LimitError{What: "bytes in an annotation's name", Limit: MaxAnnotationName}
	case n.Name == "" || n.Name != strings.ToLower(n.Name):
		return ErrInvalidName
	}
	return nil
}

func (t *Txn) setAnnotation(account uint64, n, was *Annotation) error {
	key := t.k.annotation(account, n)
	if n.Value == nil {
		return t.remove(key)
	}
	n.Seq = max(t.index, 1)
	if was != nil {
		n.Seq = max(n.Seq, was.Seq+1)
	}
	return t.put(key, n.encode())
}

// roomForNotes says whether a number of annotations may be added.
func (t *Txn) roomForNotes(account uint64, mailbox uint32, n int) error {
	if n == 0 {
		return nil
	}
	here, all := n, n
	prefix := t.k.account(account, tagAnnotation)
	it, err := t.b.NewIter(iterBounds(prefix, after(prefix)))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() { // keys alone: values are not read
		if all++; len(it.Key()) >= mailboxLen && keyMailbox(it.Key()) == mailbox {
			here++
		}
	}
	if err := it.Close(); err != nil {
		return err
	}
	switch {
	case here > MaxAnnotations:
		return &LimitError{What: "annotations of a mailbox", Limit: MaxAnnotations}
	case all > MaxAccountNotes:
		return &LimitError{What: "annotations in an account", Limit: MaxAccountNotes}
	}
	return nil
}

// copyAnnotations gives a new mailbox those of another, as far as the account has room.
func (t *Txn) copyAnnotations(account uint64, from, to uint32) error {
	var list []*Annotation
	err := t.q.eachAnnotation(t.k.annotations(account, from), func(n *Annotation) error {
		n.Mailbox, n.Value = to, append([]byte{}, n.Value...)
		list = append(list, n)
		return nil
	})
	if err != nil || t.roomForNotes(account, to, len(list)) != nil {
		return err
	}
	for _, n := range list {
		if err := t.put(t.k.annotation(account, n), n.encode()); err != nil {
			return err
		}
	}
	return nil
}
