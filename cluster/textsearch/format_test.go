package textsearch

import (
	"testing"

	"hongyan/engine/codec/codectest"
)

// TestFormats holds what nodes say to each other against what version 1 said; see docs/formats.md.
func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "candidates-asked", Value: &request{Shard: 1, Account: 2, Mailbox: 3, UIDValidity: 4, Text: "文"}},
		{Name: "candidates", Value: &reply{Through: 9, UIDs: []byte{1, 2}}},
		{Name: "report-asked", Value: &reportRequest{}},
		{Name: "report", Value: &Report{Node: "a", Error: "b", Off: true, Shards: 1, Mailboxes: 2, Messages: 3, Waiting: 4, Lag: 0.5, Bytes: 5, Paused: true}},
	})
}
