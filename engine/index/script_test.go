package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
)

// A script is a random log: entries of one to three commands. It runs against a Txn and against the model.

type command struct {
	kind     string
	account  uint64
	mailbox  uint32
	target   uint32
	name, to string
	use      string
	now      int64
	uids     *roaring.Bitmap
	op       FlagOp
	flags    Flags
	since    uint64
	flag     bool
	messages []NewMessage
	id       [16]byte
}

type logEntry struct {
	index    uint64
	commands []command
}

var scriptNames = []string{"INBOX", "inbox", "Trash", "Archive", "a", "a/b", "a/b/c", "b", "b/x", "INBOX/sub", "鸿雁", "a/b/d", "iNbOx/sub", "../~"}

func randomScript(r *rand.Rand, entries int) []logEntry {
	var out []logEntry
	index, serial := uint64(0), uint64(0)
	for range entries {
		index += 1 + uint64(max(0, r.IntN(8)-5))
		e := logEntry{index: index}
		for range 1 + max(0, r.IntN(5)-2) {
			e.commands = append(e.commands, randomCommand(r, &serial, index))
		}
		out = append(out, e)
	}
	return out
}

func randomCommand(r *rand.Rand, serial *uint64, index uint64) command {
	weighted := []string{"add", "add", "add", "add", "store", "store", "store", "copy", "move", "replace", "expunge", "expunge", "create", "create", "delete",
		"rename", "subscribe", "ensure", "put", "drop", "remember", "told", "allow"}
	c := command{
		kind:    weighted[r.IntN(len(weighted))],
		account: uint64(1 + r.IntN(3)),
		mailbox: randomID(r),
		target:  randomID(r),
		name:    scriptNames[r.IntN(len(scriptNames))],
		to:      scriptNames[r.IntN(len(scriptNames))],
		now:     int64(r.IntN(1000)),
		op:      FlagOp(r.IntN(3)),
		flags:   randomFlags(r),
		flag:    r.IntN(2) == 0,
		uids:    randomUIDs(r),
	}
	if r.IntN(3) == 0 {
		c.since = uint64(r.IntN(int(index) + 1))
	}
	if r.IntN(4) == 0 {
		c.use = `\Archive`
	}
	c.id[0], c.id[15] = byte(r.IntN(40)), 1
	for range 1 + r.IntN(4) {
		*serial++
		c.messages = append(c.messages, NewMessage{Flags: randomFlags(r), Date: int64(*serial), Zone: int16(r.IntN(100) - 50), SaveDate: int64(index),
			Ref: testRef(*serial / 2), Size: *serial, Summary: fmt.Append(nil, "summary ", *serial)})
	}
	return c
}

func randomID(r *rand.Rand) uint32 {
	if r.IntN(3) > 0 {
		return uint32(1 + r.IntN(3))
	}
	return uint32(1 + r.IntN(14))
}

func randomFlags(r *rand.Rand) Flags {
	f := Flags{System: uint8(r.IntN(32))}
	f.System &= uint8(r.IntN(32)) // few at once
	words := []string{"$Junk", "$junk", "Work", "WORK", "later", "x"}
	for range max(0, r.IntN(5)-2) {
		f.Keywords = append(f.Keywords, words[r.IntN(len(words))])
	}
	return f
}

// everything is 1:*, which takes a bitmap of 65,536 containers.
var everything = sync.OnceValue(func() *roaring.Bitmap {
	bm := roaring.New()
	bm.AddRange(1, 1<<32)
	return bm
})

func randomUIDs(r *rand.Rand) *roaring.Bitmap {
	bm := roaring.New()
	switch r.IntN(5) {
	case 0:
		return nil
	case 1:
		return everything()
	case 2:
		from := uint64(1 + r.IntN(30))
		bm.AddRange(from, from+uint64(r.IntN(100)))
	default:
		for range 1 + r.IntN(5) {
			bm.Add(uint32(1 + r.IntN(60)))
		}
	}
	return bm
}

// limits are some that accounts of a script are about to reach.
func (c *command) limits() Limits {
	return Limits{Bytes: 1 + uint64(c.now)*20, Messages: uint64(c.now) % 30}
}

