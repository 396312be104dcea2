package fulltext

import (
	"bytes"
	"slices"
)

// maxPieces bounds what one search looks for. Leaving a piece out only makes more candidates.
const maxPieces = 32

// where says how a piece lies in a term.
type where byte

const (
	whole  where = iota // is the term
	front               // begins it
	back                // ends it
	inside              // anywhere in it
)

// piece is what the terms of a message must have for a search to find it.
type piece struct {
	class class
	where where
	text  []byte
}

// pattern is what a piece looks like in a block of terms, where each stands between two zero bytes.
func (p piece) pattern() []byte {
	out := bytes.Clone(p.text)
	if p.where == whole || p.where == front {
		out = append([]byte{0}, out...)
	}
	if p.where == whole || p.where == back {
		out = append(out, 0)
	}
	return out
}

// pieces cuts what is searched for as texts are cut. The cheap ones come first: those that go through all terms last.
func pieces(needle string) []piece {
	var chars []rune
	for _, r := range needle {
		chars = append(chars, fold(r))
	}
	var out []piece
	add := func(c class, w where, run []rune) {
		p := piece{c, w, []byte(string(run))}
		same := func(q piece) bool { return q.class == p.class && q.where == p.where && bytes.Equal(q.text, p.text) }
		if !slices.ContainsFunc(out, same) {
			out = append(out, p)
		}
	}
	for from := 0; from < len(chars); {
		c, to := classOf(chars[from]), from+1
		for to < len(chars) && classOf(chars[to]) == c {
			to++
		}
		switch run := chars[from:to]; c {
		case word:
			wordPieces(run, from > 0, to < len(chars), add)
		case solid:
			solidPieces(run, to < len(chars), add)
		}
		from = to
	}
	slices.SortStableFunc(out, func(a, b piece) int {
		if a.where != b.where {
			return int(a.where) - int(b.where)
		}
		return len(b.text) - len(a.text) // longer ones are rarer
	})
	return out[:min(len(out), maxPieces)]
}

// wordPieces are those of letters of which the search says whether a word begins before them and ends behind them.
func wordPieces(run []rune, begins, ends bool, add func(class, where, []rune)) {
	n := len(run)
	switch {
	case begins && ends && n > maxWord:
		add(word, whole, run[:maxWord])
		add(word, whole, run[n-maxWord:])
	case begins && ends:
		add(word, whole, run)
	case begins:
		add(word, front, run[:min(n, maxWord)])
	case ends:
		add(word, back, run[max(0, n-maxWord):])
	case n > maxInfix:
		add(word, inside, run[:maxInfix])
		add(word, inside, run[n-maxInfix:])
	case n > 1: // nearly every message has every letter
		add(word, inside, run)
	}
}

func solidPieces(run []rune, ends bool, add func(class, where, []rune)) {
	if len(run) == 1 {
		if ends {
			add(solid, whole, run)
			return
		}
		add(solid, front, run)
	}
	for i := range len(run) - 1 {
		add(solid, whole, run[i:i+2])
	}
}
