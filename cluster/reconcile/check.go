package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Bounds of one call of Check, which says where the next one goes on.
const (
	checkTime  = 15 * time.Second
	checkFound = 500
	checkChunk = 128 // messages asked about at once
)

// Cursor is where a check goes on: behind a message of a folder.
type Cursor struct {
	Folder uint32 `json:"folder"`
	UID    uint32 `json:"uid"`
}

// Checked is what a part of a check came upon.
type Checked struct {
	Address  string          `json:"address"`
	Folders  int             `json:"folders"`  // begun in this part
	Messages uint64          `json:"messages"` // looked at in this part
	Found    []Contradiction `json:"found"`
	Next     *Cursor         `json:"next,omitempty"` // nil: that was all
}

// Contradiction is one thing that is wrong in an account.
type Contradiction struct {
	Folder string `json:"folder"`
	UID    uint32 `json:"uid,omitempty"` // 0: the folder's counts
	What   string `json:"what"`
	Done   string `json:"done,omitempty"` // what was mended, or why not; "" if that was not asked for
	// Proved is false of what is not known for sure now, such as while a node is down.
	Proved bool `json:"proved"`
	Mended bool `json:"mended,omitempty"`
}

// checking is a call of Check.
type checking struct {
	s      *Service
	a      client.Account
	repair bool
	until  time.Time
	out    *Checked
}

// Check holds an account's folders against their messages and these against the volumes, from a cursor on, and with repair mends what contradicts.
func (s *Service) Check(ctx context.Context, a client.Account, repair bool, after Cursor) (*Checked, error) {
	if s.cfg.Volumes == nil {
		return nil, wire.Errorf(wire.Invalid, "%s keeps no mail: ask a node that does", s.cfg.Self)
	}
	c := &checking{s: s, a: a, repair: repair, until: time.Now().Add(checkTime), out: &Checked{Address: a.Address, Found: []Contradiction{}}}
	boxes, err := s.cfg.Door().Mailboxes(ctx, a)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(boxes, func(a, b client.Mailbox) int { return cmp.Compare(a.ID, b.ID) })
	for i := range boxes {
		box := &boxes[i]
		if box.ID < after.Folder || box.NoSelect {
			continue
		}
		from := uint32(0)
		if box.ID == after.Folder {
			from = after.UID
		}
		err := c.folder(ctx, box, from)
		if errors.Is(err, client.ErrNoMailbox) || errors.Is(err, wire.ErrNotFound) { // it was deleted meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("check folder %q of %s: %w", box.Name, a.Address, err)
		}
		if c.out.Next != nil {
			break
		}
	}
	return c.out, nil
}

// folder checks one, behind a message.
func (c *checking) folder(ctx context.Context, box *client.Mailbox, from uint32) error {
	audit, err := c.s.audit(ctx, c.a, box.ID)
	if err != nil {
		return err
	}
	if from == 0 {
		c.out.Folders++
		c.counts(ctx, box, audit)
	}
	uids, err := c.s.cfg.Door().Listed(ctx, c.a, box.Name)
	if err != nil {
		return err
	}
	uids.AndNot(roaring.BitmapOf(audit.Broken...)) // which cannot be asked for
	uids.RemoveRange(0, uint64(from)+1)
	part := make([]uint32, checkChunk)
	for it := uids.ManyIterator(); ; {
		n := it.NextMany(part)
		if n == 0 {
			return nil
		}
		if c.stop(box, part[0]) {
			return nil
		}
		if err := c.messages(ctx, box, roaring.BitmapOf(part[:n]...)); err != nil || c.out.Next != nil {
			return err
		}
	}
}

// stop says whether the next call is to go on with this message.
func (c *checking) stop(box *client.Mailbox, uid uint32) bool {
	if time.Now().Before(c.until) && len(c.out.Found) < checkFound {
		return false
	}
	c.out.Next = &Cursor{Folder: box.ID, UID: uid - 1}
	return true
}

// counts checks what a folder says of itself.
func (c *checking) counts(ctx context.Context, box *client.Mailbox, audit *index.Audit) {
	if audit.Contradicts() {
		x := Contradiction{Folder: box.Name, What: miscounted(audit), Proved: true}
		if c.repair {
			changed, err := c.s.recount(ctx, c.a, box.ID)
			x.note(changed, "counted anew", err)
		}
		c.out.Found = append(c.out.Found, x)
	}
	for _, uid := range audit.Broken {
		c.out.Found = append(c.out.Found, Contradiction{Folder: box.Name, UID: uid, What: "a part of its entry is missing in the index; nothing mends that", Proved: true})
	}
	for _, uid := range audit.Unreferenced {
		x := Contradiction{Folder: box.Name, UID: uid, What: "its record does not count as in use", Proved: true}
		if c.repair {
			out := c.s.once(ctx, key{account: c.a.ID, folder: box.ID, uid: uid}, func(ctx context.Context) outcome { return c.refer(ctx, box.ID, uid) })
			x.note(out.done != "", out.done, out.err)
		}
		c.out.Found = append(c.out.Found, x)
	}
}

