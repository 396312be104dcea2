package directory

import (
	"testing"

	"hongyan/cluster/shard"
	"hongyan/engine/volume"
)

func TestDictionaries(t *testing.T) {
	d := founded(t)
	s := &Service{store: d.store, speaks: func() (*shard.Group, bool) { return nil, true }}
	numbers := func(after uint32) (out []uint32) {
		t.Helper()
		list, err := s.Dictionaries(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if len(e.Bytes) != 1 || e.Bytes[0] != byte(e.Number) {
				t.Errorf("dictionary %d has bytes %x", e.Number, e.Bytes)
			}
			out = append(out, e.Number)
		}
		return out
	}
	if got := numbers(0); len(got) != 0 {
		t.Fatalf("an empty directory has %d", got)
	}
	add := func(number uint32, b []byte) string {
		return d.do(Command{AddDictionary: &AddDictionary{Dictionary: Dictionary{Number: number, Bytes: b, Made: 1}}}).Refused
	}
	for n := uint32(1); n <= keptDictionaries+2; n++ {
		if why := add(n, []byte{byte(n)}); why != "" {
			t.Fatal(why)
		}
		if add(n, []byte{byte(n)}) == "" || add(n+2, []byte{1}) == "" {
			t.Fatalf("another with the number of %d, or a gap behind it", n)
		}
	}
	if add(keptDictionaries+3, nil) == "" || add(keptDictionaries+3, make([]byte, volume.MaxDictionary+1)) == "" {
		t.Error("took one of no bytes or of too many")
	}
	if got := numbers(0); len(got) != keptDictionaries || got[0] != 3 {
		t.Errorf("kept %d", got)
	}
	if got := numbers(5); len(got) != 1 || got[0] != 6 {
		t.Errorf("above 5: %d", got)
	}
	if got := numbers(6); len(got) != 0 {
		t.Errorf("above 6: %d", got)
	}
}
