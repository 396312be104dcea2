package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Step 5 holds volumes against a shard. A message that the survivor may lack arrived at most slack before its last entry: so far may clocks differ, and so long
// may an append take. It is not in the survivor's folders; but neither is one that was entered and expunged. These are told apart by the requests that
// the shard remembers, the last window of them: if those reach back that far, a message whose request is not among them was never entered.
const (
	slack     = 120     // seconds
	window    = 1 << 18 // requests that a shard remembers (engine/index)
	maxOpen   = 1000    // messages that are listed
	knownSize = 500     // messages that are asked about at once
	skipBack  = 3600    // seconds; a volume that was sealed so long before has nothing of the time that is looked for, whatever clocks did
)

// Mail is a message in a volume, for an operator: `hongyan volume dump VOLUME/RECORD` gives it.
type Mail struct {
	Volume  volume.ID `cbor:"1,keyasint" json:"volume"`
	Record  uint64    `cbor:"2,keyasint" json:"record"`
	Account uint64    `cbor:"3,keyasint" json:"account"` // the first that it was for
	Mailbox string    `cbor:"4,keyasint" json:"mailbox"`
	Arrived int64     `cbor:"5,keyasint" json:"arrived"` // unix seconds
	Why     string    `cbor:"6,keyasint" json:"why"`
}

// holdFor is how long a shard keeps what it entered in vain. It is said anew before each node is asked, and ends when all have looked.
const holdFor = mailTimeout + 10*time.Minute

// noteOf says which messages of a shard are to be looked for, as of before it was recovered.
func noteOf(s *ShardPlan, now int64) directory.RecoveryNote {
	n := directory.RecoveryNote{Shard: s.Shard, Until: now, Certain: s.Last <= window, Hold: now + int64(holdFor/time.Second)}
	if s.Time > 0 {
		n.Since = s.Time - slack
	}
	// The log says how fast requests came. It is shorter than what is remembered: twice that rate must still leave what came since within the window.
	if length := s.Last - s.report.First + 1; s.report.FirstTime > 0 && !n.Certain {
		reach := float64(s.Time-s.report.FirstTime) * float64(window) / float64(length) / 2
		n.Certain = s.report.FirstTime <= n.Since || reach >= slack
	}
	return n
}

// mailRequest has a node look through its volumes.
type mailRequest struct {
	Note     directory.RecoveryNote `cbor:"1,keyasint"`
	Accounts []uint64               `cbor:"2,keyasint,omitempty"`
	Ask      []string               `cbor:"3,keyasint"` // who has the shard's state
}

type mailResponse struct {
	Entered  int      `cbor:"1,keyasint,omitempty"`
	Expunged []record `cbor:"2,keyasint,omitempty"`
	Open     []Mail   `cbor:"3,keyasint,omitempty"`
	More     int      `cbor:"4,keyasint,omitempty"` // of which there is no room in Open
	Unread   int      `cbor:"5,keyasint,omitempty"` // records that could not be read here

	Unopened []volume.ID `cbor:"6,keyasint,omitempty"` // volumes that could not be opened here
	Unsealed int         `cbor:"7,keyasint,omitempty"` // messages left open that another look may enter, once volumes are sealed
}

// record is a place in a volume.
type record struct {
	Volume volume.ID `cbor:"1,keyasint"`
	Record uint64    `cbor:"2,keyasint"`
}

// lookForMail has every node look. What two have copies of is entered once, and told of twice at most: the second finds it entered. The note stays in the directory,
// and keeps everything from being collected, while something is open or was not looked through.
func (r *Recovery) lookForMail(ctx context.Context, job *Job, s *ShardResult, accounts []uint64) error {
	group, err := r.cfg.Router.Members(ctx, s.Shard, placement.Group{})
	if err != nil {
		return err
	}
	seen := make(map[record]bool)
	unsealed := 0
	answer, silent := r.keepers()
	for _, node := range answer {
		if err := r.hold(ctx, job); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, mailTimeout)
		req, resp := &mailRequest{Note: s.note, Accounts: accounts, Ask: group.Voters}, new(mailResponse)
		err := r.cfg.Net.Call(ctx, node, methodMail, req, resp)
		cancel()
		if err != nil {
			return fmt.Errorf("look for messages of shard %d in the volumes of %s: %w", s.Shard, node, err)
		}
		r.update(func() {
			s.Entered += resp.Entered
			if len(resp.Expunged) > 0 && !r.holds() {
				s.Notes += node + " runs an earlier program, which does not tell what was expunged from what waits for its bytes: update it, and give the command again. "
			}
			for _, at := range resp.Expunged {
				if !seen[at] {
					seen[at] = true
					s.Expunged++
				}
			}
			for _, m := range resp.Open {
				if at := (record{m.Volume, m.Record}); !seen[at] {
					seen[at] = true
					s.Open = append(s.Open, m)
				}
			}
			s.More += resp.More
			unsealed += resp.Unsealed
			if resp.Unread > 0 {
				s.Notes += fmt.Sprintf("%d records at %s could not be read. ", resp.Unread, node)
			}
			s.Notes += unopened(node, resp.Unopened)
		})
	}
	for _, node := range silent {
		r.update(func() { s.Notes += node + " does not answer: its volumes were not looked through. " })
	}
	r.update(func() { s.looked = true })
	switch {
	case len(s.Open) == 0 && s.Notes == "" && job.Notes == "" || job.mayForget(s.noted):
		return r.cfg.Directory.ForgetRecovery(ctx, s.Shard)
	case unsealed == 0 && s.note.Hold > 0:
		n := s.note
		n.Hold = 0
		return r.cfg.Directory.NoteRecoveries(ctx, []directory.RecoveryNote{n})
	}
	return nil
}

