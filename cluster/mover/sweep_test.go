package mover

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"hongyan/cluster/directory"
)

// told is a network whose nodes answer what a test says.
type told map[string]ReplicasResponse

func (n told) Up(string) bool { return true }

func (n told) Call(_ context.Context, node, method string, _, resp any) error {
	answer, knows := n[node]
	if !knows || method != MethodReplicas {
		return errors.New("no answer")
	}
	*resp.(*ReplicasResponse) = answer
	return nil
}

// TestHeld takes nothing for a node's that comes with other data than it is known with.
func TestHeld(t *testing.T) {
	node := func(id, incarnation, emptied string) directory.Node {
		return directory.Node{ID: id, Roles: []string{"storage"}, Incarnation: incarnation, Emptied: emptied}
	}
	t1 := &directory.Topology{Nodes: []directory.Node{
		node("own", "x", ""), node("others", "x", ""), node("untold", "", ""), node("former", "x", ""), node("emptied", "x", "x"), node("silent", "x", ""),
		{ID: "door", Roles: []string{"frontend"}},
	}}
	m := New(Config{Net: told{
		"own": {Shards: []uint32{1, 2}, Incarnation: "x"}, "others": {Shards: []uint32{3}, Incarnation: "y"}, "untold": {Shards: []uint32{4}, Incarnation: "z"},
		"former": {Shards: []uint32{5}}, "emptied": {Incarnation: "x"}, "door": {},
	}})
	have := m.held(t.Context(), t1)
	if got := slices.Sorted(maps.Keys(have)); !slices.Equal(got, []string{"former", "own", "untold"}) || !slices.Equal(have["own"], []uint32{1, 2}) {
		t.Errorf("%v", have)
	}
}
