package order

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// maxClimb is how many ancestors of a message are looked at for a loop. A reply below as many begins a thread, which its subject
// joins to the other one again.
const maxClimb = 1000

// nodeSize is about what a message keeps: its node and its entry in the table of ids.
const nodeSize = 40 + 40

// Mail is what threads are made of. The fields' values are as in the message.
type Mail struct {
	MessageID, References, InReplyTo string
}

// Hasher turns what threads are made of into hashes. Its seed is secret, so nobody makes two texts that meet; hashes go together with those of the same Hasher only.
type Hasher struct{ seed maphash.Seed }

// NewHasher returns one with a seed of its own.
func NewHasher() *Hasher { return &Hasher{maphash.MakeSeed()} }

const hashSize = 8

func (h *Hasher) append(dst, text []byte) []byte {
	return binary.NativeEndian.AppendUint64(dst, max(maphash.Bytes(h.seed, text), 1)) // 0 is none
}

// AppendTopic appends what a subject without encoded words says of a message's thread: its base, and whether it marks a reply.
func (h *Hasher) AppendTopic(dst []byte, subject string) []byte {
	base, reply := Base(subject)
	mark := byte(0)
	if reply {
		mark = 1
	}
	dst = append(dst, mark)
	if base == "" {
		return append(dst, make([]byte, hashSize)...)
	}
	return h.append(dst, AppendCasemap(nil, base))
}

// AppendLinks appends what a message's ids say of its thread: its own, and those that it refers to, the nearest last.
func (h *Hasher) AppendLinks(dst []byte, m *Mail) []byte {
	start := len(dst)
	first := func(id []byte) bool {
		dst = h.append(dst, id)
		return false
	}
	if ids(m.MessageID, first); len(dst) == start {
		dst = append(dst, make([]byte, hashSize)...)
	}
	start = len(dst)
	ids(m.References, func(id []byte) bool {
		dst = h.append(dst, id)
		return true
	})
	if len(dst) == start {
		ids(m.InReplyTo, first)
	}
	return dst
}

// Threads gathers messages into threads. Messages are added in the order of their UIDs, with what one Hasher made of them.
type Threads struct {
	f    Forest
	byID map[uint64]int32 // hash of a message id to its node
}

// NewThreads returns an empty one.
func NewThreads() *Threads {
	return &Threads{f: Forest{first: none}, byID: make(map[uint64]int32)}
}

// Size is the bytes of memory that the messages keep, about.
func (t *Threads) Size() int64 { return int64(len(t.f.nodes)) * nodeSize }

func (t *Threads) add(n node) int32 {
	t.f.nodes = append(t.f.nodes, n)
	return int32(len(t.f.nodes) - 1)
}

// about fills in what a message's node says of it.
func (n *node) about(uid uint32, sent int64, topic []byte) {
	n.uid, n.sent, n.reply, n.subject = uid, sent, topic[0] != 0, binary.NativeEndian.Uint64(topic[1:])
}

// AddSubject adds a message, sent at a time in unix seconds, for BySubject.
func (t *Threads) AddSubject(uid uint32, sent int64, topic []byte) {
	n := newNode()
	n.about(uid, sent, topic)
	t.add(n)
}

// BySubject makes the threads of ORDEREDSUBJECT: the first message of a subject, and the others as its children.
func (t *Threads) BySubject() *Forest {
	f := &t.f
	all := make([]int32, len(f.nodes))
	for i := range all {
		all[i] = int32(i)
	}
	slices.SortFunc(all, f.compare)
	first := make(map[uint64]int32)
	var roots []int32
	for _, n := range all {
		root, ok := first[f.nodes[n].subject]
		if !ok {
			first[f.nodes[n].subject] = n
			roots = append(roots, n)
			continue
		}
		f.adopt(root, n)
	}
	var scratch []int32
	for _, n := range roots {
		scratch = f.sortChildren(n, scratch)
	}
	f.first = f.chain(roots)
	return f
}

// Add adds a message, sent at a time in unix seconds, for ByReferences (RFC 5256 section 3, REFERENCES, step 1).
func (t *Threads) Add(uid uint32, sent int64, topic, links []byte) {
	self := t.own(binary.NativeEndian.Uint64(links))
	t.f.nodes[self].about(uid, sent, topic)
	last := none
	for links = links[hashSize:]; len(links) > 0; links = links[hashSize:] {
		n := t.named(binary.NativeEndian.Uint64(links))
		if last != none && t.f.nodes[n].parent == none && !t.below(last, n) {
			t.f.nodes[n].parent = last
		}
		last = n
	}
	if last == self {
		return
	}
	// What others said of the message's parent gives way to what it says itself, even if that cannot be since it is an ancestor.
	t.f.nodes[self].parent = none
	if last != none && !t.below(last, self) {
		t.f.nodes[self].parent = last
	}
}

