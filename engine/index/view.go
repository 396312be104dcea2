package index

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"
)

// View is a shard at one moment: everything it returns belongs to the same applied index. Close it soon, for it keeps old
// values from being compacted away. Safe for concurrent use.
type View struct {
	s          *Shard
	snap       *pebble.Snapshot
	generation uint64
	q          source
}

// View opens one at the latest commit.
func (s *Shard) View() *View {
	s.excise.RLock()
	defer s.excise.RUnlock()
	v := &View{s: s, snap: s.db.p.NewSnapshot(), generation: s.generation}
	v.q = source{k: s.k, r: guarded{v}}
	return v
}

// Close releases the view.
func (v *View) Close() error {
	if err := v.snap.Close(); err != nil {
		return v.s.errorf("close view: %w", err)
	}
	return nil
}

// guarded reads a View's snapshot unless Load has replaced the shard: pebble would then show nothing instead of
// what was. An iterator that was opened before stays good.
type guarded struct{ v *View }

func (g guarded) Get(key []byte) ([]byte, io.Closer, error) {
	g.v.s.excise.RLock()
	defer g.v.s.excise.RUnlock()
	if g.v.generation != g.v.s.generation {
		return nil, nil, ErrReplaced
	}
	return g.v.snap.Get(key)
}

func (g guarded) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	g.v.s.excise.RLock()
	defer g.v.s.excise.RUnlock()
	if g.v.generation != g.v.s.generation {
		return nil, ErrReplaced
	}
	return g.v.snap.NewIter(o)
}

func (v *View) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return v.s.errorf("%s: %w", what, err)
}

// Applied is the log index that the view stands at.
func (v *View) Applied() (applied uint64, err error) {
	_, err = v.q.get(v.q.k.applied(), func(b []byte) (err error) {
		applied, err = decodeIndex(b)
		return err
	})
	return applied, v.wrap("applied index", err)
}

// Get reads a generic record.
func (v *View) Get(key []byte) (value []byte, ok bool, err error) {
	value, ok, err = v.q.record(key)
	return value, ok, v.wrap("get record", err)
}

// Scan calls fn for each generic record whose key starts with prefix, in key order. fn must not keep what it gets.
func (v *View) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return v.wrap("scan records", v.q.records(prefix, fn))
}

// Mailboxes lists an account's mailboxes by name.
func (v *View) Mailboxes(account uint64) ([]Mailbox, error) {
	list, err := v.mailboxes(account)
	return list, v.wrap("mailboxes", err)
}

func (v *View) mailboxes(account uint64) ([]Mailbox, error) {
	c, ok, err := v.q.counters(account)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoAccount
	}
	list := make([]Mailbox, 0, c.mailboxes)
	prefix := v.q.k.account(account, tagMailbox)
	err = v.q.scanPrefix(prefix, func(key, value []byte) error {
		var open block
		mb, err := decodeMeta(value, &open)
		if err != nil || len(key) != mailboxLen {
			return v.q.corrupt(key, fmt.Sprint("mailbox meta: ", err))
		}
		mb.ID = keyMailbox(key)
		if mb.Recent, err = v.q.recent(mailboxKey{account, mb.ID}, &mb, &open); err != nil {
			return err
		}
		list = append(list, mb)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := v.allKeywords(account, list); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Mailbox) int { return cmp.Compare(a.Name, b.Name) })
	subscribed, err := v.subscriptions(account)
	if err != nil {
		return nil, err
	}
	for i := range list {
		_, list[i].Subscribed = slices.BinarySearch(subscribed, list[i].Name)
	}
	return list, nil
}

// allKeywords adds the keyword tables to a list of mailboxes by id.
func (v *View) allKeywords(account uint64, list []Mailbox) error {
	return v.q.scanPrefix(v.q.k.account(account, tagKeywords), func(key, value []byte) error {
		table, err := decodeKeywords(value)
		if err != nil || len(key) != mailboxLen {
			return v.q.corrupt(key, fmt.Sprint("keywords: ", err))
		}
		id := keyMailbox(key)
		if i, ok := slices.BinarySearchFunc(list, id, func(m Mailbox, id uint32) int { return cmp.Compare(m.ID, id) }); ok {
			list[i].Keywords = table.names
		}
		return nil
	})
}

// Subscriptions lists the subscribed names, ascending, also those without a mailbox.
func (v *View) Subscriptions(account uint64) ([]string, error) {
	_, ok, err := v.q.counters(account)
	if err == nil && !ok {
		err = ErrNoAccount
	}
	if err != nil {
		return nil, v.wrap("subscriptions", err)
	}
	list, err := v.subscriptions(account)
	return list, v.wrap("subscriptions", err)
}

func (v *View) subscriptions(account uint64) ([]string, error) {
	var list []string
	prefix := v.q.k.account(account, tagSubscribe)
	err := v.q.scanPrefix(prefix, func(key, _ []byte) error {
		list = append(list, string(key[len(prefix):]))
		return nil
	})
	return list, err
}

// Mailbox is one mailbox by id.
func (v *View) Mailbox(account uint64, id uint32) (Mailbox, error) {
	mb, err := v.mailbox(account, id)
	return mb, v.wrap("mailbox", err)
}

func (v *View) mailbox(account uint64, id uint32) (Mailbox, error) {
	var open block
	return v.mailboxWith(mailboxKey{account, id}, &open)
}

// mailboxWith is mailbox, and fills open with the block that the next UID will be in.
func (v *View) mailboxWith(key mailboxKey, open *block) (Mailbox, error) {
	mb, ok, err := v.q.meta(key, open)
	if err != nil {
		return Mailbox{}, err
	}
	if !ok {
		return Mailbox{}, v.missing(key.account)
	}
	table, err := v.q.keywords(key)
	if err != nil {
		return Mailbox{}, err
	}
	mb.Keywords = table.names
	if mb.Recent, err = v.q.recent(key, &mb, open); err != nil {
		return Mailbox{}, err
	}
	mb.Subscribed, err = v.q.has(v.q.k.name(key.account, tagSubscribe, mb.Name))
	return mb, err
}

