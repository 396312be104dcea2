package client

import (
	"testing"

	"hongyan/cluster/mailbox"
	"hongyan/engine/codec/codectest"
)

// Nodes of neighbouring versions watch each other's shards.
func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "watch", Value: &watchRequest{Shard: 1}},
		{Name: "watch-frame", Value: &watchFrame{Events: []mailbox.Event{{Account: 1, Mailbox: 2}}}},
	})
}
