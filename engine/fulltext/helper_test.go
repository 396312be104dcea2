package fulltext

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var box = Mailbox{Shard: 3, Account: 7, ID: 1}

const validity = 11

var discard = slog.New(slog.DiscardHandler)

func openIn(t testing.TB, fs vfs.FS) *DB {
	t.Helper()
	db, err := Open(fs, "fulltext", discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// index adds messages, each of some texts, as one batch whose first has the UID first.
func (db *DB) index(t testing.TB, first uint32, messages ...[]string) {
	t.Helper()
	b := NewBatch(box, validity, first-1)
	for i, texts := range messages {
		b.Begin(first + uint32(i))
		for _, text := range texts {
			if b.Text([]byte(text)) {
				break
			}
		}
	}
	if err := db.Commit(b, first+uint32(len(messages))-1); err != nil {
		t.Fatal(err)
	}
}

func (db *DB) find(t testing.TB, needle string) Answer {
	t.Helper()
	a, err := db.Search(context.Background(), box, validity, needle)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tend merges all there is to merge.
func (db *DB) tend(t testing.TB, alive *roaring.Bitmap) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = db.Tend(context.Background(), box, alive, math.MaxUint32); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(n uint32) *roaring.Bitmap {
	all := roaring.New()
	all.AddRange(1, uint64(n)+1)
	return all
}

// words are what random texts are made of: scripts, cases, marks, signs and lengths that are easy to get wrong.
var words = []string{
	"a", "B", "ab", "Ünïcode", "e\u0301", "x1", "1984", "_", "-", " ", "  ", "\r\n", ".", "@", "<b>", "&nbsp;", "中", "中文", "日本語", "カタカナ", "ﾊﾝｶｸ", "한국어", "ไทย",
	"😀", "ẞ", "İ", "Σς", "\xff", "\xe4\xb8", "々", "ー", "invoice", "InVoIcE", "voice", "ǅ", "𝒳", "𠮷", "０１", "\u200b", "0123456789abcdef", "\u3099",
}

// text is a random one of about n words, of which some stick together into very long ones.
func text(rng *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		w := words[rng.IntN(len(words))]
		if rng.IntN(40) == 0 {
			w = strings.Repeat(words[rng.IntN(3)]+words[31+rng.IntN(3)], 1+rng.IntN(50))
		}
		b.WriteString(w)
		if rng.IntN(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// contains compares as searches do.
func contains(texts []string, needle string) bool {
	for _, s := range texts {
		if strings.Contains(strings.ToLower(s), strings.ToLower(needle)) {
			return true
		}
	}
	return false
}

// partOf cuts a random piece of characters out of a text.
func partOf(rng *rand.Rand, s string, most int) string {
	chars := []rune(s)
	if len(chars) == 0 {
		return ""
	}
	from := rng.IntN(len(chars))
	return string(chars[from : from+1+rng.IntN(min(most, len(chars)-from))])
}

// validTerm says whether a term is one that terms may emit.
func validTerm(term []byte) bool {
	return len(term) > 1 && (class(term[0]) == word || class(term[0]) == solid) && utf8.Valid(term[1:]) && !bytes.ContainsRune(term[1:], 0)
}