// own is the node of a message with an id, 0 for none: the one that others named, or a new one where it has no id or that of another message.
func (t *Threads) own(id uint64) int32 {
	self := none
	if id != 0 {
		self = t.named(id)
	}
	if self == none || t.f.nodes[self].uid != 0 {
		self = t.add(newNode())
	}
	return self
}

func (t *Threads) named(id uint64) int32 {
	n, ok := t.byID[id]
	if !ok {
		n = t.add(newNode())
		t.byID[id] = n
	}
	return n
}

// below says whether n is ancestor or below it, or whether that would take too long to find out.
func (t *Threads) below(n, ancestor int32) bool {
	for range maxClimb {
		if n == none {
			return false
		}
		if n == ancestor {
			return true
		}
		n = t.f.nodes[n].parent
	}
	return true
}

// ByReferences makes the threads of REFERENCES (RFC 5256 section 3). Nothing can be added then.
func (t *Threads) ByReferences() *Forest {
	t.byID = nil
	roots := t.prune() // steps 2 and 3
	f := &t.f
	var scratch []int32
	for n := range f.nodes {
		scratch = f.sortChildren(int32(n), scratch)
	}
	slices.SortFunc(roots, f.compare) // step 4
	roots = t.merge(roots)            // step 5
	for _, n := range roots {         // step 6: below the roots nothing has changed since
		scratch = f.sortChildren(n, scratch)
	}
	f.first = f.chain(roots)
	return f
}

// prune leaves of the dummies those that have several children and no parent.
func (t *Threads) prune() (roots []int32) {
	nodes := t.f.nodes
	for i := range nodes {
		if n := &nodes[i]; n.uid != 0 {
			n.parent = t.realParent(n.parent)
		}
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		if n := &nodes[i]; n.uid != 0 && n.parent != none {
			t.f.adopt(n.parent, int32(i))
		}
	}
	for i := range nodes { // an only child is promoted
		if n := &nodes[i]; n.uid == 0 && n.child != none && nodes[n.child].next == none {
			nodes[n.child].parent, n.child = none, none
		}
	}
	for i := range nodes {
		if n := &nodes[i]; n.parent == none && (n.uid != 0 || n.child != none) {
			roots = append(roots, int32(i))
		}
	}
	return roots
}

// realParent is the first ancestor that is a message, else the topmost. The dummies on the way are pointed to it.
func (t *Threads) realParent(from int32) int32 {
	nodes, top := t.f.nodes, from
	for top != none && nodes[top].uid == 0 && nodes[top].parent != none {
		top = nodes[top].parent
	}
	for n := from; n != top; {
		n, nodes[n].parent = nodes[n].parent, top
	}
	return top
}

// merge joins threads of the same subject.
func (t *Threads) merge(roots []int32) (left []int32) {
	f, table := &t.f, make(map[uint64]int32)
	for _, n := range roots {
		cur := &f.nodes[n]
		if cur.subject == 0 {
			continue
		}
		known, ok := table[cur.subject]
		if !ok || f.nodes[known].uid != 0 && (cur.uid == 0 || f.nodes[known].reply && !cur.reply) {
			table[cur.subject] = n
		}
	}
	merged := func(n int32) bool {
		return f.nodes[n].parent != none || f.nodes[n].uid == 0 && f.nodes[n].child == none
	}
	var made []int32
	for _, n := range roots {
		subject := f.nodes[n].subject
		if known := table[subject]; subject != 0 && known != n && !merged(n) {
			if d := t.join(known, n); d != known {
				table[subject] = d
				made = append(made, d)
			}
		}
	}
	return slices.DeleteFunc(append(roots, made...), merged)
}

// join joins the thread n to one of the same subject, and returns the root of both.
func (t *Threads) join(known, n int32) int32 {
	f := &t.f
	switch a, b := &f.nodes[known], &f.nodes[n]; {
	case a.uid == 0 && b.uid == 0:
		for c := b.child; c != none; {
			next := f.nodes[c].next
			f.adopt(known, c)
			c = next
		}
		b.child = none
		return known
	case a.uid == 0, b.reply && !a.reply:
		f.adopt(known, n)
		return known
	}
	both := newNode()
	both.subject = f.nodes[n].subject
	d := t.add(both)
	f.adopt(d, known)
	f.adopt(d, n)
	return d
}