// holds says whether the program of every node keeps what was entered in vain while a note says so.
func (r *Recovery) holds() bool { return r.cfg.Directory.Level() >= feature.Bundles }

// hold has the shards that were not looked through yet keep what they entered in vain for some more time, and notes whether they have kept it.
func (r *Recovery) hold(ctx context.Context, job *Job) error {
	var notes []directory.RecoveryNote
	for _, s := range job.Shards {
		if s.note.Hold > 0 && !s.looked {
			s.note.Hold = r.cfg.Clock.Now().Add(holdFor).Unix()
			notes = append(notes, s.note)
		}
	}
	if len(notes) == 0 {
		return nil
	}
	if err := r.cfg.Directory.NoteRecoveries(ctx, notes); err != nil {
		return err
	}
	notes, err := r.notes(ctx)
	r.update(func() {
		for i := range job.Shards {
			s := &job.Shards[i]
			for _, n := range notes {
				if n.Shard == s.Shard && !s.looked {
					s.note = n
				}
			}
		}
	})
	return err
}

// notes are those that the directory has now.
func (r *Recovery) notes(ctx context.Context) ([]directory.RecoveryNote, error) {
	if err := r.cfg.Directory.CatchUp(ctx); err != nil {
		return nil, err
	}
	return r.cfg.Directory.RecoveryNotes()
}

// shownVolumes bounds how many volumes of a node a note names.
const shownVolumes = 10

// unopened says which volumes of a node could not be opened.
func unopened(node string, ids []volume.ID) string {
	if len(ids) == 0 {
		return ""
	}
	return fmt.Sprintf("%d volumes at %s could not be opened, among them %v. ", len(ids), node, ids[:min(len(ids), shownVolumes)])
}

// candidate is a message that may never have been entered.
type candidate struct {
	at     place
	length uint64
	sealed bool
	hash   [32]byte
	origin mailbox.Origin
	inbox  mailbox.Deliver  // to accounts of the shard, without the message
	folder []mailbox.Target // folders of the shard that it was appended to
}

type place struct {
	Volume   volume.ID `cbor:"1,keyasint"`
	Record   uint64    `cbor:"2,keyasint"`
	Delivery [16]byte  `cbor:"3,keyasint"`
	Length   uint64    `cbor:"4,keyasint,omitempty"` // of the message
	Accounts []uint64  `cbor:"5,keyasint,omitempty"` // of the shard, whom it was for
}

// place is what the shard is asked about.
func (c *candidate) place() place {
	at := c.at
	at.Length, at.Accounts = c.length, slices.Clone(c.inbox.Accounts)
	for _, t := range c.folder {
		at.Accounts = append(at.Accounts, t.Account)
	}
	return at
}

func (c *candidate) mail(why string) Mail {
	m := Mail{Volume: c.at.Volume, Record: c.at.Record, Arrived: c.origin.Arrived, Why: why, Mailbox: mailbox.Inbox}
	if len(c.inbox.Accounts) > 0 {
		m.Account = c.inbox.Accounts[0]
	} else {
		m.Account, m.Mailbox = c.folder[0].Account, c.folder[0].Mailbox
	}
	return m
}

