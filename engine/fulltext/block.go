package fulltext

import (
	"bytes"
)

// Sizes of a block in bytes. One is full when either is reached.
const (
	termsBlock = 32 << 10
	listsBlock = 128 << 10
)

// blocks writes a segment's terms and lists, in ascending order of terms, as blocks of one class each. Terms stand in a block without their class, each
// between two zero bytes, so that one search for bytes finds those that begin, end or contain something.
type blocks struct {
	m    Mailbox
	id   uint64
	base uint32
	put  func(key, value []byte) error

	first   []byte
	terms   []byte
	lists   []byte
	scratch []byte
}

func (w *blocks) add(term []byte, uids []uint32) error {
	if len(w.terms) > 0 && (w.first[0] != term[0] || len(w.terms) >= termsBlock || len(w.lists) >= listsBlock) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.terms) == 0 {
		w.first = append(w.first[:0], term...)
		w.terms = append(w.terms, 0)
	}
	w.terms = append(append(w.terms, term[1:]...), 0)
	w.lists, w.scratch = appendList(w.lists, w.scratch, w.base, uids)
	return nil
}

// flush writes the block under way.
func (w *blocks) flush() error {
	if len(w.terms) == 0 {
		return nil
	}
	if err := w.put(w.m.block(w.id, tagTerms, w.first), w.terms); err != nil {
		return err
	}
	if err := w.put(w.m.block(w.id, tagLists, w.first), w.lists); err != nil {
		return err
	}
	w.terms, w.lists = w.terms[:0], w.lists[:0]
	return nil
}

// hits gives the numbers of the terms in a block that a pattern is found in, ascending.
func hits(block, pattern []byte) (numbers []int) {
	number, counted := -1, 0 // of the term that ends before block[counted]
	for at := 0; ; {
		i := bytes.Index(block[at:], pattern)
		if i < 0 {
			return numbers
		}
		at += i
		if pattern[0] == 0 { // the zero before the term
			at++
		}
		number += bytes.Count(block[counted:at], []byte{0})
		counted = at
		numbers = append(numbers, number)
		end := bytes.IndexByte(block[at:], 0)
		if end < 0 {
			return numbers
		}
		at += end // this zero may be the one before the next
	}
}
