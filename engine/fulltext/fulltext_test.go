package fulltext

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/codec"
	"hongyan/engine/effort"
)

func TestTerms(t *testing.T) {
	long := strings.Repeat("abcdefgh", 30) // 240
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"Hello, World 42", "hello world 42"},
		{"a_b", "a b"},
		{"中文搜索", "中文 文搜 搜索 索"},
		{"中", "中"},
		{"Re:你好world再见", "re 你好 好 world 再见 见"},
		{"e\u0301te", "e\u0301te"},
		{"サーバー", "サー ーバ バー ー"},
		{"한국 어", "한국 국 어"},
		{"ไทย", "ไท ทย ย"},
		{"日々", "日々 々"},
		{"ok😀😀", "ok 😀😀 😀"},
		{"ÄÖÜ ΣΑΣ", "äöü σασ"},
		{long, long[:128] + " " + long[112:]},
		{long + "i", long[:128] + " " + long[112:240] + " " + (long + "i")[113:]},
		{long[:128], long[:128]},
		{"<p>Hi&nbsp;you</p>", "p hi nbsp you p"},
		{"\xff中\xff", "中"},
	} {
		var got []string
		e := terms{emit: func(term []byte) {
			if !validTerm(term) {
				t.Errorf("%q gives the term %q", c.text, term)
			}
			got = append(got, string(term[1:]))
		}}
		e.text([]byte(c.text))
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %q", c.text, strings.Join(got, " "), c.want)
		}
	}
}

func TestPieces(t *testing.T) {
	for _, c := range []struct{ needle, want string }{
		{"", ""}, {"--", ""}, {"x", ""}, {"Voice", "*voice*"}, {"llo wor", "wor* *llo"}, {"o brave n", "brave n* *o"}, {" x ", "x"},
		{"中", "中*"}, {"中 ", "中"}, {"中文", "中文"}, {"foo中文bar", "中文 bar* *foo"}, {"中文搜", "中文 文搜"},
		{strings.Repeat("a", 20), "*" + strings.Repeat("a", 17) + "*"},
		{" " + strings.Repeat("a", 140), strings.Repeat("a", 128) + "*"},
	} {
		var got []string
		for _, p := range pieces(c.needle) {
			s := string(p.text)
			if p.where == front || p.where == inside {
				s += "*"
			}
			if p.where == back || p.where == inside {
				s = "*" + s
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %q", c.needle, strings.Join(got, " "), c.want)
		}
	}
}

// TestCandidates says what is found, and that what is not there is not.
func TestCandidates(t *testing.T) {
	db := openIn(t, vfs.NewMem())
	if a := db.find(t, "anything"); a.Through != 0 || !a.UIDs.IsEmpty() {
		t.Errorf("an index of nothing: %v", a)
	}
	db.index(t, 1,
		[]string{"Subject: Budget 2026", "The first message."},
		[]string{"Subject: 测试", "你好，世界"},
		[]string{"Subject: invoice", strings.Repeat("ab12", 100)},
		[]string{"attachment 报告.pdf", "Hello world"},
	)
	for _, c := range []struct {
		needle string
		want   []uint32
	}{
		{"budget", []uint32{1}}, {"BUDG", []uint32{1}}, {"udge", []uint32{1}}, {"budget 2", []uint32{1}}, {"budget x", nil}, {"首", nil},
		{"测试", []uint32{2}}, {"试", []uint32{2}}, {"世", []uint32{2}}, {"界世", nil}, {"你好，世", []uint32{2}}, {"voice", []uint32{3}}, {"12ab1", []uint32{3}},
		{"告.pd", []uint32{4}}, {"lo wor", []uint32{4}}, {"subject", []uint32{1, 2, 3}}, {"...", []uint32{1, 2, 3, 4}},
	} {
		if a := db.find(t, c.needle); !slices.Equal(a.UIDs.ToArray(), c.want) && len(c.want)+int(a.UIDs.GetCardinality()) > 0 || a.Through != 4 {
			t.Errorf("%q: %v up to %d, want %v", c.needle, a.UIDs, a.Through, c.want)
		}
	}
	if a, err := db.Search(context.Background(), box, validity+1, "budget"); err != nil || a.Through != 0 {
		t.Errorf("of another UIDVALIDITY: %v %v", a, err)
	}
}

// TestRandomTexts indexes random texts in random batches, merges, expunges, and looks for random pieces of the texts: every message that has one is
// among the candidates.
func TestRandomTexts(t *testing.T) {
	for seed := range effort.Times(5, 100) {
		rng := rand.New(rand.NewPCG(uint64(seed), 8))
		db := openIn(t, vfs.NewMem())
		all := make(map[uint32][]string)
		last := uint32(0)
		alive := upTo(0)
		for range 2 + rng.IntN(30) {
			var some [][]string
			for range 1 + rng.IntN(12) {
				some = append(some, []string{text(rng, rng.IntN(20)), text(rng, rng.IntN(200))})
			}
			db.index(t, last+1, some...)
			for _, texts := range some {
				last++
				all[last] = texts
				alive.Add(last)
			}
			for range rng.IntN(8) {
				alive.Remove(1 + rng.Uint32N(last))
			}
			if rng.IntN(3) == 0 {
				db.tend(t, alive)
			}
		}
		if rng.IntN(2) == 0 {
			db.tend(t, alive)
		}
		for range 300 {
			from := all[1+rng.Uint32N(last)]
			needle := partOf(rng, from[rng.IntN(2)], 1+rng.IntN(60))
			a := db.find(t, needle)
			for it := alive.Iterator(); it.HasNext(); {
				if uid := it.Next(); contains(all[uid], needle) && !a.UIDs.Contains(uid) {
					t.Fatalf("seed %d: %q is in message %d and not found", seed, needle, uid)
				}
			}
			if a.Through != last {
				t.Fatalf("indexed up to %d of %d", a.Through, last)
			}
		}
	}
}

// FuzzNothingIsMissed is the same for one message and any piece of it.
func FuzzNothingIsMissed(f *testing.F) {
	f.Add("Hello world 中文 "+strings.Repeat("x", 70), uint16(3), uint16(20))
	f.Add("e\u0301\xff日々ー", uint16(1), uint16(4))
	f.Fuzz(func(t *testing.T, s string, from, n uint16) {
		chars := []rune(s)
		at := min(int(from), len(chars))
		needle := string(chars[at:min(at+int(n), len(chars))])
		var block []byte
		seen := map[string]bool{}
		e := terms{emit: func(term []byte) { seen[string(term)] = true }}
		e.text([]byte(s))
		for term := range seen {
			block = append(append(block[:0], 0), term[1:]...)
			if !validTerm([]byte(term)) {
				t.Fatalf("term %q", term)
			}
		}
		for _, p := range pieces(needle) {
			found := false
			for term := range seen {
				block = append(append(append(block[:0], 0), term[1:]...), 0)
				found = found || term[0] == byte(p.class) && len(hits(block, p.pattern())) > 0
			}
			if !found {
				t.Fatalf("%q in %q: no term has %q", needle, s, p.text)
			}
		}
	})
}

func TestHits(t *testing.T) {
	block := []byte("\x00a\x00ab\x00abab\x00b\x00ba\x00")
	for _, c := range []struct {
		pattern string
		want    []int
	}{
		{"\x00a\x00", []int{0}}, {"\x00a", []int{0, 1, 2}}, {"b\x00", []int{1, 2, 3}}, {"ab", []int{1, 2}}, {"b", []int{1, 2, 3, 4}}, {"\x00ba\x00", []int{4}}, {"x", nil},
	} {
		if got := hits(block, []byte(c.pattern)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.pattern, got, c.want)
		}
	}
}

func TestLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 2000 {
		base := rng.Uint32N(100)
		var want []uint32
		step := 1 + rng.Uint32N(20)
		for at := base + rng.Uint32N(3); len(want) < 1+rng.IntN(100); at += 1 + rng.Uint32N(step) {
			want = append(want, at)
		}
		list, _ := appendList([]byte{}, nil, base, want)
		head, body, rest, err := cutList(append(list, 9))
		if err != nil || !bytes.Equal(rest, []byte{9}) {
			t.Fatal(err, rest)
		}
		var got []uint32
		if err := eachOf(head, body, base, want[len(want)-1], func(uid uint32) { got = append(got, uid) }); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v: %v, want %v", err, got, want)
		}
		if want[len(want)-1] > base {
			if err := eachOf(head, body, base, want[len(want)-1]-1, func(uint32) {}); err == nil {
				t.Fatal("a message beyond the segment is not noticed")
			}
		}
	}
}

// TestLimits has messages that are too long, or have too many terms, be candidates of every search.
func TestLimits(t *testing.T) {
	db := openIn(t, vfs.NewMem())
	var many strings.Builder
	for i := range MaxTerms + 10 {
		fmt.Fprintf(&many, "w%d ", i)
	}
	db.index(t, 1,
		[]string{"short", "text"},
		[]string{"long", strings.Repeat("a b ", MaxText/4+1)},
		[]string{"many", many.String(), "not reached"},
		[]string{strings.Repeat("c ", MaxText/2+1)},
	)
	if a := db.find(t, "absent"); fmt.Sprint(a.UIDs.ToArray()) != "[2 3 4]" {
		t.Errorf("candidates %v", a.UIDs)
	}
	alive := upTo(4)
	alive.Remove(2)
	for i := range uint32(8) {
		db.index(t, 5+i, []string{"x"})
		alive.Add(5 + i)
	}
	db.tend(t, alive)
	alive.Remove(1)
	alive.Remove(3)
	for i := range uint32(80) {
		db.index(t, 13+i, []string{"x"})
		alive.Add(13 + i)
		db.tend(t, alive)
	}
	if a := db.find(t, "absent"); fmt.Sprint(a.UIDs.ToArray()) != "[4]" {
		t.Errorf("candidates after a merge %v", a.UIDs)
	}
	if s, err := db.State(box); err != nil || s.Segments > 2*fanIn || s.Through != 92 {
		t.Errorf("%+v %v", s, err)
	}
}

// FuzzDecode reads what may be on a disk: nothing panics, and no message lies outside of its segment.
func FuzzDecode(f *testing.F) {
	list, _ := appendList(nil, nil, 1, []uint32{3, 4, 9})
	bits, _ := appendList(list, nil, 1, []uint32{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(bits)
	entry, err := codec.Marshal(&entry{UIDValidity: 1, Through: 9, Segments: []segment{{ID: 1, First: 1, Last: 9, Messages: 3, Partial: true}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(entry)
	f.Add([]byte("\x00ab\x00abc\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			head, body, next, err := cutList(rest)
			if err != nil {
				break
			}
			rest = next
			_ = eachOf(head, body, 5, 100, func(uid uint32) {
				if uid < 5 || uid > 100 {
					t.Fatalf("message %d", uid)
				}
			})
		}
		if e, err := decodeEntry(b); err == nil {
			for _, s := range e.Segments {
				if s.First > s.Last {
					t.Fatalf("segment %+v", s)
				}
			}
		}
		for _, pattern := range []string{"\x00ab\x00", "b", "c\x00"} {
			_ = hits(b, []byte(pattern))
		}
	})
}
