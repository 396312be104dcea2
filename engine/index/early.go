package index

import (
	"encoding/binary"
	"errors"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2"

	"hongyan/engine/volume"
)

// A message may be entered as soon as its bytes are durable on the disk of its volume's primary, before another copy has them
// ("Delivery in one round trip" in docs/architecture.md). The shard then has a marker of the volume. Once the volume is sealed, its
// last record is known, and Settle removes the entries of records behind it, which nobody was told of, and the marker.

// MarkEarly notes that the shard may have entries of a volume whose bytes were not known to be durable on every copy.
func (t *Txn) MarkEarly(id volume.ID) error {
	if t.err != nil {
		return t.err
	}
	if t.marked == id && id != 0 {
		return nil
	}
	marked, err := t.q.has(t.k.early(id))
	if err == nil && !marked {
		err = t.put(t.k.early(id), presence())
	}
	if err == nil {
		t.marked = id
	}
	return t.settle("mark early", err)
}

// IsEarly says whether a volume has a marker.
func (t *Txn) IsEarly(id volume.ID) (bool, error) {
	if t.err != nil {
		return false, t.err
	}
	marked, err := t.q.has(t.k.early(id))
	return marked, t.settle("early", err)
}

// Rebound is a message whose bytes are where Rebind was told.
type Rebound struct {
	Mailbox uint32
	UID     uint32
}

// Rebind gives the account's messages with the old reference the new one; UIDs and modseqs stay, for what they show is the same. If
// there are none it says which have the new one already.
func (t *Txn) Rebind(account uint64, old, now volume.Ref) ([]Rebound, error) {
	if t.err != nil {
		return nil, t.err
	}
	there, err := t.rebind(account, old, now)
	return there, t.settle("rebind", err)
}

func (t *Txn) rebind(account uint64, old, now volume.Ref) ([]Rebound, error) {
	if err := t.writeRefs(); err != nil { // for the scans
		return nil, err
	}
	found, err := t.referring(account, old)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return t.referring(account, now)
	}
	if err := t.admit(now.Volume); err != nil {
		return nil, err
	}
	for _, r := range found {
		m := mailboxKey{account, r.Mailbox}
		key := t.k.uid(m, tagMessage, r.UID)
		var row coldRow
		ok, err := t.q.get(key, func(v []byte) (err error) {
			row, err = decodeCold(v)
			row.summary = append([]byte(nil), row.summary...)
			return err
		})
		if err == nil && !ok {
			err = t.q.corrupt(key, "message without this row")
		}
		if err != nil {
			return nil, err
		}
		row.ref = now
		if err := t.put(key, row.encode()); err != nil {
			return nil, err
		}
		t.changeRef(old, m, r.UID, false)
		t.changeRef(now, m, r.UID, true)
	}
	return found, nil
}

// referring lists an account's messages with a reference, in mailboxes that are there.
func (t *Txn) referring(account uint64, ref volume.Ref) (list []Rebound, err error) {
	prefix := t.k.ref(ref, mailboxKey{account: account}, 0)
	prefix = prefix[:len(prefix)-8]
	err = t.q.scanPrefix(prefix, func(key, _ []byte) error {
		_, m, ok := splitRef(key)
		if !ok {
			return t.q.corrupt(key, "length of a reference's key")
		}
		list = append(list, Rebound{Mailbox: m.id, UID: refUID(key)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, r := range list {
		mb, err := t.mailbox(mailboxKey{account, r.Mailbox})
		if err != nil {
			return nil, err
		}
		if mb.exists {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// refUID is the UID at the end of a reference's key.
func refUID(key []byte) uint32 { return binary.BigEndian.Uint32(key[refLen-4:]) }

// settleAtOnce is how many messages one Settle removes at most.
const settleAtOnce = 4096

// Settle removes the messages whose bytes are in a volume's records behind last, as an expunge does, and says in which mailboxes
// some were. Accounts that are moving wait. When none is left it removes the volume's marker; until then it is to be called again.
func (t *Txn) Settle(id volume.ID, last uint64) (boxes []Reference, err error) {
	if t.err != nil {
		return nil, t.err
	}
	boxes, err = t.settleVolume(id, last)
	return boxes, t.settle("settle", err)
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

func (t *Txn) settleVolume(id volume.ID, last uint64) (boxes []Reference, err error) {
	if err := t.writeRefs(); err != nil { // for the scan
		return nil, err
	}
	sets := make(map[mailboxKey]*roaring.Bitmap)
	n, moving := 0, false
	err = t.q.scan(t.k.numbered(id, last+1), after(t.k.volume(id)), func(key, _ []byte) error {
		_, m, ok := splitRef(key)
		if !ok {
			return t.q.corrupt(key, "length of a reference's key")
		}
		a, err := t.account(m.account)
		if err != nil || a.place.State != Here { // both shards of a move hold the same until it is Gone from one
			moving = moving || err == nil && a.place.State != Gone
			return err
		}
		mb, err := t.mailbox(m)
		if err != nil || !mb.exists {
			return err // of a deleted one: its rows will be swept
		}
		if sets[m] == nil {
			sets[m] = roaring.New()
			boxes = append(boxes, Reference{Account: m.account, Mailbox: m.id})
		}
		sets[m].Add(refUID(key))
		if n++; n == settleAtOnce {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for _, b := range boxes {
		m := mailboxKey{b.Account, b.Mailbox}
		mb, err := t.mailbox(m)
		if err == nil {
			err = t.eraseAll(mb, sets[m])
		}
		if err != nil {
			return nil, err
		}
	}
	if n == settleAtOnce || moving {
		return boxes, nil
	}
	t.marked = 0
	return boxes, t.remove(t.k.early(id))
}

// Early is a volume with a marker.
type Early struct {
	Volume volume.ID
	Last   uint64 // highest record that the shard refers to
}

// EarlyVolumes lists the volumes that have a marker.
func (v *View) EarlyVolumes() (list []Early, err error) {
	prefix := v.q.k.root(tagEarly)
	err = v.q.scanPrefix(prefix, func(key, _ []byte) error {
		if len(key) != len(prefix)+8 {
			return v.q.corrupt(key, "length of a marker's key")
		}
		list = append(list, Early{Volume: volume.ID(binary.BigEndian.Uint64(key[len(prefix):]))})
		return nil
	})
	for i := range list {
		if err != nil {
			break
		}
		list[i].Last, err = v.lastReference(list[i].Volume)
	}
	return list, v.wrap("early volumes", err)
}

// IsEarly says whether a volume has a marker.
func (v *View) IsEarly(id volume.ID) (bool, error) {
	marked, err := v.q.has(v.q.k.early(id))
	return marked, v.wrap("early", err)
}

func (v *View) lastReference(id volume.ID) (record uint64, err error) {
	prefix := v.q.k.volume(id)
	it, err := v.q.r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return 0, err
	}
	if it.Last() {
		var ok bool
		if record, _, ok = splitRef(it.Key()); !ok {
			return 0, joinClose(v.q.corrupt(it.Key(), "length of a reference's key"), it)
		}
	}
	return record, it.Close()
}
