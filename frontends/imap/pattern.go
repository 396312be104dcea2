package imap

import "strings"

const maxPatternLength = 1000 // bytes

// pattern is a LIST pattern (RFC 9051 section 6.3.9): '*' stands for any text, '%' for any without the delimiter.
// It is matched as an automaton whose set of states is a bit set, so that the time for a name is its length times the
// pattern's length / 64, whatever the pattern: "%*%*%*…" has no worse case.
type pattern struct {
	words   int
	literal map[byte][]uint64 // states whose pattern byte is this one
	any     []uint64          // states at '*'
	segment []uint64          // states at '%'
	wild    []uint64          // both
	last    int               // the state after the whole pattern
}

// compile makes a pattern. fold makes it match capitals regardless of its own case.
func compile(text string, fold bool) *pattern {
	if fold {
		text = strings.ToUpper(text)
	}
	text = joinWildcards(text)
	words := len(text)/64 + 1
	p := &pattern{
		words: words, last: len(text), literal: make(map[byte][]uint64),
		any: make([]uint64, words), segment: make([]uint64, words), wild: make([]uint64, words),
	}
	for i := 0; i < len(text); i++ {
		bit := uint64(1) << (i % 64)
		switch text[i] {
		case '*':
			p.any[i/64] |= bit
			p.wild[i/64] |= bit
		case '%':
			p.segment[i/64] |= bit
			p.wild[i/64] |= bit
		default:
			if p.literal[text[i]] == nil {
				p.literal[text[i]] = make([]uint64, words)
			}
			p.literal[text[i]][i/64] |= bit
		}
	}
	return p
}

// joinWildcards writes adjacent wildcards as the one that they amount to, so that none follows another.
func joinWildcards(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		for (c == '*' || c == '%') && i+1 < len(text) && (text[i+1] == '*' || text[i+1] == '%') {
			if i++; text[i] == '*' {
				c = '*'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// match says whether the pattern stands for the whole name.
func (p *pattern) match(name string) bool {
	now, next := make([]uint64, p.words), make([]uint64, p.words)
	now[0] = 1
	p.skipWild(now)
	for i := 0; i < len(name); i++ {
		c := name[i]
		clear(next)
		eq := p.literal[c]
		var carry, alive uint64
		for w := range now {
			if eq != nil {
				step := now[w] & eq[w]
				next[w] |= step<<1 | carry
				carry = step >> 63
			}
			next[w] |= now[w] & p.any[w]
			if c != delimiter {
				next[w] |= now[w] & p.segment[w]
			}
			alive |= next[w]
		}
		if alive == 0 {
			return false
		}
		p.skipWild(next)
		now, next = next, now
	}
	return now[p.last/64]>>(p.last%64)&1 == 1
}

// skipWild lets every wildcard that is reached stand for nothing. One step is enough, since none follows another.
func (p *pattern) skipWild(set []uint64) {
	var carry uint64
	for w := range set {
		step := set[w] & p.wild[w]
		set[w] |= step<<1 | carry
		carry = step >> 63
	}
}
