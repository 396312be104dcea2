package mailbox

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Event says that something in a folder changed. Mailbox 0 stands for the account's folders as such.
type Event struct {
	Account uint64 `cbor:"1,keyasint"`
	Mailbox uint32 `cbor:"2,keyasint"`
}

// Machine applies commands to one shard's part of the index.
type Machine struct {
	// Arrives, if set, is told of an account that is about to become this shard's, before anybody can see it.
	Arrives func(account uint64)

	publish func([]Event) // after the batch is visible; nil means "look at everything again"
	pending []Event
	early   *Early
	settled []settled    // by the batch that is not visible yet
	state   *index.Shard // nil: nobody reads early
}

// settled is a volume of which nothing that was added up to mark is open any more.
type settled struct {
	volume volume.ID
	mark   uint64
}

// NewMachine makes a state machine that tells publish what each batch changed.
func NewMachine(publish func([]Event)) *Machine { return &Machine{publish: publish, early: newEarly()} }

// Track has the machine keep what readers of a shard's state must wait for, from that state on. It is called before anything is applied.
func (m *Machine) Track(store *index.Shard) (*Early, error) {
	m.state = store
	if err := m.early.load(store); err != nil {
		return nil, fmt.Errorf("read the markers of early entries: %w", err)
	}
	return m.early, nil
}

// Committed implements shard.Machine.
func (m *Machine) Committed() {
	for _, s := range m.settled {
		m.early.drop(s.volume, s.mark)
	}
	m.settled = nil
	if len(m.pending) > 0 {
		m.publish(m.pending)
		m.pending = nil
	}
}

// Replacing implements shard.Replacer.
func (m *Machine) Replacing() { m.early.replacing() }

// Replaced implements shard.Replacer.
func (m *Machine) Replaced() error {
	if m.state == nil {
		return nil
	}
	return m.early.load(m.state)
}

// Reloaded implements shard.Machine.
func (m *Machine) Reloaded() {
	m.pending, m.settled = nil, nil
	m.publish(nil)
}

// Apply implements shard.Machine. A command that cannot be decoded is refused, the same on every replica.
func (m *Machine) Apply(t *index.Txn, now int64, body []byte) ([]byte, error) {
	var c Command
	if err := codec.Unmarshal(body, &c); err != nil {
		return codec.Marshal(&Result{Code: Invalid, Message: err.Error()})
	}
	result, err := m.execute(t, now, &c)
	if err != nil {
		code, refused := refusal(err)
		if !refused {
			return nil, fmt.Errorf("apply a mailbox command: %w", err)
		}
		result = &Result{Code: code, Message: err.Error()}
		result.Shard, result.At = whither(err)
	}
	return codec.Marshal(result)
}

// refusal tells a command that the state does not allow from a store that failed.
func refusal(err error) (Code, bool) {
	var limit *index.LimitError
	var moved *index.MovedError
	var quota *index.QuotaError
	switch {
	case errors.As(err, &moved):
		return Moved, true
	case errors.Is(err, index.ErrFenced):
		return Fenced, true
	case errors.Is(err, index.ErrHere):
		return Here, true
	case errors.Is(err, index.ErrSwept):
		return Swept, true
	case errors.Is(err, index.ErrNoMailbox), errors.Is(err, index.ErrNoAccount):
		return NoMailbox, true
	case errors.Is(err, index.ErrExists):
		return Exists, true
	case errors.Is(err, index.ErrInvalidName):
		return InvalidName, true
	case errors.Is(err, index.ErrHasChildren):
		return HasChildren, true
	case errors.Is(err, index.ErrCondemned):
		return Condemned, true
	case errors.Is(err, index.ErrNoMessage):
		return NoMessage, true
	case errors.As(err, &limit):
		return Limit, true
	case errors.As(err, &quota):
		return OverQuota, true
	case errors.Is(err, errNoRight):
		return NoRight, true
	case errors.Is(err, errInvalid):
		return Invalid, true
	}
	return OK, false
}