// note enters what a repair gave.
func (x *Contradiction) note(changed bool, done string, err error) {
	switch {
	case err != nil:
		x.Done = "not mended: " + err.Error()
	case changed:
		x.Done, x.Mended = done, true
	default:
		x.Done = "it had changed meanwhile"
	}
}

// refer has a message's record count as in use, and puts its bytes anew where that is not possible any more.
func (c *checking) refer(ctx context.Context, folder, uid uint32) outcome {
	e, err := c.s.cfg.Door().Entry(ctx, c.a, folder, uid)
	if err != nil {
		return outcome{err: err}
	}
	w := &mending{s: c.s, a: c.a, folder: folder, e: e}
	f := &Facts{Length: e.Size, Date: e.Date, Zone: e.Zone, Summary: e.Summary}
	if err = w.enter(ctx, "counts as in use", f, e.Ref); err == nil || !errors.Is(err, client.ErrUnavailable) {
		return outcome{ref: w.e.Ref, done: w.done, err: err}
	}
	hit, _, err := c.s.search(ctx, c.a.ID, e.Ref, e.SaveDate)
	if err == nil && hit == nil {
		err = fmt.Errorf("%w for now", client.ErrLost)
	}
	if err == nil {
		_, err = w.copy(ctx, hit)
	}
	return outcome{ref: w.e.Ref, done: w.done, err: err, dear: true}
}

// messages checks some of a folder.
func (c *checking) messages(ctx context.Context, box *client.Mailbox, uids *roaring.Bitmap) error {
	var list []client.Message
	err := c.s.cfg.Door().Messages(ctx, c.a, box.ID, uids, index.WantImmutable|index.WantSummary, func(m *client.Message) error {
		list = append(list, *m)
		list[len(list)-1].Summary = slices.Clone(m.Summary)
		return nil
	})
	if err != nil {
		return err
	}
	records := c.records(ctx, list)
	for i := range list {
		e, r := &list[i], records[i]
		if c.stop(box, e.UID) {
			return nil
		}
		c.out.Messages++
		same := r != nil && r.State == Same && r.Facts != nil
		if same && !r.Facts.Named {
			c.s.stats.foreign.Add(1)
			c.s.cfg.Log.Error("entry whose record names other recipients", "account", c.a.Address, "folder", box.Name, "uid", e.UID, "volume", e.Ref.Volume, "record", e.Ref.Record)
			c.out.Found = append(c.out.Found, Contradiction{Folder: box.Name, UID: e.UID, Proved: true, Done: notAutomatic(c.repair),
				What: fmt.Sprintf("record %d of volume %s names other recipients", e.Ref.Record, e.Ref.Volume)})
			continue
		}
		if same && described(e, r.Facts) == "" {
			continue
		}
		if err := c.one(ctx, box, e); err != nil {
			return err
		}
	}
	return nil
}

func notAutomatic(repair bool) string {
	if !repair {
		return ""
	}
	return "not mended: nothing says where its own bytes are"
}

// records asks a node with a copy of each volume about messages; nil is what nobody told.
func (c *checking) records(ctx context.Context, list []client.Message) []*Record {
	out := make([]*Record, len(list))
	at := make(map[string][]int)
	for i := range list {
		if node := c.holder(list[i].Ref.Volume); node != "" {
			at[node] = append(at[node], i)
		}
	}
	for node, members := range at {
		req := &lookRequest{Account: c.a.ID}
		for _, i := range members {
			req.Refs = append(req.Refs, list[i].Ref)
		}
		resp, err := ask(ctx, c.s, node, methodLook, req, c.s.serveLook)
		if err != nil || len(resp.Records) != len(members) {
			c.s.cfg.Log.Info("a node does not say what it has of an account's messages", "peer", node, "err", err)
			continue
		}
		for n, i := range members {
			out[i] = &resp.Records[n]
		}
	}
	return out
}

// holder is a node with a copy of a volume that is up, this one if it has one.
func (c *checking) holder(id volume.ID) string {
	e, _ := c.s.cfg.Copies.Entry(id)
	if e.Holds(c.s.cfg.Self) {
		return c.s.cfg.Self
	}
	for _, node := range e.Copies {
		if c.s.cfg.Copies.Up(node) {
			return node
		}
	}
	return ""
}

// one looks at a message that seems to be wrong as closely as for a repair, and mends it if that was asked for.
func (c *checking) one(ctx context.Context, box *client.Mailbox, e *client.Message) error {
	w := &mending{s: c.s, a: c.a, folder: box.ID, e: *e}
	v, nodes, err := w.look(ctx)
	switch {
	case err != nil:
		v.why = err.Error()
	case v.state == Same:
		v.why = described(e, w.deep(ctx, nodes))
		v.proved = v.why != ""
		if !v.proved {
			return nil
		}
	}
	x := Contradiction{Folder: box.Name, UID: e.UID, What: v.why, Proved: v.proved && err == nil}
	if c.repair && x.Proved {
		out := c.s.lookInto(ctx, c.a, box.ID, e.UID, e.Ref)
		x.note(out.done != "", out.done, out.err)
	}
	if errors.Is(err, client.ErrNoMessage) {
		return nil
	}
	c.out.Found = append(c.out.Found, x)
	return ctx.Err()
}
