package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// An account moves to another shard in steps, each a log entry of one of the two: it is Arriving in the one and gets its keys from outside, is
// Leaving the other, which takes no more changes, becomes Gone from that when both hold the same, and then Here in the first. Each move has a
// fence, a number above those of all moves before: what an earlier one still says is refused. The reference keys of what arrives are made here. Unlike
// AddMessages, Import asks no floor: a record that the other shard refers to is live, and package collect sees to it that one of the two is counted.

// PlaceState says whether a shard has an account. Numbers are fixed: they are stored.
type PlaceState uint8

// States of an account in a shard. Without a record it is Here.
const (
	Here     PlaceState = 0
	Arriving PlaceState = 1 // its keys come, nobody may ask
	Leaving  PlaceState = 2 // it is read, and changes no more
	Gone     PlaceState = 3
)

// Place is where an account is, as a shard knows it.
type Place struct {
	State PlaceState
	Fence uint64 // of the latest move
	Shard uint32 // Arriving: whence; Leaving: whither; Gone: where it is
	At    uint64 // Gone: the entry of that shard's log from which on it has all of the account, or 0
}

// MovedError is of a command or query about an account that is not Here. Shard 0: it is on its way, ask again.
type MovedError struct {
	Shard uint32
	At    uint64
}

func (e *MovedError) Error() string {
	if e.Shard == 0 {
		return "the account is on its way to another shard"
	}
	return fmt.Sprintf("the account is in shard %d", e.Shard)
}

// What a move may meet.
var (
	ErrFenced = errors.New("a later move of the account is under way")
	ErrHere   = errors.New("the account is here")
	ErrSwept  = errors.New("what the account left behind is still being removed")
)

// dropAtOnce is how many mailboxes one Drop buries at most.
const dropAtOnce = 4096

// accountTags are those that Import takes, ascending; the place is this shard's own.
var accountTags = []byte{tagBlock, tagCounters, tagFlags, tagSharer, tagMailbox, tagName, tagSubscribe, tagGrant, tagChange, tagMessage, tagKeywords, tagExpunged, tagAnnotation}

func (k keys) place(account uint64) []byte { return k.account(account, tagPlace) }

func (p Place) encode() []byte {
	b := []byte{valueVersion, byte(p.State)}
	b = binary.AppendUvarint(b, p.Fence)
	b = binary.AppendUvarint(b, uint64(p.Shard))
	return binary.AppendUvarint(b, p.At)
}

func decodePlace(b []byte) (Place, error) {
	p := parse(b)
	out := Place{State: PlaceState(p.byte()), Fence: p.uvarint(math.MaxUint64), Shard: p.uint32(), At: p.uvarint(math.MaxUint64)}
	if err := p.end(); err != nil {
		return Place{}, err
	}
	if out.State > Gone {
		return Place{}, fmt.Errorf("place of state %d", out.State)
	}
	return out, nil
}

func (q source) place(account uint64) (p Place, err error) {
	_, err = q.get(q.k.place(account), func(v []byte) (err error) {
		p, err = decodePlace(v)
		return err
	})
	return p, err
}

// moved is what somebody hears who wants to change the account, or with reads to read it.
func (p Place) moved(reads bool) error {
	switch {
	case p.State == Here || p.State == Leaving && reads:
		return nil
	case p.State == Gone || p.State == Arriving:
		return &MovedError{Shard: p.Shard, At: p.At}
	}
	return &MovedError{}
}

// Changeable says *MovedError of an account that this shard may not change.
func (t *Txn) Changeable(account uint64) error {
	if t.err != nil {
		return t.err
	}
	a, err := t.account(account)
	if err == nil {
		err = a.place.moved(false)
	}
	return t.settle("place", err)
}

// Readable says *MovedError of an account that this shard may not show.
func (v *View) Readable(account uint64) error {
	p, err := v.q.place(account)
	if err == nil {
		err = p.moved(true)
	}
	return v.wrap("place", err)
}

