package replica

import (
	"slices"
	"testing"
	"time"

	"hongyan/engine/volume"
)

func TestSealLength(t *testing.T) {
	has := func(durable int64) *fenceReply { return &fenceReply{Exists: true, Durable: durable} }
	empty := &fenceReply{Exists: true, Durable: 4096, Empty: true}
	missing := &fenceReply{}
	found := func(durable int64) *fenceReply { return &fenceReply{Exists: true, Durable: durable, Found: durable} }
	damaged := func(durable, whole int64) *fenceReply {
		return &fenceReply{Exists: true, Durable: durable, Found: whole}
	}
	none := &fenceReply{Exists: true, Durable: 4096, Found: 4096, Empty: true}
	unreadable := &fenceReply{Exists: true, Durable: 7000, Found: 7000, Unreadable: true}
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
		{"a disk lost its end, the primary went on", []*fenceReply{has(9000), found(8000)}, true, false, 9000, true},
		{"the primary's disk lost its end", []*fenceReply{found(8000), has(9000)}, true, false, 9000, true},
		{"or all that was on it", []*fenceReply{none, has(9000)}, true, false, 9000, true},
		{"longer on the disk than at the copy that went on", []*fenceReply{found(9000), has(8000)}, true, false, 8000, true},
		{"both were restarted", []*fenceReply{found(8000), found(9000)}, true, false, 9000, true},
		{"and one has nothing", []*fenceReply{found(9000), none}, true, false, 9000, true},
		{"or both", []*fenceReply{none, none}, true, false, 0, true},
		{"a hole in a torn tail", []*fenceReply{damaged(9000, 8000), found(8000)}, true, false, 8000, true},
		{"old damage costs nothing", []*fenceReply{damaged(9000, 5000), found(9000)}, true, false, 9000, true},
		{"also on both", []*fenceReply{damaged(9000, 5000), damaged(9000, 6000)}, true, false, 9000, true},
		{"one lost its end, the other has a hole before that", []*fenceReply{damaged(9000, 5000), found(4500)}, true, false, 9000, true},
		{"the same for the second copy", []*fenceReply{found(4500), damaged(9000, 5000)}, false, false, 9000, true},
		{"one lost its end, both have holes before that", []*fenceReply{damaged(9000, 5000), damaged(7000, 6000)}, true, false, 9000, true},
		{"one lost all, the other its first record", []*fenceReply{damaged(9000, 4096), none}, true, false, 9000, true},
		{"the same for the second copy", []*fenceReply{none, damaged(9000, 4096)}, false, false, 9000, true},
		{"primary alone after a restart", []*fenceReply{found(9000), silent}, true, false, 9000, true},
		{"an unreadable end is not the end", []*fenceReply{unreadable, has(9000)}, true, false, 9000, true},
		{"unreadable, and nobody else to ask", []*fenceReply{unreadable, silent}, true, false, 0, false},
		{"nor anybody else that has it", []*fenceReply{unreadable, missing}, true, false, 0, false},
		{"unreadable at the second copy", []*fenceReply{unreadable, silent}, false, false, 0, false},
	} {
		length, ok := sealLength(c.replies, c.primary, c.pristine)
		if length != c.length || ok != c.ok {
			t.Errorf("%s: %d, %v; expected %d, %v", c.name, length, ok, c.length, c.ok)
		}
	}
}

// A seal tells which record is its last, as those copies say that end there.
func TestLastRecord(t *testing.T) {
	for _, c := range []struct {
		name    string
		replies []*fenceReply
		length  int64
		last    uint64
	}{
		{"both end there", []*fenceReply{{Durable: 9000, Last: 4}, {Durable: 9000, Last: 4}}, 9000, 4},
		{"one goes on", []*fenceReply{{Durable: 9000, Last: 4}, {Durable: 8000, Last: 3}}, 8000, 3},
		{"one is silent", []*fenceReply{{Durable: 9000, Last: 4}, nil}, 9000, 4},
		{"read back with damage behind", []*fenceReply{{Durable: 9000, Last: 4, Found: 8000, LastFound: 3}, nil}, 8000, 3},
		{"damage at the end of one", []*fenceReply{{Durable: 9000, Last: 14}, {Durable: 9000, Last: 4}}, 9000, 4},
		{"an old node does not tell", []*fenceReply{{Durable: 9000}, nil}, 9000, 0},
		{"no record", []*fenceReply{{Durable: 4096}, {}}, 0, 0},
	} {
		if got := lastRecord(c.replies, c.length); got != c.last {
			t.Errorf("%s: %d, want %d", c.name, got, c.last)
		}
	}
}

// Only when every node answers that it has no file it is not known which record was the last.
func TestVanished(t *testing.T) {
	for _, c := range []struct {
		name    string
		replies []*fenceReply
		want    bool
	}{
		{"no files", []*fenceReply{{}, {}}, true},
		{"one does not answer", []*fenceReply{{}, nil}, false},
		{"one has an empty file", []*fenceReply{{}, {Exists: true, Empty: true, Durable: 4096}}, false},
		{"both have records", []*fenceReply{{Exists: true, Durable: 9000}, {Exists: true, Durable: 9000}}, false},
	} {
		if got := vanished(c.replies); got != c.want {
			t.Errorf("%s: %v", c.name, got)
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
		{"the reserve only while the others are slow", []candidate{{p: name(1), home: true, cross: true, reserve: true}, {p: name(2), distance: 5}, {p: name(3), slow: true}}, []volume.ID{2, 1, 3}},
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

// The entry of a volume without files is what a shard's entries in vain are settled by: it stays while shards were recovered, and of one that vanished for a day.
func TestEntryWithoutFilesStays(t *testing.T) {
	var recovering bool
	at := time.Now().Unix()
	m := &Manager{cfg: Config{ID: "a", Recovering: func() bool { return recovering }}, entries: map[volume.ID]Entry{
		1: {ID: 1, State: Sealed, Primary: "a", Copies: []string{"a", "b"}},
		2: {ID: 2, State: Sealed, Primary: "a", Copies: []string{"a", "b"}, Last: volume.MaxRecords, SealedAt: at},
		3: {ID: 3, State: Sealed, Primary: "a", Copies: []string{"a", "b"}, Last: volume.MaxRecords, SealedAt: at - vanishedFor},
	}}
	for _, want := range [][]volume.ID{{1, 3}, nil} {
		var got []volume.ID
		for _, e := range m.behind(new(mending)) {
			got = append(got, e.ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("recovering %v: %v go, expected %v", recovering, got, want)
		}
		recovering = true
	}
}