// serveMail looks through the volumes of this node.
func (r *Recovery) serveMail(ctx context.Context, _ string, req *mailRequest) (*mailResponse, error) {
	resp := new(mailResponse)
	ours := make(map[uint64]bool, len(req.Accounts))
	for _, a := range req.Accounts {
		ours[a] = true
	}
	var list []candidate
	flush := func() error {
		err := r.settle(ctx, req, resp, list)
		list = list[:0]
		return err
	}
	for _, id := range r.cfg.Volumes.List() {
		e, known := r.cfg.Entry(id)
		if known && e.State == replica.Sealed && e.SealedAt > 0 && e.SealedAt < req.Note.Since-skipBack {
			continue
		}
		v, err := r.cfg.Volumes.Get(id)
		if err != nil {
			r.cfg.Log.Warn("a volume cannot be opened, and is not looked through", "volume", id, "err", err)
			resp.Unopened = append(resp.Unopened, id)
			continue
		}
		err = r.lookThrough(ctx, v, req.Note, ours, resp, func(c *candidate) error {
			if list = append(list, *c); len(list) < knownSize {
				return nil
			}
			return flush()
		})
		if err != nil {
			return nil, err
		}
	}
	return resp, errors.Join(flush(), ctx.Err())
}

// lookThrough gives the messages in a volume that arrived in the time of a note and are for one of these accounts. All records are looked at: one that was put
// here again (packages rehouse and reconcile) arrived long before those in front of it.
func (r *Recovery) lookThrough(ctx context.Context, v *volume.Volume, note directory.RecoveryNote, ours map[uint64]bool, resp *mailResponse, found func(*candidate) error) error {
	for n := max(v.Stats().Records, v.Header().Records); n > 0 && ctx.Err() == nil; n-- {
		c, err := look(v, n, ours)
		if err != nil && !errors.Is(err, volume.ErrNotFound) && !errors.Is(err, keys.ErrDestroyed) { // one whose key is gone was dead in the shards' latest state
			r.cfg.Log.Warn("a record cannot be read", "volume", v.Header().ID, "record", n, "err", err)
			resp.Unread++
		}
		if c == nil || c.origin.Arrived < note.Since || c.origin.Arrived > note.Until {
			continue
		}
		if err := found(c); err != nil {
			return err
		}
	}
	return nil
}

// look reads what a record says of itself; nil if it is no message for one of these accounts.
func look(v *volume.Volume, n uint64, ours map[uint64]bool) (*candidate, error) {
	info, err := v.Get(n)
	if err != nil || info.Kind != volume.KindMessage {
		return nil, err
	}
	c := &candidate{at: place{Volume: v.Header().ID, Record: n}, length: info.Length, sealed: info.Sealed, hash: info.Hash}
	if err := codec.Unmarshal(info.Meta, &c.origin); err != nil {
		return nil, fmt.Errorf("origin of record %d of volume %s: %w", n, v.Header().ID, err)
	}
	c.at.Delivery = c.origin.Delivery
	for _, t := range c.origin.Targets {
		switch {
		case !ours[t.Account]:
		case t.Mailbox == mailbox.Inbox:
			c.inbox.Add(t.Account, mailbox.Terms{Detail: t.Detail})
		default:
			c.folder = append(c.folder, t)
		}
	}
	if len(c.inbox.Accounts)+len(c.folder) == 0 {
		return nil, nil
	}
	return c, nil
}

// settle asks the shard about some messages, and enters those that it does not know.
func (r *Recovery) settle(ctx context.Context, req *mailRequest, resp *mailResponse, list []candidate) error {
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return int(a.origin.Arrived - b.origin.Arrived) })
	ask := &knownRequest{Shard: req.Note.Shard}
	for _, c := range list {
		ask.Places = append(ask.Places, c.place())
	}
	known, err := r.known(ctx, req.Ask, ask)
	if err != nil {
		return fmt.Errorf("hold messages against shard %d: %w", ask.Shard, err)
	}
	kept := r.holds() && req.Note.SurelyHeld(r.cfg.Clock.Now().Unix())
	for i := range list {
		c := &list[i]
		e, _ := r.cfg.Entry(c.at.Volume)
		if last, told := e.ToldLast(); known.States[i] == referenced || told && c.at.Record > last { // it is not cut off yet
			continue
		}
		why := "it was not entered, or entered and expunged so long before that the shard does not remember"
		bound, failed, err := r.rebind(ctx, req.Note.Shard, c, known)
		switch {
		case err != nil:
			return err
		case bound:
			why = failed
		case known.States[i] == remembered && r.mayBeOf(c, known.Unsure):
			why = "an entry of it is in a volume that is not sealed yet: give the command again"
			resp.Unsealed++
		case known.States[i] == remembered && !kept:
			why = "it was entered, and expunged since, or removed as one in vain whose bytes are here"
		case known.States[i] == remembered:
			resp.Expunged = append(resp.Expunged, record{c.at.Volume, c.at.Record})
			continue
		case req.Note.Certain:
			if why, err = r.enter(ctx, req.Note.Shard, c); err != nil {
				return err
			}
		}
		if why == "" {
			resp.Entered++
		} else if len(resp.Open) < maxOpen {
			resp.Open = append(resp.Open, c.mail(why))
		} else {
			resp.More++
		}
	}
	return nil
}
