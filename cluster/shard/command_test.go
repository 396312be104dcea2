package shard

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/engine/codec"
	"hongyan/engine/codec/codectest"
)

// Other replicas, and logs on disk, hold what this version writes.
func TestCommandFormat(t *testing.T) {
	c := Command{Level: feature.Base, ID: RequestID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Now: 1_700_000_000, Body: []byte("body")}
	text, err := os.ReadFile("testdata/command-v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Encode(); !bytes.Equal(got, want) {
		t.Errorf("encoding has changed: %x, was %x", got, want)
	}
	if got, err := DecodeCommand(want); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read %+v, %v", got, err)
	}
	for name, bad := range map[string][]byte{"nothing": nil, "short": want[:commandHeader-1], "version 0": append([]byte{0}, want[1:]...), "a level of the future": append([]byte{byte(feature.Newest()) + 1}, want[1:]...)} {
		if got, err := DecodeCommand(bad); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
	later := append([]byte{byte(feature.Moves)}, want[1:]...)
	if got, err := DecodeCommand(later); err != nil || got.Level != feature.Moves || !bytes.Equal(got.Encode(), later) {
		t.Errorf("of a later level: %+v, %v", got, err)
	}
	if got, err := DecodeCommand(want[:commandHeader]); err != nil || len(got.Body) != 0 {
		t.Errorf("without a body: %+v, %v", got, err)
	}
}

// Several in one: earlier programs take it for a level that they do not know, and stop.
func TestBundleFormat(t *testing.T) {
	c := Command{Level: feature.Bundles, ID: RequestID{1, 2, 3}, Now: 1_700_000_000, Bodies: [][]byte{[]byte("one"), {}, []byte("three")}}
	want := Command{Level: feature.Bundles, ID: c.ID, Now: c.Now, Body: []byte("\x00\x00\x00\x03one\x00\x00\x00\x00\x00\x00\x00\x05three")}.Encode()
	want[0] = 0x85
	got := c.Encode()
	if !bytes.Equal(got, want) {
		t.Errorf("encoded as %x", got)
	}
	if c.size() != len(got)-commandHeader {
		t.Errorf("of %d bytes, said %d", len(got)-commandHeader, c.size())
	}
	if read, err := DecodeCommand(want); err != nil || !reflect.DeepEqual(read, c) {
		t.Errorf("read %+v, %v", read, err)
	}
	for name, bad := range map[string][]byte{
		"cut short": want[:len(want)-1], "cut in a length": want[:len(want)-7], "empty": want[:commandHeader], "of a level without": append([]byte{0x84}, want[1:]...),
		"of the future": append([]byte{bundled | byte(feature.Newest()+1)}, want[1:]...), "too many": append(slices.Clone(want[:commandHeader]), make([]byte, 4*(MaxBundle+1))...),
	} {
		if read, err := DecodeCommand(bad); err == nil {
			t.Errorf("%s: read as %+v", name, read)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add(Command{Now: -1, Body: []byte{0xa0}}.Encode())
	f.Add(Command{Level: feature.Bundles, Bodies: [][]byte{{0xa0}, {}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeCommand(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatalf("%x became %x", b, c.Encode())
		}
	})
}

// The snapshot record is read at the next start, by the next version; the others are between nodes.
func TestFormats(t *testing.T) {
	formatGroup := placement.Group{Shard: 3, Home: "south", Voters: []string{"a", "b", "c"}, Learners: []string{"d"}}
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "snapshot", Value: &snapshotRecord{Version: 1, Index: 70_000, Term: 3, Configuration: []byte("configuration"), ConfigIndex: 1, Applied: 69_999}},
		{Name: "propose", Value: &ProposeRequest{Shard: 1, Command: []byte("command")}, Former: true},
		{Name: "propose-2", Value: &ProposeRequest{Shard: 1, Command: []byte("command"), Class: Bulk}},
		{Name: "proposed", Value: &ProposeResponse{Index: 70_000, Result: []byte("result")}},
		{Name: "read-index", Value: &ReadIndexRequest{Shard: 1}, Former: true},
		{Name: "read-index-2", Value: &ReadIndexRequest{Shard: 1, Voter: "b", Term: 3}},
		{Name: "read-index-is", Value: &ReadIndexResponse{Index: 70_000}},
		{Name: "confirm", Value: &ConfirmRequest{Shard: 1}},
		{Name: "confirmed", Value: &ConfirmResponse{Term: 3}},
		{Name: "applied", Value: &AppliedRequest{Shard: 1}},
		{Name: "applied-is", Value: &AppliedResponse{Index: 70_000}},
		{Name: "members", Value: &MembersRequest{Shard: 3}},
		{Name: "members-are", Value: &MembersResponse{Group: formatGroup}},
		{Name: "change", Value: &ChangeRequest{Step: placement.Step{Shard: 3, Kind: placement.Promote, Node: "d"}, Now: formatGroup}},
		{Name: "changed", Value: &ChangeResponse{Group: formatGroup}},
		{Name: "lapse", Value: &LapseRequest{Shard: 3, Had: 70_000, Has: 69_000}},
		{Name: "kept", Value: &KeptResponse{Kept: []Kept{{Shard: 3, Entry: 70_000, Age: 1500}}}},
		{Name: "suspect-2", Value: &SuspectRequest{Node: "a", Shards: []uint32{1, 2}, Stands: []Stand{{Fit: true, Term: 3, Index: 70_000}, {Term: 2}}}},
		{Name: "suspected-2", Value: &SuspectResponse{Stands: []Stand{{Fit: true, Term: 3, Index: 70_000}, {Term: 2}}}},
		{Name: "relay", Value: &RelayRequest{Leader: "a", Propose: &ProposeRequest{Shard: 1, Command: []byte("command")}, ReadIndex: &ReadIndexRequest{Shard: 1}}, Former: true},
		{Name: "relay-2", Value: &RelayRequest{Leader: "a", Propose: &ProposeRequest{Shard: 1, Command: []byte("command"), Class: Bulk},
			ReadIndex: &ReadIndexRequest{Shard: 1}, Method: "lease.ask", Body: codec.Raw{0xa0}}},
		{Name: "relayed", Value: &RelayResponse{Propose: &ProposeResponse{Index: 70_000, Result: []byte("result")}, ReadIndex: &ReadIndexResponse{Index: 70_000}}, Former: true},
		{Name: "relayed-2", Value: &RelayResponse{Propose: &ProposeResponse{Index: 70_000, Result: []byte("result")}, ReadIndex: &ReadIndexResponse{Index: 70_000}, Body: codec.Raw{0xa0}}},
	})
}