// whither says of a refusal because an account has moved where it is, as far as that is known.
func whither(err error) (shard uint32, at uint64) {
	var moved *index.MovedError
	if errors.As(err, &moved) {
		return moved.Shard, moved.At
	}
	return 0, 0
}

// errInvalid is wrapped by errors about a command's own form.
var errInvalid = errors.New("invalid command")

func (m *Machine) execute(t *index.Txn, now int64, c *Command) (*Result, error) {
	switch {
	case c.As != nil:
		return m.guestCommand(t, now, c.As)
	case c.Deliver != nil:
		return m.deliver(t, now, c.Deliver)
	case c.Append != nil:
		return m.append(t, now, c.Append)
	case c.Store != nil:
		return m.storeIn(t, c.Store, index.AllFlags())
	case c.Copy != nil:
		return m.copyIn(t, now, c.Copy, index.AllFlags())
	case c.Expunge != nil:
		return m.expunge(t, c.Expunge)
	case c.Ensure != nil:
		return &Result{}, m.ensure(t, c.Ensure.Account, now)
	case c.Condemn != nil:
		return &Result{}, t.Condemn(c.Condemn.Volume, c.Condemn.Generation)
	case c.Rebind != nil:
		return m.rebind(t, now, c.Rebind)
	case c.Settle != nil:
		return m.settle(t, c.Settle)
	case c.Move != nil:
		return m.move(t, c.Move)
	case c.Import != nil:
		return &Result{}, t.Import(c.Import.Account, c.Import.Fence, c.Import.Puts, c.Import.Removes)
	case c.Told != nil:
		return &Result{}, told(t, c.Told)
	case c.Revalidate != nil:
		return m.revalidate(t, now, c.Revalidate)
	case c.Amend != nil:
		a := c.Amend
		return m.mend(t, a.Account, a.Mailbox, func() (bool, error) { return t.Amend(a.Account, a.Mailbox, &a.Entry) })
	case c.Recount != nil:
		r := c.Recount
		return m.mend(t, r.Account, r.Mailbox, func() (bool, error) { return t.Recount(r.Account, r.Mailbox) })
	case c.AppendAll != nil:
		return m.appendAll(t, now, c.AppendAll)
	case c.Replace != nil:
		return m.replace(t, now, c.Replace)
	case c.Annotate != nil:
		return m.annotate(t, now, c.Annotate)
	case c.Grant != nil:
		return m.grant(t, now, c.Grant)
	case c.Sharer != nil:
		return m.sharer(t, now, c.Sharer)
	}
	return m.folders(t, now, c)
}

func told(t *index.Txn, c *Told) error {
	for _, mark := range c.Marks {
		err := t.Changeable(mark.Account)
		if err == nil {
			err = t.Told(mark.Account, mark.Mailbox, mark.Below)
		}
		if _, refused := refusal(err); err != nil && !refused {
			return err
		}
	}
	return nil
}

func (m *Machine) revalidate(t *index.Txn, now int64, c *Revalidate) (*Result, error) {
	for _, account := range c.Accounts {
		if err := t.Revalidate(account, now); err != nil {
			if _, full := refusal(err); full { // of folders: nothing of it was changed
				continue
			}
			return nil, err
		}
		m.note(account, 0)
	}
	return &Result{}, nil
}

// mend has a folder of an account that is here corrected.
func (m *Machine) mend(t *index.Txn, account uint64, box uint32, correct func() (bool, error)) (*Result, error) {
	if err := t.Changeable(account); err != nil {
		return nil, err
	}
	done, err := correct()
	if err != nil {
		return nil, err
	}
	if done {
		m.note(account, box)
	}
	return &Result{Done: done}, nil
}

