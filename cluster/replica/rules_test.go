package replica

import (
	"testing"

	"hongyan/engine/volume"
)

func TestSealLength(t *testing.T) {
	has := func(durable int64) *fenceReply { return &fenceReply{Exists: true, Durable: durable} }
	empty := &fenceReply{Exists: true, Durable: 4096, Empty: true}
	missing := &fenceReply{}
	var silent *fenceReply
	for _, c := range []struct {
		name     string
		replies  []*fenceReply
		primary  bool
		pristine bool
		length   int64
		ok       bool
	}{
		{"least of all copies", []*fenceReply{has(9000), has(8000)}, true, false, 8000, true},
		{"the same for the second copy", []*fenceReply{has(8000), has(9000)}, false, false, 8000, true},
		{"primary alone", []*fenceReply{has(9000), silent}, true, false, 9000, true},
		{"second copy alone", []*fenceReply{has(9000), silent}, false, false, 9000, true},
		{"no record anywhere", []*fenceReply{empty, empty}, true, false, 0, true},
		{"no record on one copy", []*fenceReply{has(9000), empty}, true, false, 0, true},
		{"a lost disk does not cost the other copy", []*fenceReply{missing, has(9000)}, true, false, 9000, true},
		{"nor the other way round", []*fenceReply{has(9000), missing}, true, false, 9000, true},
		{"primary lost its file, the other is silent", []*fenceReply{missing, silent}, true, false, 0, false},
		{"no file was ever made", []*fenceReply{missing, missing}, true, false, 0, true},
		{"second copy has no file and fences nothing", []*fenceReply{missing, silent}, false, false, 0, false},
		{"second copy has no file, the primary has", []*fenceReply{missing, has(9000)}, false, false, 0, false},
		{"never took an append", []*fenceReply{missing, silent}, true, true, 0, true},
		{"three copies, one silent", []*fenceReply{has(9000), silent, has(7000)}, false, false, 7000, true},
	} {
		length, ok := sealLength(c.replies, c.primary, c.pristine)
		if length != c.length || ok != c.ok {
			t.Errorf("%s: %d, %v; expected %d, %v", c.name, length, ok, c.length, c.ok)
		}
	}
}

func TestRank(t *testing.T) {
	name := func(id volume.ID) *primary { return &primary{entry: Entry{ID: id}} }
	for _, c := range []struct {
		what string
		list []candidate
		want []volume.ID
	}{
		{"home before near", []candidate{{p: name(1), cross: true}, {p: name(2), home: true, cross: true, distance: 5}}, []volume.ID{2, 1}},
		{"slow last", []candidate{{p: name(1), home: true, cross: true, slow: true}, {p: name(2)}}, []volume.ID{2, 1}},
		{"two regions before one", []candidate{{p: name(1), home: true}, {p: name(2), home: true, cross: true, distance: 9}}, []volume.ID{2, 1}},
		{"near before far", []candidate{{p: name(1), distance: 6}, {p: name(2), distance: 4}}, []volume.ID{2, 1}},
		{"one takes all", []candidate{{p: name(1), affinity: 9}, {p: name(2), affinity: 4}}, []volume.ID{2, 1}},
		{"until it is crowded", []candidate{{p: name(1), affinity: 9}, {p: name(2), affinity: 4, crowded: true}}, []volume.ID{1, 2}},
	} {
		rank(c.list)
		for i, id := range c.want {
			if c.list[i].p.entry.ID != id {
				t.Errorf("%s: place %d has %d, expected %d", c.what, i, c.list[i].p.entry.ID, id)
			}
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(newFrame(4096, 0))
	f.Add(append(newFrame(4096, 3), "abc"...))
	f.Add(append(newFrame(-1, 3), "abc"...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		off, p, err := parseFrame(msg)
		if err == nil && (off < 0 || len(p) == 0 || len(p) != len(msg)-frameHead) {
			t.Errorf("frame of %d bytes gives %d bytes at %d", len(msg), len(p), off)
		}
	})
}
