package fulltext

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// cursor goes through a segment's terms, ascending, with their lists.
type cursor struct {
	seg          segment
	terms, lists *pebble.Iterator
	class        byte
	block, rest  []byte // of terms, the first zero taken off; of lists
	keys         [][]byte

	term []byte // where it stands, with its class; nil at the end
	head uint64 // its list
	body []byte
}

func newCursor(r pebble.Reader, m Mailbox, s segment) (c *cursor, err error) {
	c = &cursor{seg: s}
	if c.terms, err = segmentIter(r, m, s.ID, tagTerms); err != nil {
		return nil, err
	}
	if c.lists, err = segmentIter(r, m, s.ID, tagLists); err != nil {
		return nil, errors.Join(err, c.terms.Close())
	}
	c.terms.First()
	c.lists.First()
	if err := c.load(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func segmentIter(r pebble.Reader, m Mailbox, id uint64, tag byte) (*pebble.Iterator, error) {
	prefix := append(m.segment(id), tag)
	return r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
}

// load takes the block that the iterators stand at, and its first term.
func (c *cursor) load() (err error) {
	if !c.terms.Valid() || !c.lists.Valid() {
		c.term = nil
		if err := errors.Join(c.terms.Error(), c.lists.Error()); err != nil {
			return err
		}
		if c.terms.Valid() != c.lists.Valid() {
			return fmt.Errorf("%w: segment %x has more blocks of one kind", errDamage, c.seg.ID)
		}
		return nil
	}
	_, first, err := splitBlock(c.terms.Key())
	if err != nil {
		return err
	}
	if _, same, err := splitBlock(c.lists.Key()); err != nil || !bytes.Equal(first, same) {
		return errors.Join(fmt.Errorf("%w: segment %x: terms without their lists", errDamage, c.seg.ID), err)
	}
	c.keys = append(c.keys, bytes.Clone(c.terms.Key()), bytes.Clone(c.lists.Key()))
	c.class = first[0]
	var errTerms error
	c.block, errTerms = c.terms.ValueAndErr()
	c.rest, err = c.lists.ValueAndErr()
	if err := errors.Join(errTerms, err); err != nil {
		return err
	}
	if len(c.block) < 2 || c.block[0] != 0 {
		return fmt.Errorf("%w: segment %x: a block of terms", errDamage, c.seg.ID)
	}
	c.block = c.block[1:]
	return c.take()
}

// take takes the next term of the block.
func (c *cursor) take() (err error) {
	end := bytes.IndexByte(c.block, 0)
	if end <= 0 {
		return fmt.Errorf("%w: segment %x: a block of terms", errDamage, c.seg.ID)
	}
	c.term = append(append(c.term[:0], c.class), c.block[:end]...)
	c.block = c.block[end+1:]
	if c.head, c.body, c.rest, err = cutList(c.rest); err != nil {
		return fmt.Errorf("%w: segment %x: %w", errDamage, c.seg.ID, err)
	}
	return nil
}

// next goes to the next term.
func (c *cursor) next() error {
	if len(c.block) > 0 {
		return c.take()
	}
	c.terms.Next()
	c.lists.Next()
	return c.load()
}

func (c *cursor) close() error { return errors.Join(c.terms.Close(), c.lists.Close()) }
