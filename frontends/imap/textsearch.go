package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/message"
)

// searchBuffer is how much text is looked at at once.
const searchBuffer = 32 << 10

// candidates are the messages that a full-text index leaves to be looked into for a text: of those up to through only those in uids.
type candidates struct {
	through uint32
	uids    *roaring.Bitmap
}

func (c *candidates) may(uid uint32) bool { return uid > c.through || c.uids.Contains(uid) }

// candidatesFor asks the index, once for each text.
func (q *query) candidatesFor(text string) *candidates {
	c := q.candidates[text]
	if c == nil {
		c = new(candidates)
		c.through, c.uids = q.s.mail.Candidates(q.ctx, q.sel.account, q.sel.id, q.sel.uidValidity, text)
		q.candidates[text] = c
	}
	return c
}

// narrow leaves those of in that may have a text.
func (q *query) narrow(in *roaring.Bitmap, text string) *roaring.Bitmap {
	if text == "" || in.IsEmpty() {
		return in
	}
	c := q.candidatesFor(text)
	if c.through == 0 {
		return in
	}
	above := in.Clone()
	above.RemoveRange(0, uint64(c.through)+1)
	out := roaring.And(in, c.uids)
	out.RemoveRange(uint64(c.through)+1, math.MaxUint32+1)
	out.Or(above)
	return out
}

// matchText looks for a text in a message's text parts and in the names of its files, and with header also in its header and those of the messages and parts
// inside. Texts are compared in UTF-8, regardless of case, without their encodings.
func (q *query) matchText(e *entry, text string, header bool) (bool, error) {
	needle := []byte(fold(text))
	if len(needle) == 0 {
		return true, nil
	}
	if !q.candidatesFor(text).may(e.uid) {
		return false, nil
	}
	if err := q.s.summarise(e); err != nil {
		return false, err
	}
	inField := foldField(text)
	t := message.Texts{
		Open:  func(from, to uint64) (io.ReadCloser, error) { return q.s.openBytes(q.ctx, e, from, to) },
		Field: func(text string) (bool, error) { return strings.Contains(foldField(text), inField), nil },
		Body:  func(r io.Reader) (bool, error) { return containsFolded(r, needle) },
	}
	found, err := t.Walk(e.sum.Structure, header)
	if err != nil {
		return false, fmt.Errorf("search message %d: %w", e.uid, err)
	}
	return found, nil
}

// containsFolded says whether a stream of UTF-8 contains needle, which is folded, regardless of case. It keeps one
// buffer's worth: the end of each stays in front of the next, cut where a character starts.
func containsFolded(r io.Reader, needle []byte) (bool, error) {
	raw := make([]byte, searchBuffer)
	rest := 0 // bytes of an incomplete character at the start of raw
	var folded []byte
	for {
		n, err := r.Read(raw[rest:])
		n += rest
		whole := n
		if err == nil {
			whole = n - incomplete(raw[:n])
		}
		folded = append(folded, bytes.ToLower(raw[:whole])...)
		if bytes.Contains(folded, needle) {
			return true, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return false, err
		}
		if keep := len(needle) - 1; len(folded) > keep {
			folded = folded[:copy(folded, folded[len(folded)-keep:])]
		}
		rest = copy(raw, raw[whole:n])
	}
}

// incomplete is the length of a character at the end of b of which bytes are missing.
func incomplete(b []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-i:]) {
				return 0
			}
			return i
		}
	}
	return 0
}
