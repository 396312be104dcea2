package order

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// appendText appends a text to a key.
func appendText(key []byte, s string, reverse bool) []byte {
	return AppendText(key, AppendCollated(nil, s), reverse)
}

func TestSorter(t *testing.T) {
	var s Sorter
	for i, text := range []string{"beta", "Alpha", "alpha", "", "alphabet", "ALPH\x00A"} {
		s.Add(uint32(i+1), appendText(nil, text, false))
	}
	if got := s.Sorted(); !slices.Equal(got, []uint32{4, 2, 3, 6, 5, 1}) {
		t.Error(got)
	}
	long := strings.Repeat("x", maxText)
	if !bytes.Equal(appendText(nil, long+"a", false), appendText(nil, long+"b", false)) {
		t.Error("texts that differ beyond the bound")
	}
	if n := len(appendText(nil, strings.Repeat("𝐚", 5000), false)); n != maxText+1 {
		t.Error(n)
	}
}

// Keys of several numbers and texts, each either way round, sort as a comparison of them one by one does.
func TestSorterAgainstComparison(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	texts := []string{"", "a", "A", "ab", "b", "é", "世", "B a", "\x7f"}
	numbers := []int64{0, 1, -1, 255, 256, math.MinInt64, math.MaxInt64}
	for range 200 {
		n, fields := 1+rng.IntN(200), 1+rng.IntN(4)
		reverse, isText := make([]bool, fields), make([]bool, fields)
		for f := range fields {
			reverse[f], isText[f] = rng.IntN(2) == 0, rng.IntN(2) == 0
		}
		rows := make([][]int, n)
		var s Sorter
		for i := range rows {
			var key []byte
			for f := range fields {
				v := rng.IntN(7)
				rows[i] = append(rows[i], v)
				if isText[f] {
					key = appendText(key, texts[v], reverse[f])
				} else {
					key = AppendNumber(key, numbers[v], reverse[f])
				}
			}
			s.Add(uint32(i), key)
		}
		want := make([]uint32, n)
		for i := range want {
			want[i] = uint32(i)
		}
		slices.SortStableFunc(want, func(a, b uint32) int {
			for f := range fields {
				x, y := rows[a][f], rows[b][f]
				c := cmp.Compare(numbers[x], numbers[y])
				if isText[f] {
					c = bytes.Compare(AppendCasemap(nil, texts[x]), AppendCasemap(nil, texts[y]))
				}
				if reverse[f] {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
		if got := s.Sorted(); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestSorterMemory(t *testing.T) {
	const n = 100_000
	var s Sorter
	for i := range uint32(n) {
		s.Add(i, appendText(nil, "a subject of thirty characters", false))
	}
	if per := s.Size() / n; per > 31+entrySize*5/4+2 {
		t.Errorf("%d bytes a message", per)
	}
	if got := s.Sorted(); got[0] != 0 || got[n-1] != n-1 {
		t.Error("order")
	}
}