// Place is where the account is, as this shard knows it.
func (v *View) Place(account uint64) (Place, error) {
	p, err := v.q.place(account)
	return p, v.wrap("place", err)
}

// step changes the place, if the fence allows it and next gives no error.
func (t *Txn) step(account, fence uint64, next func(now Place, exists bool) (Place, error)) error {
	if t.err != nil {
		return t.err
	}
	a, err := t.account(account)
	if err != nil {
		return err
	}
	if fence < a.place.Fence {
		return ErrFenced
	}
	p, err := next(a.place, a.exists)
	if err != nil || p == a.place {
		return err
	}
	if err := t.put(t.k.place(account), p.encode()); err != nil {
		return err
	}
	a.place = p
	return nil
}

// Arrive has the shard take the account's keys. ErrHere if it has the account, ErrSwept until nothing is left of an earlier time, ErrFenced.
func (t *Txn) Arrive(account, fence uint64, from uint32) error {
	return t.settle("arrive", t.step(account, fence, func(now Place, exists bool) (Place, error) {
		if now.State == Leaving || now.State == Here && (exists || now.Fence > 0) {
			return now, ErrHere
		}
		buried, err := t.buried(account)
		if err == nil && buried {
			err = ErrSwept
		}
		if err != nil {
			return now, err
		}
		return Place{State: Arriving, Fence: fence, Shard: from}, nil
	}))
}

// arriving says ErrFenced of an account that does not arrive in the move with this fence.
func (t *Txn) arriving(account, fence uint64) error {
	return t.step(account, fence, func(now Place, _ bool) (Place, error) {
		if now.State != Arriving || now.Fence != fence {
			return now, ErrFenced
		}
		return now, nil
	})
}

// Arrived notes which volumes the other shard may refer to in vain: so may this one now.
func (t *Txn) Arrived(account, fence uint64, early []Early) error {
	err := t.arriving(account, fence)
	for _, e := range early {
		if err == nil {
			err = t.MarkEarly(e.Volume)
		}
	}
	return t.settle("arrived", err)
}

// Activate makes an account that arrived this shard's. The other one has given it away before.
func (t *Txn) Activate(account, fence uint64) error {
	return t.settle("activate", t.step(account, fence, func(now Place, _ bool) (Place, error) {
		if now.State == Arriving || now.State == Here && now.Fence > 0 {
			return Place{Fence: fence}, nil
		}
		return now, now.moved(false)
	}))
}

// Freeze ends changes of the account, for it is to go to another shard.
func (t *Txn) Freeze(account, fence uint64, to uint32) error {
	return t.settle("freeze", t.step(account, fence, func(now Place, _ bool) (Place, error) {
		if now.State != Here && now.State != Leaving {
			return now, now.moved(false)
		}
		return Place{State: Leaving, Fence: fence, Shard: to}, nil
	}))
}

// Thaw takes Freeze back.
func (t *Txn) Thaw(account, fence uint64) error {
	return t.settle("thaw", t.step(account, fence, func(now Place, _ bool) (Place, error) {
		if now.State != Here && now.State != Leaving {
			return now, now.moved(false)
		}
		return Place{Fence: fence}, nil
	}))
}

// Release gives a frozen account away: shard to has had it since entry at of its log.
func (t *Txn) Release(account, fence uint64, to uint32, at uint64) error {
	return t.settle("release", t.step(account, fence, func(now Place, _ bool) (Place, error) {
		switch {
		case now.State == Leaving:
			return Place{State: Gone, Fence: fence, Shard: to, At: at}, nil
		case now.State == Gone && now.Shard == to:
			return now, nil
		}
		return now, ErrHere
	}))
}

