package fulltext

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// The messages that have a term are a list of UIDs, relative to the segment's first:
//
//	one message     uvarint: number·2 + 1
//	several         uvarint: bytes·4 + kind·2, then the bytes: of kind 0 the first number, then what each is above the one before, less one, all
//	                uvarints; of kind 1 a bit for each number from 0 on, the lowest bit of a byte first
//
// whichever kind is shorter: a word of every message costs a bit of each.

var errList = errors.New("list of messages is damaged")

const (
	kindSteps = 0
	kindBits  = 1
)

// appendList encodes uids, ascending and at least one, of which none is below base.
func appendList(dst, scratch []byte, base uint32, uids []uint32) (list, buffer []byte) {
	if len(uids) == 1 {
		return binary.AppendUvarint(dst, uint64(uids[0]-base)<<1|1), scratch
	}
	body, kind := scratch[:0], uint64(kindSteps)
	room := int((uids[len(uids)-1]-base)/8) + 1 // of kind 1
	next := base
	for _, u := range uids {
		body = binary.AppendUvarint(body, uint64(u-next))
		next = u + 1
		if len(body) > room {
			break
		}
	}
	if len(body) > room {
		body, kind = append(body[:0], make([]byte, room)...), kindBits
		for _, u := range uids {
			body[(u-base)/8] |= 1 << ((u - base) % 8)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(body))<<2|kind<<1)
	return append(dst, body...), body
}

// cutList takes the first list off b.
func cutList(b []byte) (head uint64, body, rest []byte, err error) {
	head, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, nil, errList
	}
	b = b[n:]
	if head&1 == 1 {
		return head, nil, b, nil
	}
	if head>>2 > uint64(len(b)) {
		return 0, nil, nil, errList
	}
	return head, b[:head>>2], b[head>>2:], nil
}

// eachOf calls fn for every UID of a list that cutList gave; those above last are damage.
func eachOf(head uint64, body []byte, base, last uint32, fn func(uid uint32)) error {
	span := uint64(last - base)
	if head&1 == 1 {
		if head>>1 > span {
			return errList
		}
		fn(base + uint32(head>>1))
		return nil
	}
	if head>>1&1 == kindBits {
		return eachBit(body, span, func(n uint64) { fn(base + uint32(n)) })
	}
	for at := uint64(0); len(body) > 0; at++ {
		step, n := binary.Uvarint(body)
		if n <= 0 || step > span || at+step > span {
			return errList
		}
		at += step
		fn(base + uint32(at))
		body = body[n:]
	}
	return nil
}

func eachBit(body []byte, span uint64, fn func(n uint64)) error {
	for i, b := range body {
		for bit := uint64(0); b != 0; bit, b = bit+1, b>>1 {
			if b&1 == 0 {
				continue
			}
			n := uint64(i)*8 + bit
			if n > span {
				return errList
			}
			fn(n)
		}
	}
	return nil
}

// encodeSet and decodeSet are for sets of UIDs on the disk; an empty one is nothing.
func encodeSet(set *roaring.Bitmap) ([]byte, error) {
	if set == nil || set.IsEmpty() {
		return nil, nil
	}
	b, err := set.ToBytes()
	if err != nil {
		return nil, fmt.Errorf("encode a set of messages: %w", err)
	}
	return b, nil
}

func decodeSet(b []byte) (*roaring.Bitmap, error) {
	set := roaring.New()
	if len(b) == 0 {
		return set, nil
	}
	if err := set.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("set of messages: %w", err)
	}
	if err := set.Validate(); err != nil {
		return nil, fmt.Errorf("set of messages: %w", err)
	}
	return set, nil
}
