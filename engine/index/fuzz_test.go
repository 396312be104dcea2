package index

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fuzzValue feeds a decoder: it must not panic, and what it accepts must survive encoding and decoding again.
func fuzzValue[T any](f *testing.F, decode func([]byte) (T, error), encode func(T) []byte, seeds ...T) {
	for _, s := range seeds {
		f.Add(encode(s))
	}
	f.Add([]byte{})
	f.Add([]byte{valueVersion})
	f.Add([]byte{valueVersion + 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decode(bytes.Clone(b))
		if err != nil {
			return
		}
		again, err := decode(encode(v))
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%x: %+v, then %+v, %v", b, v, again, err)
		}
	})
}

func FuzzCounters(f *testing.F) {
	fuzzValue(f, decodeCounters, counters.encode, counters{1, 2, 3, 4, false, Usage{}}, counters{1, 2, 3, 4, true, Usage{Bytes: 1 << 40, Messages: 7}})
}

func FuzzMeta(f *testing.F) {
	type row struct {
		mb   Mailbox
		open block
	}
	decode := func(b []byte) (r row, err error) {
		r.mb, err = decodeMeta(b, &r.open)
		return r, err
	}
	encode := func(r row) []byte { return encodeMeta(&r.mb, &r.open) }
	fuzzValue(f, decode, encode, row{}, row{Mailbox{Name: "a", UIDNext: 3, HighestModSeq: 9, NoSelect: true, SpecialUse: `\Sent`}, block{6}}, row{Mailbox{Name: "b", UIDNext: 9, Told: 7}, block{6}})
}

func FuzzHot(f *testing.F) {
	encode := func(h hotRow) []byte { return h.encode() }
	fuzzValue(f, decodeHot, encode, hotRow{modseq: 5, created: 5, system: FlagSeen}, hotRow{modseq: 5, created: 4, size: 7, date: -1, zone: -720, keywords: []byte{0, 255}})
}

func FuzzChange(f *testing.F) {
	encode := func(h hotRow) []byte { return h.encodeChange() }
	fuzzValue(f, decodeChange, encode, hotRow{system: FlagDraft, keywords: []byte{1, 2}})
}

func FuzzCold(f *testing.F) {
	encode := func(c coldRow) []byte { return c.encode() }
	fuzzValue(f, decodeCold, encode, coldRow{saveDate: 3, ref: testRef(5), summary: []byte("s")},
		coldRow{saveDate: 3, copied: -4, ref: testRef(5), summary: []byte("s")})
}

func FuzzKeywords(f *testing.F) {
	encode := func(t *keywordTable) []byte { return t.encode() }
	fuzzValue(f, decodeKeywords, encode, newKeywordTable(nil), newKeywordTable([]string{"$Junk", "a"}))
}

func FuzzBlock(f *testing.F) {
	decode := func(b []byte) (v block, err error) { return v, v.decode(b) }
	encode := func(b block) []byte {
		if v := b.encode(); v != nil {
			return v
		}
		return []byte{valueVersion, formArray}
	}
	all := block{}
	all.fill(0, blockBits-1)
	odd := block{}
	for i := range odd {
		odd[i] = 0x5555555555555555
	}
	fuzzValue(f, decode, encode, block{}, all, odd, block{1, 0, 1 << 63}, block{0: 1 << 63, 1: 1})
}

func FuzzGrant(f *testing.F) {
	decode := func(b []byte) (g Grant, err error) {
		err = g.decode(b)
		return g, err
	}
	encode := func(g Grant) []byte { return g.encode() }
	fuzzValue(f, decode, encode, Grant{Rights: RightsAll, Address: "bo@x"}, Grant{Rights: RightLookup})
}

func FuzzSharer(f *testing.F) {
	decode := func(b []byte) (s Sharer, err error) {
		err = s.decode(b)
		return s, err
	}
	encode := func(s Sharer) []byte { return s.encode() }
	fuzzValue(f, decode, encode, Sharer{Seq: 1 << 40, Address: "anna@x"}, Sharer{})
}

func FuzzSmallValues(f *testing.F) {
	f.Add(encodeIndex(7))
	f.Add(encodeID(7))
	f.Add(presence())
	f.Add(encodeBytes([]byte("0123456789abcdef")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := decodeIndex(b); err == nil && !bytes.Equal(encodeIndex(v), b) {
			t.Fatal(v)
		}
		if v, err := decodeID(b); err == nil && !bytes.Equal(encodeID(v), b) {
			t.Fatal(v)
		}
		if v, err := decodeBytes(b); err == nil && !bytes.Equal(encodeBytes(v), b) {
			t.Fatal(v)
		}
		if ids, err := decodeIDs(b); err == nil && len(ids)%16 != 0 {
			t.Fatal(ids)
		}
		if err := decodePresence(b); err == nil && !bytes.Equal(presence(), b) {
			t.Fatal(b)
		}
	})
}

// FuzzLoad: whatever is read, it is either all of a saved shard or changes nothing.
func FuzzLoad(f *testing.F) {
	saved, err := os.ReadFile(filepath.Join("testdata", "shard.saved"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(saved)
	f.Add(saved[:headerLen])
	f.Add(saved[:len(saved)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := newLoader(bytes.NewReader(b))
		must(t, err)
		defer in.dec.Close()
		if in.header() != nil || in.each(func(_, _ []byte) error { return nil }) != nil {
			return
		}
		db := openTest(t, vfs.NewMem())
		defer closeTest(t, db)
		s := db.Shard(in.shard)
		if err := s.Load(bytes.NewReader(b)); err != nil {
			if len(dump(t, s)) > 0 {
				t.Fatal("a failed load left something")
			}
			return
		}
		if applied, err := s.Applied(); err != nil || applied != in.applied {
			t.Fatal(applied, err)
		}
	})
}
