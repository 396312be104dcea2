package index

import "math/bits"

// Told notes that a session was told of a mailbox's messages below a UID: no later one shows them as \Recent (RFC 3501 section 2.3.2). It
// changes no modseq: nobody is to hear of it. A UID that is not above the last one changes nothing.
func (t *Txn) Told(account uint64, mailbox, uid uint32) error {
	return t.settle("told", t.told(account, mailbox, uid))
}

func (t *Txn) told(account uint64, mailbox, uid uint32) error {
	mb, err := t.selectable(account, mailbox)
	if err != nil {
		return err
	}
	if uid = min(uid, mb.meta.UIDNext); uid > mb.meta.Told {
		mb.meta.Told, mb.dirty = uid, true
	}
	return nil
}

// recent counts a mailbox's messages from Told on. Where that is in the open block, as nearly always, it reads nothing.
func (q source) recent(m mailboxKey, mb *Mailbox, open *block) (n uint32, err error) {
	if mb.Told <= 1 || mb.Messages == 0 || mb.Told >= mb.UIDNext {
		if mb.Told <= 1 {
			n = mb.Messages
		}
		return n, nil
	}
	first, last := mb.Told>>blockShift, mb.UIDNext>>blockShift
	for i := first; i <= last; i++ {
		b := *open
		if i != last {
			b = block{}
			if _, err := q.get(q.k.block(m, kindUIDs, i), b.decode); err != nil {
				return 0, err
			}
		}
		from := uint32(0)
		if i == first {
			from = mb.Told % blockBits
		}
		n += b.from(from)
	}
	return n, nil
}

// from counts the members that are not below low.
func (b *block) from(low uint32) (n uint32) {
	for i := low / 64; i < uint32(len(b)); i++ {
		w := b[i]
		if i == low/64 {
			w &= ^uint64(0) << (low % 64)
		}
		n += uint32(bits.OnesCount64(w))
	}
	return n
}
