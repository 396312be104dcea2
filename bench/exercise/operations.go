package exercise

import (
	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/bench/history"
	"hongyan/bench/load"
)

// deliver brings a message to one INBOX or two, and once more if nobody knows what became of it.
func (c *client) deliver(n load.Node, b *box) did {
	to := []*box{b}
	if other := c.boxes[c.random.IntN(len(c.boxes))]; other.folder == "INBOX" && other != b && c.random.IntN(100) < manyChance {
		to = append(to, other)
	}
	id, raw := c.fresh()
	for _, b := range to {
		c.enter(b, id)
	}
	what, open := c.attempt(n, to, id, raw)
	if open && c.random.IntN(100) < tryAgain {
		again, _ := c.attempt(c.node(c.random, n.ID), to, id, raw)
		what = max(what, again)
	}
	return what
}

// attempt is one conversation; open says that its outcome is.
func (c *client) attempt(n load.Node, boxes []*box, id string, raw []byte) (what did, open bool) {
	to := make([]string, len(boxes))
	for i, b := range boxes {
		to[i] = b.account.Address
	}
	s := c.sender(n)
	if s == nil {
		return nothing, false
	}
	if err := s.open(to); err != nil {
		c.o.Log.Debug("no mail taken", "node", n.ID, "error", err)
		c.drop(s)
		return tried, false
	}
	calls := make([]*history.Call, len(boxes))
	for i, b := range boxes {
		op := c.op(n, history.Deliver, b)
		op.Message, op.Hash = id, history.Sum(raw)
		calls[i] = c.o.History.Begin(op)
	}
	what = changed
	for i, r := range s.send(to, raw) {
		calls[i].End(r)
		what = min(what, c.tell(r.Outcome))
		open = open || r.Outcome == history.Unknown
	}
	if what != changed {
		c.drop(s)
	}
	return what, open
}

// sender gives a connection for mail, by a protocol that the node serves, or nil.
func (c *client) sender(n load.Node) *sender {
	lmtp := n.SMTP == "" || n.LMTP != "" && c.random.IntN(2) == 0
	key := n.ID + " smtp"
	if lmtp {
		key = n.ID + " lmtp"
	}
	if s := c.senders[key]; s != nil {
		return s
	}
	s, err := dialSender(n, lmtp, c.o.Timeout)
	if err != nil {
		c.failed(n, err)
		return nil
	}
	c.senders[key] = s
	return s
}

// drop gives a connection up.
func (c *client) drop(s *sender) {
	s.close()
	for key, had := range c.senders {
		if had == s {
			delete(c.senders, key)
		}
	}
}

// append puts a new message into a mailbox by IMAP.
func (c *client) append(n load.Node, b *box) did {
	s := c.session(n, b)
	if s == nil {
		return nothing
	}
	id, raw := c.fresh()
	c.enter(b, id)
	o := &goimap.AppendOptions{}
	if c.random.IntN(2) == 0 {
		o.Flags = []goimap.Flag{c.flag()}
	}
	op := c.op(n, history.Append, b)
	op.Message, op.Hash, op.Flags = id, history.Sum(raw), flagsOf(o.Flags)
	call := c.o.History.Begin(op)
	defer s.watch()()
	cmd := s.c.Append(b.folder, int64(len(raw)), o)
	_, errWrite := cmd.Write(raw)
	errClose := cmd.Close()
	data, err := cmd.Wait()
	for _, also := range []error{errWrite, errClose} {
		if err == nil {
			err = also
		}
	}
	uid := uint32(0)
	if err == nil && data != nil {
		uid = uint32(data.UID)
	}
	return c.end(call, s, err, uid)
}

func (c *client) flag() goimap.Flag { return flags[c.random.IntN(len(flags))] }

func flagsOf(list []goimap.Flag) history.Flags {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = string(f)
	}
	return history.NewFlags(names...)
}

