package rehouse

import (
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/policy"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/volume"
)

// TestFormats holds what nodes say to each other against what version 1 said; see docs/formats.md.
func TestFormats(t *testing.T) {
	ref := volume.Ref{Volume: 7, Record: 2, Length: 300, Hash: [32]byte{1, 2, 3}}
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "put", Value: &putRequest{Ref: ref, Home: "south", Policy: &policy.Policy{Copies: 3, Survive: policy.Zone, Regions: []string{"south"}}}},
		{Name: "status-asked", Value: &statusRequest{}},
		{Name: "status", Value: &statusResponse{Shards: []client.Following{{Shard: 1, Node: "a", Waiting: 2, Why: "b", Looked: true}}}},
		{Name: "placed", Value: &putResponse{Ref: ref}},
	})
}
