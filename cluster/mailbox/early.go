package mailbox

import (
	"errors"
	"slices"
	"sync"

	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Early is what one replica knows of the messages that were entered before their bytes were known to be on a second disk ("Delivery in
// one round trip" in docs/architecture.md, step 7). It is in memory only: the state machine adds messages before they become visible,
// whoever finds out how far a volume is durable takes them away, and after a start or a snapshot it is read from the markers, which
// tell less: then every account may have such messages, up to the last record that the shard refers to, until the volume's end is known
// and they are read one by one. Safe for concurrent use.
type Early struct {
	mu      sync.Mutex // guards what follows
	unknown bool       // the replica's state is being replaced
	volumes map[volume.ID]*unsure
	last    uint64        // number of the latest addition
	changed chan struct{} // closed and replaced when messages are gone, or more of them is known
}

// unsure are the messages with bytes in one volume.
type unsure struct {
	list []unsureMessage
	all  uint64 // of every account, up to this record; 0 is none
	at   uint64 // number of the latest addition to all
	read bool   // all is what a state refers to, and nothing else
}

type unsureMessage struct {
	record  uint64
	account uint64
	mailbox uint32 // 0: it may be in any of the account's
	at      uint64 // number of its addition
}

// maxUnsure is how many messages of a volume are remembered one by one. In a second, after which a volume that does not get on is
// fenced, there are fewer.
const maxUnsure = 1 << 16

// Need is a record that must be durable on a second disk before what refers to it is shown.
type Need struct {
	Volume volume.ID
	Record uint64
}

func newEarly() *Early {
	return &Early{volumes: make(map[volume.ID]*unsure), changed: make(chan struct{})}
}

// add notes a message that is about to become visible.
func (e *Early) add(ref volume.Ref, account uint64, mailbox uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	u := e.volume(ref.Volume)
	if len(u.list) >= maxUnsure {
		for _, m := range u.list {
			u.all = max(u.all, m.record)
		}
		u.list, u.all, u.at, u.read = nil, max(u.all, ref.Record), e.last, false
		return
	}
	u.list = append(u.list, unsureMessage{record: ref.Record, account: account, mailbox: mailbox, at: e.last})
}

// volume is called under mu.
func (e *Early) volume(id volume.ID) *unsure {
	u := e.volumes[id]
	if u == nil {
		u = new(unsure)
		e.volumes[id] = u
	}
	return u
}

// spread notes that an account's messages may be about to be in other folders as well.
func (e *Early) spread(account uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.volumes {
		for i := range u.list {
			if u.list[i].account == account {
				u.list[i].mailbox = 0
			}
		}
	}
}

// mark is the number of the latest addition, for drop.
func (e *Early) mark() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// drop forgets what was added of a volume up to a mark: the volume has been settled, and that is visible.
func (e *Early) drop(id volume.ID, mark uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.volumes[id]
	if u == nil {
		return
	}
	u.list = slices.DeleteFunc(u.list, func(m unsureMessage) bool { return m.at <= mark })
	if u.at <= mark {
		u.all = 0
	}
	e.tidy(id, u)
	e.wake()
}

// Durable notes that a volume's records up to one are on a second disk.
func (e *Early) Durable(id volume.ID, through uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.volumes[id]
	if u == nil {
		return
	}
	u.list = slices.DeleteFunc(u.list, func(m unsureMessage) bool { return m.record <= through })
	if u.all <= through {
		u.all = 0
	}
	e.tidy(id, u)
}

// tidy is called under mu.
func (e *Early) tidy(id volume.ID, u *unsure) {
	if len(u.list) == 0 && u.all == 0 {
		delete(e.volumes, id)
	}
}

// Ended notes that a volume's records up to last are durable for good and the others lost: only accounts that refer to those still wait. v was opened, and changed is
// what Needs gave, before that was asked.
func (e *Early) Ended(v *index.View, changed <-chan struct{}, id volume.ID, last uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.volumes[id]
	if u == nil || !u.read || u.all <= last || e.unknown || e.changed != changed {
		return nil
	}
	lost := u.list
	err := v.HoldersBehind(id, last, func(h index.Holder) error {
		if len(lost) == maxUnsure {
			return errMany
		}
		lost = append(lost, unsureMessage{record: h.Record, account: h.Account, at: u.at})
		return nil
	})
	if errors.Is(err, errMany) {
		return nil
	}
	if err == nil {
		u.list, u.all = lost, 0
		e.tidy(id, u)
		e.wake()
	}
	return err
}

var errMany = errors.New("too many")

// wake is called under mu.
func (e *Early) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Changed is closed when a view that was opened before may show what has been taken away since, or what was not known of it is.
func (e *Early) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// Needs lists what must be durable before a view may be shown, of one folder or with mailbox 0 of all that an account has. The view was
// opened before this call, and after a call of Changed, which must have given the same channel: else what the view shows may have been
// dropped here. When something is not known yet, or lost, another view is to be opened once changed is closed.
func (e *Early) Needs(account uint64, mailbox uint32) (needs []Need, known bool, changed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, u := range e.volumes {
		record := u.all
		for _, m := range u.list {
			if m.account == account && (mailbox == 0 || m.mailbox == 0 || m.mailbox == mailbox) {
				record = max(record, m.record)
			}
		}
		if record > 0 {
			needs = append(needs, Need{Volume: id, Record: record})
		}
	}
	return needs, !e.unknown, e.changed
}

// Open lists all volumes with the highest record of each that is not known to be durable on a second disk.
func (e *Early) Open() (needs []Need) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, u := range e.volumes {
		n := Need{Volume: id, Record: u.all}
		for _, m := range u.list {
			n.Record = max(n.Record, m.record)
		}
		needs = append(needs, n)
	}
	return needs
}

// replacing has readers wait until load.
func (e *Early) replacing() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unknown = true
}

// load adds what the markers of a state tell, while nothing is applied.
func (e *Early) load(store *index.Shard) (err error) {
	v := store.View()
	list, err := v.EarlyVolumes()
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.volumes {
		if !slices.ContainsFunc(list, func(m index.Early) bool { return m.Volume == id }) {
			delete(e.volumes, id) // settled in the log that a snapshot took the place of
		}
	}
	for _, m := range list {
		if m.Last == 0 {
			continue
		}
		e.last++
		u := e.volume(m.Volume)
		u.all, u.at, u.read = max(u.all, m.Last), e.last, true
	}
	e.unknown = false
	e.wake()
	return nil
}
