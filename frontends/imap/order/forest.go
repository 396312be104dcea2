package order

import (
	"cmp"
	"iter"
	"slices"
)

const none int32 = -1

// node is a message, or a place where one is missing: a dummy. 40 bytes.
type node struct {
	sent                int64
	subject             uint64 // hash of the base subject, 0 for the empty one
	uid                 uint32 // 0: a dummy
	parent, child, next int32
	reply               bool
}

func newNode() node { return node{parent: none, child: none, next: none} }

// Forest is threads in their order.
type Forest struct {
	nodes []node
	first int32 // of the roots, which next joins
}

// TokenKind is a kind of Token.
type TokenKind uint8

// The kinds of tokens.
const (
	Message TokenKind = iota
	Open              // a thread, or a branch, begins
	Close
)

// Token is what a thread is written in (RFC 5256 section 4).
type Token struct {
	Kind TokenKind
	UID  uint32
}

// Tokens are the threads in their order: messages that follow each other are parent and child, a branch is between Open and Close.
func (f *Forest) Tokens() iter.Seq[Token] {
	return func(yield func(Token) bool) {
		var open []int32 // of each branch that is open, the root
		for n := f.first; n != none; {
			open = append(open, n)
			if !yield(Token{Kind: Open}) || !f.down(n, &open, yield) {
				return
			}
			n = none
			for n == none && len(open) > 0 {
				if !yield(Token{Kind: Close}) {
					return
				}
				n = f.nodes[open[len(open)-1]].next
				open = open[:len(open)-1]
			}
		}
	}
}

// down tells a branch, and the first of those that it branches into, down to a leaf.
func (f *Forest) down(n int32, open *[]int32, yield func(Token) bool) bool {
	for {
		if uid := f.nodes[n].uid; uid != 0 && !yield(Token{Kind: Message, UID: uid}) {
			return false
		}
		if n = f.nodes[n].child; n == none {
			return true
		}
		if f.nodes[n].next == none {
			continue
		}
		*open = append(*open, n)
		if !yield(Token{Kind: Open}) {
			return false
		}
	}
}

// compare is the order of siblings: by sent date, then as in the mailbox. A dummy stands where its first child does.
func (f *Forest) compare(a, b int32) int {
	return cmp.Or(cmp.Compare(f.nodes[a].sent, f.nodes[b].sent), cmp.Compare(f.lead(a), f.lead(b)))
}

func (f *Forest) lead(n int32) uint32 {
	if f.nodes[n].uid == 0 && f.nodes[n].child != none {
		n = f.nodes[n].child
	}
	return f.nodes[n].uid
}

// sortChildren sorts the children of a node, and has a dummy take after the first.
func (f *Forest) sortChildren(n int32, scratch []int32) []int32 {
	p := &f.nodes[n]
	if p.child == none {
		return scratch
	}
	scratch = scratch[:0]
	for c := p.child; c != none; c = f.nodes[c].next {
		scratch = append(scratch, c)
	}
	p.child = f.chain(scratch)
	if p.uid == 0 {
		p.sent, p.subject = f.nodes[p.child].sent, f.nodes[p.child].subject
	}
	return scratch
}

// chain sorts siblings and joins them, and returns the first.
func (f *Forest) chain(siblings []int32) int32 {
	slices.SortFunc(siblings, f.compare)
	next := none
	for _, n := range slices.Backward(siblings) {
		f.nodes[n].next = next
		next = n
	}
	return next
}

// adopt makes a node the first child of another.
func (f *Forest) adopt(parent, child int32) {
	f.nodes[child].parent = parent
	f.nodes[child].next = f.nodes[parent].child
	f.nodes[parent].child = child
}