// Drop removes what the shard has of an account that is Gone, or that was Arriving and comes from shard to after all: all but its message
// rows at once, those with the graves of later entries. It buries a number of mailboxes behind the one with the id after, and says at which it
// stopped; 0 is the end.
func (t *Txn) Drop(account, fence uint64, to, after uint32) (stopped uint32, err error) {
	err = t.step(account, fence, func(now Place, exists bool) (Place, error) {
		switch {
		case now.State == Arriving || now == Place{} && !exists: // or it never began to
			return Place{State: Gone, Fence: fence, Shard: to}, nil
		case now.State == Gone:
			now.Fence = fence
			return now, nil
		}
		return now, ErrHere
	})
	if err == nil {
		stopped, err = t.drop(account, after)
	}
	return stopped, t.settle("drop", err)
}

func (t *Txn) drop(account uint64, from uint32) (stopped uint32, err error) {
	t.forgetAccount(account)
	for _, tag := range accountTags {
		if tag == tagMessage {
			continue
		}
		if err := t.removePrefix(t.k.account(account, tag)); err != nil {
			return 0, err
		}
	}
	it, err := t.b.NewIter(iterBounds(t.k.mailbox(mailboxKey{account, from}, tagMessage), after(t.k.account(account, tagMessage))))
	if err != nil {
		return 0, err
	}
	n := 0
	var boxes []uint32
	for ok := it.First(); ok; n++ {
		if len(it.Key()) != mailboxLen+4 {
			return 0, joinClose(t.q.corrupt(it.Key(), "length of a message's key"), it)
		}
		id := keyMailbox(it.Key())
		if n == dropAtOnce {
			stopped = id
			break
		}
		boxes = append(boxes, id)
		ok = it.SeekGE(after(t.k.mailbox(mailboxKey{account, id}, tagMessage)))
	}
	if err := it.Close(); err != nil {
		return 0, err
	}
	for _, id := range boxes {
		if err := t.dig(mailboxKey{account, id}); err != nil {
			return 0, err
		}
	}
	return stopped, nil
}

