package mover

import (
	"testing"

	"hongyan/cluster/placement"
	"hongyan/engine/codec/codectest"
)

// TestFormats holds what nodes say to each other against version 1.
func TestFormats(t *testing.T) {
	group := placement.Group{Shard: 3, Home: "south", Voters: []string{"a", "b", "c"}, Learners: []string{"d"}}
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "open", Value: &OpenRequest{Group: group, Found: true}},
		{Name: "erase", Value: &EraseRequest{Shard: 3, Members: group}},
		{Name: "replicas", Value: &ReplicasResponse{Shards: []uint32{0, 3}, Incarnation: "0123"}},
	})
}