// folders executes the commands about folders themselves. Also these may be the first that an account sees.
func (m *Machine) folders(t *index.Txn, now int64, c *Command) (*Result, error) {
	var account uint64
	result := &Result{}
	var run func() error
	switch {
	case c.Create != nil:
		account = c.Create.Account
		run = func() error {
			box, err := t.CreateMailbox(account, c.Create.Name, c.Create.SpecialUse, now)
			result.Mailbox = &box
			return err
		}
	case c.Delete != nil:
		account = c.Delete.Account
		run = func() error { return t.DeleteMailbox(account, c.Delete.Name) }
	case c.Rename != nil:
		account = c.Rename.Account
		run = func() error { return t.RenameMailbox(account, c.Rename.From, c.Rename.To, now) }
	case c.Subscribe != nil:
		account = c.Subscribe.Account
		run = func() error { return t.Subscribe(account, c.Subscribe.Name, c.Subscribe.On) }
	default:
		return nil, fmt.Errorf("%w: it names no operation that this version knows", errInvalid)
	}
	if err := m.ensure(t, account, now); err != nil {
		return nil, err
	}
	if c.Rename != nil {
		m.early.spread(account) // what was in INBOX may be elsewhere
	}
	if err := run(); err != nil {
		return nil, err
	}
	m.note(account, 0)
	return result, nil
}

// ensure gives an account that is this shard's its first folders, if it has none.
func (m *Machine) ensure(t *index.Txn, account uint64, now int64) error {
	if err := t.Changeable(account); err != nil {
		return err
	}
	return t.EnsureAccount(account, now)
}

func (m *Machine) note(account uint64, mailbox uint32) {
	e := Event{Account: account, Mailbox: mailbox}
	if n := len(m.pending); n == 0 || m.pending[n-1] != e {
		m.pending = append(m.pending, e)
	}
}

func (w *Message) entry(now int64) index.NewMessage {
	return index.NewMessage{
		Flags: index.Flags{System: w.System, Keywords: w.Keywords},
		Date:  w.Date, Zone: w.Zone, Ref: w.Ref, Size: w.Ref.Length, Summary: w.Summary, SaveDate: now,
	}
}

