package index

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
)

// A second, naive implementation of the mailbox semantics, in plain maps. The random tests run both and compare.

type model struct {
	index    uint64
	accounts map[uint64]*modelAccount
}

type modelAccount struct {
	nextID, validity uint32
	boxes            map[string]*modelBox
	subscribed       map[string]bool
}

type modelBox struct {
	id, validity, next uint32
	told               uint32
	high, entry        uint64
	use                string
	noSelect           bool
	keywords           []string
	messages           map[uint32]*modelMessage
	vanished           map[uint32]uint64
}

type modelMessage struct {
	NewMessage
	copied int64
	modseq uint64
	words  map[string]bool // folded
}

func newModel() *model { return &model{accounts: map[uint64]*modelAccount{}} }

func (m *model) ensure(account uint64, now int64) error {
	if m.accounts[account] != nil {
		return nil
	}
	a := &modelAccount{nextID: 1, boxes: map[string]*modelBox{}, subscribed: map[string]bool{}}
	m.accounts[account] = a
	for _, d := range []string{"INBOX", `Drafts\Drafts`, `Sent\Sent`, `Junk\Junk`, `Trash\Trash`, `Archive\Archive`} {
		name, use, found := strings.Cut(d, `\`)
		if found {
			use = `\` + use
		}
		m.add(a, name, now).use = use
		a.subscribed[name] = true
	}
	return nil
}

func (m *model) add(a *modelAccount, name string, now int64) *modelBox {
	a.validity = max(a.validity+1, uint32(now))
	b := &modelBox{id: a.nextID, validity: a.validity, next: 1, high: max(m.index, 1), entry: m.index,
		messages: map[uint32]*modelMessage{}, vanished: map[uint32]uint64{}}
	a.nextID++
	a.boxes[name] = b
	return b
}

func (a *modelAccount) usage() (u Usage) {
	for name, b := range a.boxes {
		box := b.mailbox(name, false)
		u.add(&box)
	}
	return u
}

func (m *model) bump(b *modelBox) uint64 {
	if b.entry != m.index {
		b.high = max(b.high+1, m.index)
		b.entry = m.index
	}
	return b.high
}

func (a *modelAccount) children(name string) []string {
	var out []string
	for n := range a.boxes {
		if strings.HasPrefix(n, name+"/") {
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out
}

func (m *model) addParents(a *modelAccount, name string, now int64) {
	parts := strings.Split(name, "/")
	for i := 1; i < len(parts); i++ {
		if parent := strings.Join(parts[:i], "/"); a.boxes[parent] == nil {
			m.add(a, parent, now)
		}
	}
}

func (m *model) create(account uint64, name, use string, now int64) (*modelBox, error) {
	a := m.accounts[account]
	if a == nil {
		return nil, ErrNoAccount
	}
	if old := a.boxes[name]; old != nil && !old.noSelect {
		return nil, ErrExists
	}
	m.addParents(a, name, now)
	b := m.add(a, name, now)
	b.use = use
	return b, nil
}

func (m *model) remove(account uint64, name string) error {
	a := m.accounts[account]
	switch {
	case a == nil:
		return ErrNoAccount
	case name == "INBOX":
		return ErrInvalidName
	case a.boxes[name] == nil:
		return ErrNoMailbox
	}
	if len(a.children(name)) == 0 {
		delete(a.boxes, name)
		return nil
	}
	if a.boxes[name].noSelect {
		return ErrHasChildren
	}
	m.add(a, name, 0).noSelect = true
	return nil
}

func (m *model) rename(account uint64, from, to string, now int64) error {
	a := m.accounts[account]
	switch {
	case a == nil:
		return ErrNoAccount
	case a.boxes[from] == nil:
		return ErrNoMailbox
	case a.boxes[to] != nil:
		return ErrExists
	}
	if from == "INBOX" {
		in := a.boxes[from]
		b, err := m.create(account, to, "", now)
		if err != nil {
			return err
		}
		m.copy(in, slices.Sorted(maps.Keys(in.messages)), b, true, 0)
		return nil
	}
	if strings.HasPrefix(to, from+"/") {
		return ErrInvalidName
	}
	children := a.children(from)
	m.addParents(a, to, now)
	for _, old := range append([]string{from}, children...) {
		b := a.boxes[old]
		delete(a.boxes, old)
		a.boxes[to+old[len(from):]] = b
	}
	return nil
}

func (m *model) box(account uint64, id uint32) (*modelBox, error) {
	a := m.accounts[account]
	if a == nil {
		return nil, ErrNoAccount
	}
	for _, b := range a.boxes {
		if b.id == id && !b.noSelect {
			return b, nil
		}
	}
	return nil, ErrNoMailbox
}

func (b *modelBox) learn(words []string) map[string]bool {
	set := map[string]bool{}
	for _, w := range words {
		folded := strings.ToLower(w)
		set[folded] = true
		if !slices.ContainsFunc(b.keywords, func(k string) bool { return strings.ToLower(k) == folded }) {
			b.keywords = append(b.keywords, w)
		}
	}
	return set
}

func (b *modelBox) flags(msg *modelMessage) Flags {
	f := Flags{System: msg.Flags.System}
	for _, k := range b.keywords {
		if msg.words[strings.ToLower(k)] {
			f.Keywords = append(f.Keywords, k)
		}
	}
	return f
}

func (m *model) deliver(b *modelBox, msg NewMessage) uint32 {
	uid := b.next
	b.next++
	b.messages[uid] = &modelMessage{NewMessage: msg, modseq: m.bump(b), words: b.learn(msg.Flags.Keywords)}
	return uid
}

func (m *model) copy(from *modelBox, uids []uint32, to *modelBox, move bool, at int64) []uint32 {
	var out []uint32
	for _, uid := range uids {
		msg := from.messages[uid].NewMessage
		msg.Flags = from.flags(from.messages[uid])
		uid := m.deliver(to, msg)
		if to.messages[uid].copied = from.messages[uids[len(out)]].copied; at != 0 {
			to.messages[uid].copied = at
		}
		out = append(out, uid)
	}
	if move {
		m.expunge(from, uids)
	}
	return out
}

func (m *model) expunge(b *modelBox, uids []uint32) {
	for _, uid := range uids {
		delete(b.messages, uid)
		b.vanished[uid] = m.bump(b)
	}
}

// pick is those of uids (nil: all) that exist, ascending.
func (b *modelBox) pick(uids *roaring.Bitmap) []uint32 {
	var out []uint32
	for uid := range b.messages {
		if uids == nil || uids.Contains(uid) {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) store(b *modelBox, uids *roaring.Bitmap, op FlagOp, f Flags, since uint64) (changed []FlagChange, failed []uint32) {
	picked := b.pick(uids)
	if op != OpRemove && len(picked) > 0 {
		before := slices.Clone(b.keywords)
		b.learn(f.Keywords)
		defer func() {
			if len(changed) == 0 {
				b.keywords = before
			}
		}()
	}
	words := map[string]bool{}
	for _, w := range f.Keywords {
		words[strings.ToLower(w)] = true
	}
	for _, uid := range picked {
		msg := b.messages[uid]
		if since > 0 && msg.modseq > since {
			failed = append(failed, uid)
			continue
		}
		system, set := f.System, maps.Clone(words)
		switch op {
		case OpAdd:
			system |= msg.Flags.System
			maps.Copy(set, msg.words)
		case OpRemove:
			system, set = msg.Flags.System&^f.System, maps.Clone(msg.words)
			maps.DeleteFunc(set, func(w string, _ bool) bool { return words[w] })
		}
		if system == msg.Flags.System && maps.Equal(set, msg.words) {
			continue
		}
		changed = append(changed, FlagChange{UID: uid})
		msg.Flags.System, msg.words = system, set
	}
	for i, c := range changed {
		msg := b.messages[c.UID]
		msg.modseq = m.bump(b)
		changed[i].ModSeq, changed[i].Flags = msg.modseq, b.flags(msg)
	}
	return changed, failed
}

// mailbox is what a View should say about b.
func (b *modelBox) mailbox(name string, subscribed bool) Mailbox {
	mb := Mailbox{ID: b.id, Name: name, UIDValidity: b.validity, UIDNext: b.next, HighestModSeq: b.high, SpecialUse: b.use,
		Subscribed: subscribed, Keywords: b.keywords, NoSelect: b.noSelect, Told: b.told}
	for uid, msg := range b.messages {
		mb.Messages++
		if uid >= b.told {
			mb.Recent++
		}
		mb.Size += msg.Size
		if msg.Flags.System&FlagSeen == 0 {
			mb.Unseen++
		}
		if msg.Flags.System&FlagDeleted != 0 {
			mb.Deleted++
		}
	}
	return mb
}

// outcome renders a result or error so that both implementations' can be compared.
func outcome(err error, result ...any) string {
	for _, kind := range []error{ErrNoAccount, ErrNoMailbox, ErrExists, ErrInvalidName, ErrHasChildren, ErrNoMessage} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	if over := (*QuotaError)(nil); errors.As(err, &over) {
		return "over quota"
	}
	if err != nil {
		return "unexpected: " + err.Error()
	}
	return fmt.Sprint(result...)
}