// MailboxByName is one mailbox by its name, INBOX in any case.
func (v *View) MailboxByName(account uint64, name string) (Mailbox, error) {
	name, err := canonicalName(name)
	if err != nil {
		return Mailbox{}, v.wrap("mailbox by name", err)
	}
	id, ok, err := v.q.mailboxID(account, name)
	if err == nil && !ok {
		id = 0 // of no mailbox: tells a missing account from a missing name
	}
	if err != nil {
		return Mailbox{}, v.wrap("mailbox by name", err)
	}
	return v.Mailbox(account, id)
}

// UIDs is the set of a mailbox's messages. The rank of a UID in it is its sequence number.
func (v *View) UIDs(account uint64, id uint32) (*roaring.Bitmap, error) {
	bm, err := v.selection(mailboxKey{account, id}, nil)
	return bm, v.wrap("UIDs", err)
}

// Flagged is the set of messages that have one system flag.
func (v *View) Flagged(account uint64, id uint32, flag uint8) (*roaring.Bitmap, error) {
	if flag&^flagsKnown != 0 || flag == 0 || flag&(flag-1) != 0 {
		return nil, v.wrap("flagged", fmt.Errorf("%w: flag %#x", ErrInvalidName, flag))
	}
	if _, err := v.mailbox(account, id); err != nil {
		return nil, v.wrap("flagged", err)
	}
	bm, err := v.q.bitmap(mailboxKey{account, id}, kindFlag(flag), 0, nil)
	return bm, v.wrap("flagged", err)
}

// Messages calls fn for each message of uids (nil: all) that exists, ascending. m and what it points to are only good until fn returns.
func (v *View) Messages(account uint64, id uint32, uids *roaring.Bitmap, want Want, fn func(m *Message) error) error {
	return v.wrap("messages", v.messages(mailboxKey{account, id}, uids, want, fn))
}

func (v *View) messages(mb mailboxKey, uids *roaring.Bitmap, want Want, fn func(m *Message) error) (err error) {
	found, err := v.selection(mb, uids)
	if err != nil || found.IsEmpty() {
		return err
	}
	table := newKeywordTable(nil)
	if want&(WantFlags|WantImmutable) != 0 {
		if table, err = v.q.keywords(mb); err != nil {
			return err
		}
	}
	m := new(Message)
	parts, err := v.parts(mb, found, want, table, m)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range parts {
			if e := p.rows.Close(); err == nil {
				err = e
			}
		}
	}()
	for it := found.Iterator(); it.HasNext(); {
		uid := it.Next()
		*m = Message{UID: uid, Summary: m.Summary[:0]}
		for _, p := range parts {
			if err := p.rows.get(uid, p.decode); err != nil {
				return err
			}
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// part reads one tag's rows into the message under construction.
type part struct {
	rows   *rows
	decode func(value []byte) error
}

func (v *View) parts(mb mailboxKey, uids *roaring.Bitmap, want Want, table *keywordTable, m *Message) ([]part, error) {
	decoders := []struct {
		want   Want
		tag    byte
		decode func(value []byte) error
	}{
		{WantFlags | WantImmutable, tagFlags, func(b []byte) error {
			row, err := decodeHot(b)
			if err != nil {
				return err
			}
			m.ModSeq, m.Date, m.Zone, m.Size = row.modseq, row.date, row.zone, row.size
			m.Flags, err = table.flags(&row)
			return err
		}},
		{WantImmutable | WantSummary, tagMessage, func(b []byte) error {
			row, err := decodeCold(b)
			m.SaveDate, m.CopyDate, m.Ref = row.saveDate, row.copied, row.ref
			m.Summary = append(m.Summary[:0], row.summary...)
			return err
		}},
	}
	var out []part
	for _, d := range decoders {
		if want&d.want == 0 {
			continue
		}
		r, err := v.q.rows(mb, d.tag, uids.GetCardinality(), uids.Minimum(), uids.Maximum())
		if err != nil {
			for _, p := range out {
				err = joinClose(err, p.rows)
			}
			return nil, err
		}
		out = append(out, part{r, d.decode})
	}
	return out, nil
}

// selection is those of uids (nil: all) that the mailbox has.
func (v *View) selection(mb mailboxKey, uids *roaring.Bitmap) (*roaring.Bitmap, error) {
	var open block
	meta, ok, err := v.q.meta(mb, &open)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, v.missing(mb.account)
	}
	last := meta.UIDNext >> blockShift
	if uids == nil || uids.GetCardinality() > fewUIDs {
		found, err := v.q.bitmap(mb, kindUIDs, last, &open)
		if err == nil && uids != nil {
			found.And(uids)
		}
		return found, err
	}
	found := roaring.New()
	b, at := open, last
	for it := uids.Iterator(); it.HasNext(); {
		uid := it.Next()
		if n := uid >> blockShift; n > last {
			break
		} else if n != at {
			if b, at = open, n; n != last {
				b = block{}
				if _, err := v.q.get(v.q.k.block(mb, kindUIDs, n), b.decode); err != nil {
					return nil, err
				}
			}
		}
		if b.has(uid % blockBits) {
			found.Add(uid)
		}
	}
	return found, nil
}

// missing says what there is not, when a mailbox was not found.
func (v *View) missing(account uint64) error {
	_, exists, err := v.q.counters(account)
	if err == nil && !exists {
		err = ErrNoAccount
	}
	if err == nil {
		err = ErrNoMailbox
	}
	return err
}