// store changes flags of a message.
func (c *client) store(n load.Node, b *box, m history.Seen) did {
	change := &goimap.StoreFlags{Flags: []goimap.Flag{c.flag()}, Silent: c.random.IntN(2) == 0}
	switch chance := c.random.IntN(10); {
	case chance < 5:
		change.Op = goimap.StoreFlagsAdd
	case chance < 8:
		change.Op = goimap.StoreFlagsDel
	default:
		change.Op = goimap.StoreFlagsSet
		if c.random.IntN(3) == 0 {
			change.Flags = nil
		}
	}
	return c.storeFlags(n, b, m, change)
}

func (c *client) storeFlags(n load.Node, b *box, m history.Seen, change *goimap.StoreFlags) did {
	s := c.session(n, b)
	if s == nil {
		return nothing
	}
	if err := s.open(b.folder); err != nil {
		return tried
	}
	op := c.op(n, history.Store, b)
	op.Message, op.UID, op.Flags = m.ID, m.UID, flagsOf(change.Flags)
	op.Change = map[goimap.StoreFlagsOp]history.Change{
		goimap.StoreFlagsAdd: history.Add, goimap.StoreFlagsDel: history.Remove, goimap.StoreFlagsSet: history.Replace,
	}[change.Op]
	call := c.o.History.Begin(op)
	defer s.watch()()
	return c.end(call, s, s.c.Store(goimap.UIDSetNum(goimap.UID(m.UID)), change, nil).Close(), 0)
}

// expunge marks a message and removes it. Another client may clear the mark in between.
func (c *client) expunge(n load.Node, b *box, m history.Seen) did {
	s := c.session(n, b)
	if s == nil || !s.uidplus {
		return nothing
	}
	mark := &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagDeleted}}
	if what := c.storeFlags(n, b, m, mark); what != changed {
		return what
	}
	op := c.op(n, history.Expunge, b)
	op.Message, op.UID = m.ID, m.UID
	call := c.o.History.Begin(op)
	defer s.watch()()
	return c.end(call, s, s.c.UIDExpunge(goimap.UIDSetNum(goimap.UID(m.UID))).Close(), 0)
}

// carry copies or moves a message from INBOX to the account's other mailbox, if it was never there.
func (c *client) carry(n load.Node, b *box, m history.Seen, move bool) did {
	to := c.other(b)
	if to == nil || m.ID == "" || !c.enter(to, m.ID) {
		return c.store(n, b, m)
	}
	s := c.session(n, b)
	if s == nil || !s.uidplus || move && !s.move {
		return nothing
	}
	if err := s.open(b.folder); err != nil {
		return tried
	}
	op := c.op(n, history.Copy, b)
	if move {
		op.Kind = history.Move
	}
	op.To, op.Message, op.UID = to.name, m.ID, m.UID
	call := c.o.History.Begin(op)
	defer s.watch()()
	set := goimap.UIDSetNum(goimap.UID(m.UID))
	if !move {
		data, err := s.c.Copy(set, to.folder).Wait()
		if err != nil {
			return c.end(call, s, err, 0)
		}
		return c.end(call, s, nil, only(data.DestUIDs))
	}
	data, err := s.c.Move(set, to.folder).Wait()
	return c.end(call, s, err, moved(data))
}

func moved(data *imapclient.MoveData) uint32 {
	if data == nil {
		return 0
	}
	set, _ := data.DestUIDs.(goimap.UIDSet)
	return only(set)
}

// only is the one UID in a set, or 0.
func only(set goimap.UIDSet) uint32 {
	if nums, ok := set.Nums(); ok && len(nums) == 1 {
		return uint32(nums[0])
	}
	return 0
}

// other is the mailbox that messages of an INBOX are carried to.
func (c *client) other(b *box) *box {
	for _, to := range c.boxes {
		if b.folder == "INBOX" && to.account == b.account && to != b {
			return to
		}
	}
	return nil
}
