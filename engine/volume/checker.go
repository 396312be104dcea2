package volume

import (
	"hash/crc32"
)

// checker follows the bytes of a volume from the start of a record on, in pieces of any size, and
// verifies everything but the SHA-256: header checksum, record number, checksum of the metadata, length and
// checksum of each chunk, padding. It keeps no payload.
type checker struct {
	rules rules
	order order

	off   int64    // file offset of the next byte
	whole int64    // end of the last whole record
	ended []placed // records that became whole since the owner looked

	step     step
	head     [recordHeaderSize]byte // gathered bytes of a record's or chunk's header
	have     int
	start    int64        // of the record
	record   recordHeader // the last whose header was complete
	chunk    chunkHeader
	left     int64  // bytes left in metadata, chunk or padding
	sum      uint32 // checksum so far of metadata or chunk
	rawLeft  uint64 // of the message, in the chunks to come
	chunkEnd int64  // where the record's chunks end
}

// step is what the next byte belongs to.
type step uint8

const (
	inHeader step = iota
	inMeta
	inChunkHeader
	inChunk
	inPadding
)

func newChecker(r rules, o order, off int64) *checker {
	return &checker{rules: r, order: o, off: off, whole: off}
}

// feed takes the next bytes. After an error, which says what is wrong at c.off, the checker is of no use.
func (c *checker) feed(p []byte) error {
	for len(p) > 0 {
		n, err := c.eat(p)
		if err != nil {
			return err
		}
		p = p[n:]
		c.off += int64(n)
		if err := c.turn(); err != nil {
			return err
		}
	}
	return nil
}

// eat takes what belongs to the current step.
func (c *checker) eat(p []byte) (int, error) {
	switch c.step {
	case inHeader:
		return c.gather(p, recordHeaderSize), nil
	case inChunkHeader:
		return c.gather(p, chunkHeaderSize), nil
	}
	n := int(min(int64(len(p)), c.left))
	c.left -= int64(n)
	if c.step != inPadding {
		c.sum = crc32.Update(c.sum, table, p[:n])
		return n, nil
	}
	for _, b := range p[:n] {
		if b != 0 {
			return 0, malformed("padding is not zero")
		}
	}
	return n, nil
}

func (c *checker) gather(p []byte, size int) int {
	n := copy(c.head[c.have:size], p)
	c.have += n
	return n
}

// turn goes to the next step where the current one is complete.
func (c *checker) turn() error {
	switch {
	case c.step == inHeader && c.have == recordHeaderSize:
		return c.endHeader()
	case c.step == inMeta && c.left == 0:
		if c.sum != c.record.metaCheck {
			return malformed("checksum of the metadata")
		}
		return c.endChunk()
	case c.step == inChunkHeader && c.have == chunkHeaderSize:
		return c.endChunkHeader()
	case c.step == inChunk && c.left == 0:
		if c.sum != c.chunk.check {
			return malformed("checksum of a chunk")
		}
		return c.endChunk()
	case c.step == inPadding && c.left == 0:
		c.endRecord()
	}
	return nil
}

func (c *checker) endHeader() error {
	h, err := c.rules.decode(c.head[:])
	if err != nil {
		return err
	}
	if !c.order.allows(h.number, 0) {
		return malformed("record number is out of order")
	}
	c.record, c.have, c.sum = h, 0, 0
	c.start = c.off - recordHeaderSize
	c.chunkEnd = c.off + int64(h.meta) + int64(h.stored)
	c.rawLeft = h.length
	if h.meta > 0 {
		c.step, c.left = inMeta, int64(h.meta)
		return nil
	}
	if h.metaCheck != 0 {
		return malformed("checksum of the metadata")
	}
	return c.endChunk()
}

// endChunk goes on behind the metadata or a chunk.
func (c *checker) endChunk() error {
	if c.rawLeft > 0 {
		c.step = inChunkHeader
		return nil
	}
	if c.off != c.chunkEnd {
		return malformed("chunks are shorter than the stored length")
	}
	c.step, c.left = inPadding, aligned(c.off)-c.off
	if c.left == 0 {
		c.endRecord()
	}
	return nil
}

func (c *checker) endChunkHeader() error {
	raw := uint32(min(c.rawLeft, uint64(c.record.chunk)))
	h, err := decodeChunkHeader(c.head[:], raw, c.record.tag())
	if err != nil {
		return err
	}
	if c.off+int64(h.size) > c.chunkEnd {
		return malformed("chunk runs over the stored length")
	}
	c.chunk, c.have = h, 0
	c.rawLeft -= uint64(raw)
	c.sum = checksum(c.head[:4])
	c.step, c.left = inChunk, int64(h.size)
	return nil
}

func (c *checker) endRecord() {
	c.ended = append(c.ended, placed{c.record.number, position(c.start), c.record.kind})
	c.whole = c.off
	c.order.take(c.record.number)
	c.step, c.have = inHeader, 0
}

// number is that of the record which the next byte belongs to; 0 if it is not known.
func (c *checker) number() uint64 {
	switch {
	case c.step != inHeader:
		return c.record.number
	case c.rules.sparse():
		return 0
	}
	return c.order.next
}
