package recovery

import (
	"testing"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/volume"
)

// TestFormats holds what nodes say to each other against version 1.
func TestFormats(t *testing.T) {
	report := shard.Report{Shard: 3, Voters: []string{"a", "b"}, Learners: []string{"c"}, Leads: true, Term: 5, LastTerm: 4, Last: 900, Applied: 899, Time: 1_700_000_000,
		Filled: true, Short: true, Broken: "why", First: 1, FirstTime: 1_600_000_000}
	header := volume.Header{ID: 7, Epoch: 2, Primary: "a", Copies: []string{"a", "b"}, Class: 1, Created: 1_700_000_000, Salt: 9, Generation: 1, Encrypted: true, Records: 4}
	node := directory.Node{ID: "a", Region: "south", Zone: "z", Address: "h:1", Roles: []string{"storage"}, Weight: 10, Labels: map[string]string{"k": "v"}, Draining: true,
		Lost: true, Removed: true, Since: 1, Incarnation: "0123", Emptied: "4567"}
	group := placement.Group{Shard: 3, Home: "south", Voters: []string{"a"}, Learners: []string{"b"}}
	mail := Mail{Volume: 7, Record: 2, Account: 5, Mailbox: "INBOX", Arrived: 1_700_000_000, Why: "why"}
	at := place{Volume: 7, Record: 2, Delivery: [16]byte{15: 1}}
	note := directory.RecoveryNote{Shard: 3, Since: 1, Until: 2, Certain: true}
	held := note
	held.Hold = 3
	sought := at
	sought.Length, sought.Accounts = 300, []uint64{5}
	entry := vain{Account: 5, Ref: volume.Ref{Volume: 9, Record: 3, Length: 300, Hash: [32]byte{1, 2, 3}}}
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "answer", Value: &Answer{Replicas: []shard.Report{report}, Idle: []uint32{4}, Reaches: []string{"b"}}},
		{Name: "rescue", Value: &RescueRequest{Rescue: shard.Rescue{Shard: 3, LastTerm: 4, Last: 900, Term: 5, Learners: []string{"c"}, Commands: [][]byte{{1}}}, Lost: []string{"b"}, Topology: 8}},
		{Name: "fence", Value: &FenceRequest{Topology: &directory.Topology{Version: 9, Nodes: []directory.Node{node}, Groups: []placement.Group{group}, Paused: true}}},
		{Name: "fenced", Value: &FenceResponse{Version: 9}},
		{Name: "found", Value: &foundResponse{Found: []foundVolume{{Header: header, Length: 4096}}}, Former: true},
		{Name: "found-unopened", Value: &foundResponse{Found: []foundVolume{{Header: header, Length: 4096}}, Unopened: []volume.ID{9}}},
		{Name: "mail", Value: &mailRequest{Note: note, Accounts: []uint64{5}, Ask: []string{"a"}}, Former: true},
		{Name: "mail-held", Value: &mailRequest{Note: held, Accounts: []uint64{5}, Ask: []string{"a"}}},
		{Name: "mail-found", Value: &mailResponse{Entered: 1, Expunged: []record{{7, 2}}, Open: []Mail{mail}, More: 3, Unread: 4}, Former: true},
		{Name: "mail-unopened", Value: &mailResponse{Entered: 1, Expunged: []record{{7, 2}}, Open: []Mail{mail}, More: 3, Unread: 4, Unopened: []volume.ID{9}}, Former: true},
		{Name: "mail-unsealed", Value: &mailResponse{Entered: 1, Expunged: []record{{7, 2}}, Open: []Mail{mail}, More: 3, Unread: 4, Unopened: []volume.ID{9}, Unsealed: 1}},
		{Name: "known", Value: &knownRequest{Shard: 3, Places: []place{at}}, Former: true},
		{Name: "known-sought", Value: &knownRequest{Shard: 3, Places: []place{sought}}},
		{Name: "known-states", Value: &knownResponse{States: []byte{1, 2}}, Former: true},
		{Name: "known-vain", Value: &knownResponse{States: []byte{1, 2}, Marked: []volume.ID{9}, Vain: []vain{entry}}, Former: true},
		{Name: "known-unsure", Value: &knownResponse{States: []byte{1, 2}, Marked: []volume.ID{9}, Vain: []vain{entry}, Unsure: []vain{entry}, Tells: true}},
	})
}
