package directory

import (
	"bytes"
	"encoding/hex"
	"testing"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

func samples() []codectest.Sample {
	account := Account{ID: 1, Address: "u1@example.test", Shard: 3, Home: "south", Password: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$a2V5"}
	shard := Shard{Number: 3, Home: "south", Accounts: 70_000}
	founding := shard
	founding.Founding = true
	relocation := Relocation{Account: 1, Address: account.Address, From: 3, To: 4, Home: "north", Since: 1_700_000_000, Fence: 5, Moved: true, Cancel: true}
	domain := Domain{Name: "example.test", Home: "south"}
	rule := policy.Policy{Copies: 3, Survive: policy.Zone, Regions: []string{"north", "south"}}
	ruled := domain
	ruled.Policy = &rule
	cold := replica.Cold{Data: 2, Parity: 1, Nodes: []string{"a", "b", "c"}, Seed: 5}
	entry := replica.Entry{ID: 7, Epoch: 2, Primary: "a", Copies: []string{"a", "b"}, Class: 1, State: replica.Sealed, Length: 4096,
		Generation: 2, SealedAt: 1_700_000_000, Attempt: 3, Cold: &cold}
	counted := entry
	counted.Last = 9
	confined := counted
	confined.Policy = &rule
	checkpoint := Checkpoint{ID: [16]byte{15: 1}, Applied: 1000, Taken: 1_700_000_000, Bytes: 300, Noise: 5,
		Parts: []volume.Ref{{Volume: 7, Record: 2, Length: 300, Hash: [32]byte{1, 2, 3}}}}
	node := Node{ID: "a", Region: "south", Zone: "z1", Address: "10.0.0.1:7701", Roles: []string{"storage"}, Weight: 10, Labels: map[string]string{"rack": "7", "disk": "ssd"},
		Draining: true, Lost: true, Removed: true, Since: 1_700_000_000, Incarnation: "0123", Emptied: "4567"}
	group := placement.Group{Shard: 3, Home: "south", Voters: []string{"a", "b", "c"}, Learners: []string{"d"}}
	note := RecoveryNote{Shard: 3, Since: 1_700_000_000, Until: 1_700_000_500, Certain: true}
	held := note
	held.Hold = 1_700_004_700
	weight, text, yes := uint32(5), "z2", true
	bytes, messages := uint64(1<<30), uint64(1000)
	change := ChangeLimits{Bytes: &bytes, Messages: &messages}
	limits := index.Limits{Bytes: bytes, Messages: messages}
	limited, quoted := account, ruled
	limited.Limits = &limits
	quoted.Quota = &Quota{Default: limits, Total: limits, Permanent: true, Own: limits, Followers: 7}
	dictionary := Dictionary{Number: 3, Bytes: []byte{0x37, 0xa4, 0x30, 0xec}, Made: 1_700_000_000}
	return []codectest.Sample{
		{Name: "add-shards", Value: &Command{AddShards: &AddShards{Shards: []Shard{shard}}}, Former: true},
		{Name: "add-domain", Value: &Command{AddDomain: &domain}, Former: true},
		{Name: "add-account", Value: &Command{AddAccount: &AddAccount{Address: account.Address, Home: "south", Password: account.Password, Reset: true}}},
		{Name: "open-volume", Value: &Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}, Class: volume.ClassBulk}}},
		{Name: "seal-volume", Value: &Command{SealVolume: &SealVolume{ID: 7, Length: 4096}}, Former: true},
		{Name: "seal-volume-last", Value: &Command{SealVolume: &SealVolume{ID: 7, Length: 4096, Last: 9}}},
		{Name: "drop-volume", Value: &Command{DropVolume: &DropVolume{ID: 7}}},
		{Name: "compact", Value: &Command{Compact: &Compact{ID: 7}}},
		{Name: "compacted", Value: &Command{Compacted: &Compacted{ID: 7, Generation: 2, Length: 4096}}},
		{Name: "add-checkpoint", Value: &Command{AddCheckpoint: &AddCheckpoint{Shard: 3, Checkpoint: checkpoint}}},
		{Name: "freeze", Value: &Command{FreezeVolume: &FreezeVolume{ID: 7, Generation: 2, Attempt: 3, Cold: cold}}},
		{Name: "thaw", Value: &Command{ThawVolume: &ThawVolume{ID: 7, Generation: 2, Copies: []string{"a", "b"}}}},
		{Name: "move-fragment", Value: &Command{MoveFragment: &MoveFragment{ID: 7, Index: 2, From: "c", To: "d"}}},
		{Name: "add-dictionary", Value: &Command{AddDictionary: &AddDictionary{Dictionary: dictionary}}},
		{Name: "add-copy", Value: &Command{AddCopy: &AddCopy{ID: 7, Node: "c", Epoch: 2}}},
		{Name: "remove-copy", Value: &Command{RemoveCopy: &RemoveCopy{ID: 7, Node: "a", Epoch: 3}}},
		{Name: "found-topology", Value: &Command{FoundTopology: &FoundTopology{Nodes: []Node{node}, Groups: []placement.Group{group}}}},
		{Name: "add-node", Value: &Command{AddNode: &AddNode{Node: node}}},
		{Name: "change-node", Value: &Command{ChangeNode: &ChangeNode{ID: "a", Weight: &weight, Address: &text, Zone: &text, Draining: &yes, Lost: &yes, Removed: &yes,
			Incarnation: &text, Accept: true, Refilled: true}}},
		{Name: "set-group", Value: &Command{SetGroup: &SetGroup{Group: group, Add: true}}},
		{Name: "set-placement", Value: &Command{SetPlacement: &SetPlacement{Paused: true}}},
		{Name: "plan-relocations", Value: &Command{PlanRelocations: &PlanRelocations{Addresses: []string{account.Address}, Shard: 4, Home: "north"}}},
		{Name: "claim-relocation", Value: &Command{ClaimRelocation: &ClaimRelocation{Account: 1}}},
		{Name: "end-relocation", Value: &Command{EndRelocation: &EndRelocation{Account: 1, Fence: 5, Done: true}}},
		{Name: "cancel-relocations", Value: &Command{CancelRelocations: &CancelRelocations{Addresses: []string{account.Address}}}},
		{Name: "shard-founded", Value: &Command{ShardFounded: &ShardFounded{Shard: 4}}},
		{Name: "relocation", Value: &relocation},
		{Name: "set-level", Value: &Command{SetLevel: &SetLevel{Level: feature.Moves, Topology: 9}}},
		{Name: "topology", Value: &TopologyResponse{Topology: &Topology{Version: 9, Nodes: []Node{node}, Groups: []placement.Group{group}, Paused: true}, Version: 9}, Former: true},
		{Name: "topology-level", Value: &TopologyResponse{Topology: &Topology{Version: 9, Nodes: []Node{node}, Groups: []placement.Group{group}, Paused: true, Level: feature.Moves}, Version: 9}},
		{Name: "reached", Value: &reached{Level: feature.Moves}},
		{Name: "recover", Value: &Command{Recover: &Recover{Lost: []string{"b", "c"}, Behind: true}}},
		{Name: "enter-found", Value: &Command{EnterFound: &EnterFound{Found: []Found{{Header: volume.Header{ID: 7, Epoch: 2, Primary: "a", Copies: []string{"a", "b"}, Class: 1, Created: 1_700_000_000, Salt: 9,
			Generation: 1, Encrypted: true, Records: 4},
			Length: 4096, Nodes: []string{"a"}, Cold: &cold}}}}},
		{Name: "note-recovery", Value: &Command{NoteRecovery: &NoteRecovery{Notes: []RecoveryNote{note}, Done: []uint32{4}}}, Former: true},
		{Name: "note-recovery-held", Value: &Command{NoteRecovery: &NoteRecovery{Notes: []RecoveryNote{held}, Done: []uint32{4}}}},
		{Name: "recovery-note", Value: &note, Former: true},
		{Name: "recovery-note-held", Value: &held},
		{Name: "topology-asked", Value: &TopologyRequest{After: 8, Wait: true}},
		{Name: "moving", Value: &moving{Paused: true}},
		{Name: "result", Value: &Result{Refused: "why", Created: true, Account: &account, Volume: &entry}, Former: true},
		{Name: "result-relocation", Value: &Result{Refused: "why", Created: true, Account: &account, Volume: &entry, Relocation: &relocation, Planned: 2}},
		{Name: "holdings-asked", Value: &HoldingsRequest{}},
		{Name: "holdings", Value: &HoldingsResponse{Topology: Topology{Version: 9, Nodes: []Node{node}, Groups: []placement.Group{group}, Paused: true, Level: feature.Moves},
			Volumes: []replica.Holding{{Node: "a", Copies: 3, Fragments: 2, Bytes: 4096}}}},
		{Name: "lookup", Value: &LookupRequest{Address: account.Address, Fresh: true}, Former: true},
		{Name: "found", Value: &LookupResponse{Account: &account, Local: true}, Former: true},
		{Name: "dictionaries", Value: &DictionariesRequest{After: 2}},
		{Name: "dictionaries-found", Value: &DictionariesResponse{List: []Dictionary{dictionary}}},
		{Name: "dictionary", Value: &dictionary},
		{Name: "domain", Value: &domain, Former: true},
		{Name: "domain-policy", Value: &ruled, Former: true},
		{Name: "used-policy", Value: &usedPolicy{Policy: rule, Domains: 3}},
		{Name: "domain-asked", Value: &DomainRequest{Name: domain.Name}, Former: true},
		{Name: "domain-found", Value: &DomainResponse{Domain: &ruled}},
		{Name: "set-policy", Value: &Command{SetPolicy: &SetPolicy{Domain: domain.Name, Home: &text, Copies: 3, Survive: policy.Zone, Regions: &rule.Regions}}},
		{Name: "open-volume-under", Value: &Command{OpenVolumeUnder: &OpenVolumeUnder{Primary: "a", Copies: []string{"a", "b", "c"}, Class: volume.ClassBulk, Policy: rule}}},
		{Name: "account", Value: &account, Former: true},
		{Name: "shard", Value: &shard, Former: true},
		{Name: "shard-founding", Value: &founding},
		{Name: "volume", Value: &entry, Former: true},
		{Name: "volume-last", Value: &counted, Former: true},
		{Name: "volume-policy", Value: &confined},
		{Name: "checkpoints", Value: &Checkpoints{Shard: 3, List: []Checkpoint{checkpoint}}},
		{Name: "set-account-quota", Value: &Command{SetAccountQuota: &SetAccountQuota{Address: account.Address, Limits: change, Follow: true}}},
		{Name: "set-domain-quota", Value: &Command{SetDomainQuota: &SetDomainQuota{Domain: domain.Name, Default: change, Total: change, Permanent: &yes}}},
		{Name: "account-limits", Value: &limited},
		{Name: "domain-quota", Value: &quoted},
		{Name: "lookup-base", Value: &LookupRequest{Address: account.Address, Fresh: true, Base: true}},
		{Name: "found-limits", Value: &LookupResponse{Account: &account, Local: true, Limits: &Limited{Limits: *limited.Limits, Own: true, Permanent: true}}},
		{Name: "domain-asked-afresh", Value: &DomainRequest{Name: domain.Name, Fresh: true}},
		{Name: "counters", Value: &counters{Account: 1, Volume: 2, Noise: 3, Dictionary: 4}, Former: true},
		{Name: "counters-topology", Value: &counters{Account: 1, Volume: 2, Noise: 3, Dictionary: 4, Topology: 5}, Former: true},
		{Name: "counters-moves", Value: &counters{Account: 1, Volume: 2, Noise: 3, Dictionary: 4, Topology: 5, Fence: 6, Moved: 7, Waiting: 8}},
	}
}

// TestFormats holds encodings against those of version 1: they are in logs and on disks, and between nodes. A field may be added, with a
// new number and as docs/formats.md says; what is there must stay as it is.
func TestFormats(t *testing.T) { codectest.Golden(t, "testdata/formats-v1.txt", samples()) }

// Keys sort by what they name, and are as docs/formats/commands.md draws them.
func TestKeys(t *testing.T) {
	if got := hex.EncodeToString(numberKey(volumeTable, 0x0102)); got != "762f"+"0000000000000102" {
		t.Errorf("key of a volume: %s", got)
	}
	if bytes.Compare(numberKey(shardTable, 255), numberKey(shardTable, 256)) >= 0 {
		t.Error("shards do not sort by number")
	}
}