// each does something for every account and notes who refuses it; one that cannot take it does not keep it from the others. Bytes that no
// account may refer to are refused as a whole.
func (r *Result) each(accounts []uint64, do func(i int, account uint64) error) error {
	for i, account := range accounts {
		err := do(i, account)
		if errors.Is(err, index.ErrCondemned) {
			return err
		}
		if code, refused := refusal(err); refused {
			refusal := Refusal{Account: account, Code: code, Message: err.Error()}
			refusal.Shard, refusal.At = whither(err)
			r.Refused = append(r.Refused, refusal)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// deliver gives every account its entry.
func (m *Machine) deliver(t *index.Txn, now int64, c *Deliver) (*Result, error) {
	result := &Result{}
	err := result.each(c.Accounts, func(i int, account uint64) error {
		box, _, err := m.add(t, now, account, Inbox, termsOf(c.Terms, i), c.Message.entry(now))
		if err != nil {
			return err
		}
		if c.Early {
			m.early.add(c.Message.Ref, account, box.ID)
		}
		m.note(account, box.ID)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.Early { // step 3
		return result, t.MarkEarly(c.Message.Ref.Volume)
	}
	return result, nil
}

// Inbox is where deliveries go that do not say otherwise.
const Inbox = "INBOX"

// add enters messages in a folder by name, or in the one that the terms mean, making the account's first folders before. They are numbered without gaps.
func (m *Machine) add(t *index.Txn, now int64, account uint64, name string, terms Terms, list ...index.NewMessage) (box index.Mailbox, first uint32, err error) {
	if err := m.ensure(t, account, now); err != nil {
		return box, 0, err
	}
	if box, err = m.folder(t, account, name, terms.Detail); err != nil {
		return box, 0, err
	}
	if terms.Limits != nil {
		more := index.Usage{Messages: uint64(len(list))}
		for i := range list {
			more.Bytes += list[i].Size
		}
		if err := t.Allow(account, *terms.Limits, more); err != nil {
			return box, 0, err
		}
	}
	uids, _, err := t.AddMessages(account, box.ID, list)
	if err != nil {
		return box, 0, err
	}
	return box, uids[0], nil
}

// folder is the one that a detail means, or of a name.
func (m *Machine) folder(t *index.Txn, account uint64, name, detail string) (index.Mailbox, error) {
	if detail != "" {
		box, err := t.MailboxLike(account, detail)
		if !errors.Is(err, index.ErrNoMailbox) {
			return box, err
		}
	}
	return t.MailboxByName(account, name)
}

func (m *Machine) append(t *index.Txn, now int64, c *Append) (*Result, error) {
	box, uid, err := m.add(t, now, c.Account, c.Mailbox, Terms{Limits: c.Limits}, c.Message.entry(now))
	if err != nil {
		return nil, err
	}
	if c.Early { // step 3
		m.early.add(c.Message.Ref, c.Account, box.ID)
		err = t.MarkEarly(c.Message.Ref.Volume)
	}
	m.note(c.Account, box.ID)
	return &Result{UIDValidity: box.UIDValidity, FirstUID: uid}, err
}

// rebind is step 5: afterwards every account has the message once, and with the new reference. For a single account the result says where.
func (m *Machine) rebind(t *index.Txn, now int64, c *Rebind) (*Result, error) {
	result := &Result{}
	err := result.each(c.Accounts, func(i int, account uint64) error {
		box, uid, err := m.rebindOne(t, now, account, termsOf(c.Terms, i), c)
		if err == nil && len(c.Accounts) == 1 {
			result.UIDValidity, result.FirstUID = box.UIDValidity, uid
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// rebindOne gives the folder that the message was for and its UID there, 0 if it was moved.
func (m *Machine) rebindOne(t *index.Txn, now int64, account uint64, terms Terms, c *Rebind) (box index.Mailbox, uid uint32, err error) {
	if err := t.Changeable(account); err != nil {
		return box, 0, err
	}
	there, err := t.Rebind(account, c.Old, c.Message.Ref)
	if err != nil {
		return box, 0, err
	}
	if len(there) == 0 {
		box, uid, err := m.add(t, now, account, c.Mailbox, terms, c.Message.entry(now))
		if err != nil {
			return box, 0, err
		}
		m.note(account, box.ID)
		return box, uid, nil
	}
	if box, err = m.folder(t, account, c.Mailbox, terms.Detail); errors.Is(err, index.ErrNoMailbox) {
		return index.Mailbox{}, 0, nil // it was renamed with the message in it
	}
	for _, r := range there {
		if r.Mailbox == box.ID {
			return box, r.UID, err
		}
	}
	return box, 0, err
}

// settle is step 6.
func (m *Machine) settle(t *index.Txn, c *Settle) (*Result, error) {
	mark := m.early.mark()
	boxes, err := t.Settle(c.Volume, c.Last)
	if err != nil {
		return nil, err
	}
	for _, b := range boxes {
		m.note(b.Account, b.Mailbox)
	}
	more, err := t.IsEarly(c.Volume)
	if err == nil && !more {
		m.settled = append(m.settled, settled{c.Volume, mark})
	}
	return &Result{}, err
}

// storeIn changes flags, those in a scope.
func (m *Machine) storeIn(t *index.Txn, c *Store, scope index.FlagScope) (*Result, error) {
	uids, err := DecodeUIDs(c.UIDs)
	if err != nil {
		return nil, err
	}
	if err := t.Changeable(c.Account); err != nil {
		return nil, err
	}
	flags := index.Flags{System: c.System, Keywords: c.Keywords}
	changed, failed, err := t.SetFlagsOf(scope, c.Account, c.Mailbox, uids, index.FlagOp(c.Op), flags, c.UnchangedSince)
	if err != nil {
		return nil, err
	}
	if len(changed) > 0 {
		m.note(c.Account, c.Mailbox)
	}
	result := &Result{Changed: changed}
	if !few(changed) {
		result.Changed = nil
		set := roaring.New()
		for _, ch := range changed {
			set.Add(ch.UID)
		}
		if result.UIDs, err = EncodeUIDs(set); err != nil {
			return nil, err
		}
	}
	result.Failed, err = EncodeUIDs(failed)
	return result, err
}

// few says whether changes are short enough for a result to carry their flags.
func few(changed []index.FlagChange) bool {
	size := 0
	for i := range changed {
		for _, k := range changed[i].Flags.Keywords {
			size += len(k)
		}
	}
	return len(changed) <= maxChanged && size <= maxChangedBytes
}

// copyIn copies or moves messages, whose copies keep the flags in a scope.
func (m *Machine) copyIn(t *index.Txn, now int64, c *Copy, scope index.FlagScope) (*Result, error) {
	uids, err := DecodeUIDs(c.UIDs)
	if err != nil {
		return nil, err
	}
	if err := t.Changeable(c.Account); err != nil {
		return nil, err
	}
	to, err := t.MailboxByName(c.Account, c.To)
	if err != nil {
		return nil, err
	}
	if c.Limits != nil && !c.Move { // what is moved is held already
		more, err := t.Weigh(c.Account, c.Mailbox, uids)
		if err == nil {
			err = t.Allow(c.Account, *c.Limits, more)
		}
		if err != nil {
			return nil, err
		}
	}
	if !c.Dated {
		now = 0
	}
	from, added, err := t.CopyMessages(c.Account, c.Mailbox, uids, to.ID, c.Move, now)
	if err != nil {
		return nil, err
	}
	result := &Result{UIDValidity: to.UIDValidity}
	if len(from) == 0 {
		return result, nil
	}
	if scope != index.AllFlags() {
		if _, _, err := t.SetFlagsOf(scope.Others(), c.Account, to.ID, roaring.BitmapOf(added...), index.OpSet, index.Flags{}, 0); err != nil {
			return nil, err
		}
	}
	m.early.spread(c.Account)
	result.FirstUID = added[0]
	m.note(c.Account, to.ID)
	if c.Move {
		m.note(c.Account, c.Mailbox)
	}
	result.UIDs, err = EncodeUIDs(roaring.BitmapOf(from...))
	return result, err
}

func (m *Machine) expunge(t *index.Txn, c *Expunge) (*Result, error) {
	uids, err := DecodeUIDs(c.UIDs)
	if err != nil {
		return nil, err
	}
	if err := t.Changeable(c.Account); err != nil {
		return nil, err
	}
	gone, err := t.Expunge(c.Account, c.Mailbox, uids, c.OnlyDeleted)
	if err != nil {
		return nil, err
	}
	if !gone.IsEmpty() {
		m.note(c.Account, c.Mailbox)
	}
	result := &Result{}
	result.UIDs, err = EncodeUIDs(gone)
	return result, err
}

// EncodeUIDs lays a UID set out in roaring's portable format; nil and empty give no bytes.
func EncodeUIDs(set *roaring.Bitmap) ([]byte, error) {
	if set == nil || set.IsEmpty() {
		return nil, nil
	}
	set.RunOptimize()
	b, err := set.ToBytes()
	if err != nil {
		return nil, fmt.Errorf("encode a UID set: %w", err)
	}
	return b, nil
}

// DecodeUIDs reads a UID set.
func DecodeUIDs(b []byte) (*roaring.Bitmap, error) {
	set := roaring.New()
	if len(b) == 0 {
		return set, nil
	}
	if n, err := set.FromBuffer(b); err != nil || n != int64(len(b)) {
		return nil, fmt.Errorf("%w: a UID set of %d bytes: %v", errInvalid, len(b), err)
	}
	if err := set.Validate(); err != nil {
		return nil, fmt.Errorf("%w: a UID set: %v", errInvalid, err)
	}
	return set, nil
}