func (c *command) real(t *Txn) string {
	switch c.kind {
	case "add":
		uids, validity, err := t.AddMessages(c.account, c.mailbox, c.messages)
		return outcome(err, uids, validity)
	case "store":
		changed, failed, err := t.SetFlags(c.account, c.mailbox, c.uids, c.op, c.flags, c.since)
		if err != nil {
			return outcome(err)
		}
		return outcome(nil, changed, failed.ToArray())
	case "copy", "move":
		from, to, err := t.CopyMessages(c.account, c.mailbox, c.uids, c.target, c.kind == "move", c.saved())
		return outcome(err, from, to)
	case "replace":
		uid, validity, err := t.Replace(c.account, c.mailbox, c.messages[0].uidOf(), c.target, c.messages[0])
		return outcome(err, uid, validity)
	case "expunge":
		gone, err := t.Expunge(c.account, c.mailbox, c.uids, c.flag)
		if err != nil {
			return outcome(err)
		}
		return outcome(nil, gone.ToArray())
	case "create":
		mb, err := t.CreateMailbox(c.account, c.name, c.use, c.now)
		mb.Subscribed = false
		return outcome(err, mb)
	case "delete":
		return outcome(t.DeleteMailbox(c.account, c.name))
	case "rename":
		return outcome(t.RenameMailbox(c.account, c.name, c.to, c.now))
	case "subscribe":
		return outcome(t.Subscribe(c.account, c.name, c.flag))
	case "told":
		return outcome(t.Told(c.account, c.mailbox, c.target*3))
	case "allow":
		return outcome(t.Allow(c.account, c.limits(), Usage{Bytes: c.messages[0].Size, Messages: 1}))
	case "ensure":
		return outcome(t.EnsureAccount(c.account, c.now))
	case "put":
		return outcome(t.Put([]byte(c.name), []byte(c.to)))
	case "drop":
		return outcome(t.Delete([]byte(c.name)))
	default:
		return outcome(t.Remember(c.id, []byte(c.name)))
	}
}

// saved is when the copies of a command are saved: some are not dated.
func (c *command) saved() int64 {
	if c.flag {
		return 0
	}
	return 1000 + c.now
}

// uidOf is a UID that a mailbox may have, and that only depends on the message.
func (m *NewMessage) uidOf() uint32 { return 1 + uint32(m.Size*7%40) }

func (c *command) model(m *model) string {
	name, _ := canonicalName(c.name)
	to, _ := canonicalName(c.to)
	switch c.kind {
	case "create":
		b, err := m.create(c.account, name, c.use, c.now)
		if err != nil {
			return outcome(err)
		}
		return outcome(nil, b.mailbox(name, false))
	case "delete":
		return outcome(m.remove(c.account, name))
	case "rename":
		return outcome(m.rename(c.account, name, to, c.now))
	case "subscribe":
		a := m.accounts[c.account]
		if a == nil {
			return outcome(ErrNoAccount)
		}
		delete(a.subscribed, name)
		if c.flag {
			a.subscribed[name] = true
		}
		return outcome(nil)
	case "allow":
		a := m.accounts[c.account]
		if a == nil {
			return outcome(ErrNoAccount)
		}
		used, limits := a.usage(), c.limits()
		if limits.Bytes > 0 && used.Bytes+c.messages[0].Size > limits.Bytes || limits.Messages > 0 && used.Messages+1 > limits.Messages {
			return "over quota"
		}
		return outcome(nil)
	case "ensure":
		return outcome(m.ensure(c.account, c.now))
	case "put", "drop", "remember":
		return outcome(nil)
	}
	b, err := m.box(c.account, c.mailbox)
	if err != nil {
		return outcome(err)
	}
	return c.modelMessages(m, b)
}

func (c *command) modelMessages(m *model, b *modelBox) string {
	switch c.kind {
	case "add":
		var uids []uint32
		for _, msg := range c.messages {
			uids = append(uids, m.deliver(b, msg))
		}
		return outcome(nil, uids, b.validity)
	case "told":
		b.told = max(b.told, min(c.target*3, b.next))
		return outcome(nil)
	case "store":
		changed, failed := m.store(b, c.uids, c.op, c.flags, c.since)
		return outcome(nil, changed, failed)
	case "copy", "move":
		to, err := m.box(c.account, c.target)
		if err != nil {
			return outcome(err)
		}
		picked := b.pick(c.uids)
		return outcome(nil, picked, m.copy(b, picked, to, c.kind == "move", c.saved()))
	case "replace":
		to, err := m.box(c.account, c.target)
		old := c.messages[0].uidOf()
		if b.messages[old] == nil {
			return outcome(ErrNoMessage, uint32(0), uint32(0))
		}
		if err != nil {
			return outcome(err, uint32(0), uint32(0))
		}
		added := m.deliver(to, c.messages[0])
		m.expunge(b, []uint32{old})
		return outcome(nil, added, to.validity)
	default:
		picked := b.pick(c.uids)
		if c.flag || c.uids == nil {
			picked = slices.DeleteFunc(picked, func(uid uint32) bool { return b.messages[uid].Flags.System&FlagDeleted == 0 })
		}
		m.expunge(b, picked)
		return outcome(nil, picked)
	}
}
