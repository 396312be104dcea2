package fulltext

import (
	"unicode"
	"unicode/utf8"
)

// Lengths in characters. Words longer than maxWord are indexed as windows of that length, a new one each stride and one at the end: each part of a
// word of up to maxInfix characters lies in one of its windows.
const (
	maxWord  = 128
	stride   = 112
	maxInfix = maxWord - stride + 1
)

// class is what becomes of a character.
type class byte

const (
	gap   class = iota // separates
	word               // part of a word
	solid              // of a script without spaces between words
)

// solidRanges are the scripts whose words nothing separates, with the signs that belong to them. Ascending.
var solidRanges = [...][2]rune{
	{0x0e01, 0x0fff},   // Thai, Lao, Tibetan
	{0x1000, 0x109f},   // Myanmar
	{0x1100, 0x11ff},   // Hangul Jamo
	{0x1780, 0x17ff},   // Khmer
	{0x2e80, 0x2fdf},   // radicals
	{0x3005, 0x3007},   // 々〆〇
	{0x3031, 0x3035},   // repeat marks
	{0x3040, 0x4dbf},   // kana, Bopomofo, Hangul, compatibility, Han A
	{0x4e00, 0x9fff},   // Han
	{0xa000, 0xa4cf},   // Yi
	{0xa960, 0xa97f},   // Hangul Jamo A
	{0xac00, 0xd7ff},   // Hangul
	{0xf900, 0xfaff},   // Han, compatibility
	{0xff66, 0xffdc},   // halfwidth kana and Hangul
	{0x1aff0, 0x1b16f}, // kana, extended
	{0x20000, 0x3ffff}, // Han B and later
}

// classOf depends on the character alone: text and search must be cut at the same places.
func classOf(r rune) class {
	switch {
	case 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z':
		return word
	case r < utf8.RuneSelf:
		return gap
	case r >= 0x0e01:
		for _, s := range solidRanges {
			if r < s[0] {
				break
			}
			if r <= s[1] {
				return solid
			}
		}
	}
	switch {
	case r == utf8.RuneError: // what was no character
		return gap
	case unicode.In(r, unicode.L, unicode.N, unicode.M):
		return word
	case unicode.Is(unicode.So, r):
		return solid // emoji, and what else is looked for by itself
	}
	return gap
}

// fold makes characters that differ only in case the same, as frontends/imap compares texts.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	return unicode.ToLower(r)
}

// terms cuts text into terms and passes each, as often as it occurs, to emit, which must not keep it. A term's first byte is its class.
type terms struct {
	emit func(term []byte)

	run   class
	last  rune // of a solid run
	chars [maxWord]rune
	n     int // of chars
	since int // characters after the last window; of a word that is longer than one
	long  bool
	term  []byte
}

// add takes the next character, folded.
func (t *terms) add(r rune) {
	c := classOf(r)
	if c != t.run {
		t.end()
		t.run = c
		if c == solid {
			t.last = r
			return
		}
	}
	switch c {
	case solid:
		t.pass(solid, t.last, r)
		t.last = r
	case word:
		if t.n == maxWord {
			if !t.long || t.since == stride {
				t.pass(word, t.chars[:]...)
				t.long, t.since = true, 0
			}
			copy(t.chars[:], t.chars[1:])
			t.n--
		}
		t.chars[t.n] = r
		t.n++
		t.since++
	}
}

// end ends a run, as the end of a text does.
func (t *terms) end() {
	switch t.run {
	case word:
		t.pass(word, t.chars[:t.n]...)
		t.n, t.since, t.long = 0, 0, false
	case solid:
		t.pass(solid, t.last)
	}
	t.run = gap
}

func (t *terms) pass(c class, chars ...rune) {
	t.term = append(t.term[:0], byte(c))
	for _, r := range chars {
		t.term = utf8.AppendRune(t.term, r)
	}
	t.emit(t.term)
}

// text takes a whole text.
func (t *terms) text(b []byte) {
	for len(b) > 0 {
		char, n := rune(b[0]), 1
		if char >= utf8.RuneSelf {
			char, n = utf8.DecodeRune(b)
		}
		t.add(fold(char))
		b = b[n:]
	}
	t.end()
}
