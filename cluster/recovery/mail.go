package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
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

// noteOf says which messages of a shard are to be looked for, as of before it was recovered.
func noteOf(s *ShardPlan, now int64) directory.RecoveryNote {
	n := directory.RecoveryNote{Shard: s.Shard, Until: now, Certain: s.Last <= window}
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
	answer, silent := r.keepers()
	for _, node := range answer {
		ctx, cancel := context.WithTimeout(ctx, mailTimeout)
		req, resp := &mailRequest{Note: s.note, Accounts: accounts, Ask: group.Voters}, new(mailResponse)
		err := r.cfg.Net.Call(ctx, node, methodMail, req, resp)
		cancel()
		if err != nil {
			return fmt.Errorf("look for messages of shard %d in the volumes of %s: %w", s.Shard, node, err)
		}
		r.update(func() {
			s.Entered += resp.Entered
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
			if resp.Unread > 0 {
				s.Notes += fmt.Sprintf("%d records at %s could not be read. ", resp.Unread, node)
			}
			s.Notes += unopened(node, resp.Unopened)
		})
	}
	for _, node := range silent {
		r.update(func() { s.Notes += node + " does not answer: its volumes were not looked through. " })
	}
	if (len(s.Open) > 0 || s.Notes != "" || job.Notes != "") && !job.mayForget(s.noted) {
		return nil
	}
	return r.cfg.Directory.ForgetRecovery(ctx, s.Shard)
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
	ask := &knownRequest{Shard: req.Note.Shard}
	for _, c := range list {
		ask.Places = append(ask.Places, c.at)
	}
	known, err := r.known(ctx, req.Ask, ask)
	if err != nil {
		return fmt.Errorf("hold messages against shard %d: %w", ask.Shard, err)
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return int(a.origin.Arrived - b.origin.Arrived) })
	byPlace := make(map[place]byte, len(list))
	for i, p := range ask.Places {
		byPlace[p] = known.States[i]
	}
	for i := range list {
		c := &list[i]
		why := "it was not entered, or entered and expunged so long before that the shard does not remember"
		state := byPlace[c.at]
		bound, failed, err := r.rebind(ctx, req.Note.Shard, c, known.Vain)
		switch {
		case err != nil:
			return err
		case bound:
			why = failed
		case state == referenced:
			continue
		case state == remembered:
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

// known asks the first of these nodes that has the shard's state.
func (r *Recovery) known(ctx context.Context, nodes []string, req *knownRequest) (*knownResponse, error) {
	err := error(wire.Errorf(wire.Unavailable, "no voter of shard %d is up", req.Shard))
	for _, node := range nodes {
		if !r.cfg.Net.Up(node) {
			continue
		}
		resp := new(knownResponse)
		err = r.cfg.Net.Call(ctx, node, methodKnown, req, resp)
		if err == nil && len(resp.States) != len(req.Places) {
			err = wire.Errorf(wire.Invalid, "%d answers to %d questions", len(resp.States), len(req.Places))
		}
		if err == nil {
			return resp, nil
		}
	}
	return nil, err
}

// What a shard knows of a message.
const (
	unknown    = 0
	referenced = 1 // it is in a folder
	remembered = 2 // its request was applied; since no folder has it, it was expunged or refused
)

type knownRequest struct {
	Shard  uint32  `cbor:"1,keyasint"`
	Places []place `cbor:"2,keyasint"`
}

type knownResponse struct {
	States []byte      `cbor:"1,keyasint"`
	Marked []volume.ID `cbor:"2,keyasint,omitempty"` // volumes that the shard has entries of which may be in vain
	Vain   []vain      `cbor:"3,keyasint,omitempty"` // entries of which that is certain
}

// vain is an entry of a record behind its volume's end: its bytes may have been put again, of which the survivor has not heard.
type vain struct {
	Account uint64     `cbor:"1,keyasint"`
	Ref     volume.Ref `cbor:"2,keyasint"`
}

// appendVain adds the entries behind a volume's end.
func appendVain(list []vain, v *index.View, e replica.Entry) ([]vain, error) {
	last, told := e.ToldLast()
	if !told {
		return list, nil
	}
	var holders []index.Holder
	err := v.HoldersOf(e.ID, func(h index.Holder) error {
		if h.Record > last {
			holders = append(holders, h)
		}
		return nil
	})
	for _, h := range holders {
		if err != nil {
			break
		}
		err = v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable, func(m *index.Message) error {
			list = append(list, vain{h.Account, m.Ref})
			return nil
		})
		if errors.Is(err, index.ErrNoMailbox) { // of a deleted folder, whose rows are still to be swept
			err = nil
		}
	}
	return list, err
}

// serveKnown answers from this node's replica with all that was acknowledged before.
func (r *Recovery) serveKnown(ctx context.Context, _ string, req *knownRequest) (*knownResponse, error) {
	g, ok := r.cfg.Host.Group(req.Shard)
	if !ok {
		return nil, wire.Errorf(wire.Unavailable, "no replica of shard %d runs here", req.Shard)
	}
	at, err := r.cfg.Router.ReadIndex(ctx, req.Shard)
	if err == nil {
		err = g.WaitApplied(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	resp := &knownResponse{States: make([]byte, len(req.Places))}
	refs := make(map[volume.ID]*roaring.Bitmap)
	v := g.View()
	early, err := v.EarlyVolumes()
	for _, m := range early {
		resp.Marked = append(resp.Marked, m.Volume)
		if e, known := r.cfg.Entry(m.Volume); known && err == nil && len(req.Places) > 0 {
			resp.Vain, err = appendVain(resp.Vain, v, e)
		}
	}
	for _, p := range req.Places {
		if refs[p.Volume] == nil && err == nil {
			set := roaring.New()
			refs[p.Volume] = set
			err = v.References(p.Volume, func(ref index.Reference) error { set.Add(uint32(ref.Record)); return nil }) // at most volume.MaxRecords
		}
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	txn := r.cfg.Index.Shard(req.Shard).Begin()
	defer txn.Discard()
	for i, p := range req.Places {
		if refs[p.Volume].Contains(uint32(p.Record)) {
			resp.States[i] = referenced
			continue
		}
		_, known, err := txn.Recall(mailbox.Request(p.Delivery, req.Shard))
		if err != nil {
			return nil, err
		}
		if known {
			resp.States[i] = remembered
		}
	}
	return resp, nil
}