// buried says whether rows of the account wait for being swept.
func (t *Txn) buried(account uint64) (found bool, err error) {
	if t.s.graves == gravesNone {
		return false, nil
	}
	prefix := t.k.root(tagGrave)
	err = t.q.scanPrefix(prefix, func(key, _ []byte) error {
		rest := key[len(prefix):]
		if len(rest) != 8+8+4 {
			return t.q.corrupt(key, "length of a grave's key")
		}
		if binary.BigEndian.Uint64(rest[8:]) == account {
			found = true
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// forgetAccount has what was decoded of an account read again: its keys change under it.
func (t *Txn) forgetAccount(account uint64) {
	delete(t.accounts, account)
	t.s.cache.accounts.drop(account)
	of := func(m mailboxKey, _ *mailboxState) bool { return m.account == account }
	for _, cached := range []map[mailboxKey]*mailboxState{t.s.cache.mailboxes.young, t.s.cache.mailboxes.old, t.mailboxes} {
		maps.DeleteFunc(cached, of)
	}
	t.touched = slices.DeleteFunc(t.touched, func(mb *mailboxState) bool { return mb.key.account == account })
}

// Pair is one of an account's keys, from its tag on, and the value as it is stored.
type Pair struct {
	Key   []byte `cbor:"1,keyasint"`
	Value []byte `cbor:"2,keyasint,omitempty"`
}

// MaxImportPairs is how many keys one Import takes at most.
const MaxImportPairs = 4096

// Import writes and removes keys of an account that is Arriving, as another shard has them.
func (t *Txn) Import(account, fence uint64, puts []Pair, removes [][]byte) error {
	err := t.arriving(account, fence)
	if err == nil {
		t.forgetAccount(account)
		err = t.importPairs(account, puts, removes)
	}
	return t.settle("import", err)
}

func (t *Txn) importPairs(account uint64, puts []Pair, removes [][]byte) error {
	if len(puts)+len(removes) > MaxImportPairs {
		return &LimitError{What: "keys in an import", Limit: MaxImportPairs}
	}
	for _, key := range removes {
		if err := checkSuffix(key); err != nil {
			return err
		}
	}
	rows, modseqs := make([]coldRow, len(puts)), make([]uint64, len(puts))
	for i, p := range puts {
		err := checkSuffix(p.Key)
		if err == nil && p.Key[0] == tagMessage {
			rows[i], err = decodeCold(p.Value)
		}
		if err == nil && p.Key[0] == tagFlags {
			var row hotRow
			row, err = decodeHot(p.Value)
			modseqs[i] = row.modseq
		}
		if err != nil {
			return fmt.Errorf("%w: pair %d: %w", ErrInvalidName, i, err)
		}
	}
	for _, key := range removes {
		if err := t.supersede(account, key, 0); err != nil {
			return err
		}
		if key[0] == tagMailbox {
			if err := t.buryKeys(mailboxKey{account, binary.BigEndian.Uint32(key[1:])}); err != nil {
				return err
			}
		}
		if err := t.remove(append(t.k.resident(account), key...)); err != nil {
			return err
		}
	}
	for i, p := range puts {
		if err := t.supersede(account, p.Key, modseqs[i]); err != nil {
			return err
		}
		if err := t.put(append(t.k.resident(account), p.Key...), p.Value); err != nil {
			return err
		}
		if p.Key[0] == tagMessage {
			m, uid := suffixMessage(account, p.Key)
			t.changeRef(rows[i].ref, m, uid, true)
		}
	}
	return t.writeRefs()
}

func checkSuffix(key []byte) error {
	switch {
	case len(key) == 0 || slices.Index(accountTags, key[0]) < 0:
		return fmt.Errorf("%w: %.20x is no key of an account", ErrInvalidName, key)
	case (key[0] == tagMessage || key[0] == tagFlags) && len(key) != 1+4+4, key[0] == tagMailbox && len(key) != 1+4, len(key) > MaxRecordKey:
		return fmt.Errorf("%w: a key of %d bytes", ErrInvalidName, len(key))
	}
	return nil
}

func suffixMessage(account uint64, key []byte) (mailboxKey, uint32) {
	return mailboxKey{account, binary.BigEndian.Uint32(key[1:])}, binary.BigEndian.Uint32(key[5:])
}

// supersede removes what hangs on a message's row that is about to change or go: its reference, or the change of its flags unless that is the one of modseq.
func (t *Txn) supersede(account uint64, key []byte, modseq uint64) error {
	switch key[0] {
	case tagMessage:
		return t.unrefer(account, key)
	case tagFlags:
		m, uid := suffixMessage(account, key)
		var old hotRow
		there, err := t.q.get(t.k.uid(m, tagFlags, uid), func(v []byte) (err error) {
			old, err = decodeHot(v)
			return err
		})
		if err != nil || !there || old.fresh() || old.modseq == modseq {
			return err
		}
		return t.remove(t.k.modseq(m, tagChange, old.modseq, uid))
	}
	return nil
}

// unrefer removes the reference of a message row that is about to change or go, if there is one.
func (t *Txn) unrefer(account uint64, key []byte) error {
	m, uid := suffixMessage(account, key)
	var old coldRow
	there, err := t.q.get(t.k.uid(m, tagMessage, uid), func(v []byte) (err error) {
		old, err = decodeCold(v)
		old.summary = nil
		return err
	})
	if err == nil && there {
		t.changeRef(old.ref, m, uid, false)
	}
	return err
}

// Account calls fn for every key of an account, from its tag on, with its stored value, ascending. Rows of deleted mailboxes are left out, and
// so is its place. fn must not keep what it gets.
func (v *View) Account(account uint64, fn func(key, value []byte) error) error {
	prefix := v.q.k.resident(account)
	there := make(map[uint32]bool)
	return v.wrap("account", v.q.scanPrefix(prefix, func(key, value []byte) error {
		switch key[len(prefix)] {
		case tagPlace:
			return nil
		case tagMailbox:
			there[keyMailbox(key)] = true
		case tagMessage:
			if len(key) != mailboxLen+4 || !there[keyMailbox(key)] {
				return nil
			}
		}
		return fn(key[len(prefix):], value)
	}))
}
