package collect

import (
	"testing"

	"hongyan/engine/codec/codectest"
)

// Nodes of neighbouring versions ask each other.
func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "references", Value: &referencesRequest{Shard: 1, Volume: 7, Floor: 2, Min: 9}},
		{Name: "references-frame", Value: &referencesFrame{Floor: 2, Records: []uint32{1, 5}, Accounts: []uint64{3, 1 << 40}, Mailboxes: []uint32{1, 2}}, Former: true},
		{Name: "references-frame-2", Value: &referencesFrame{Floor: 2, Records: []uint32{1, 5}, Accounts: []uint64{3, 1 << 40}, Mailboxes: []uint32{1, 2}, Early: true}},
	})
}
