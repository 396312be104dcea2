package shard

import (
	"errors"
	"testing"

	"hongyan/cluster/wire"
)

// TestHugeCommand: a run of entries that no Raft message can carry would never reach a follower.
func TestHugeCommand(t *testing.T) {
	g := &Group{}
	_, _, err := g.Propose(t.Context(), Command{ID: NewRequestID(), Body: make([]byte, maxCommand)})
	if !errors.Is(err, wire.ErrLimit) {
		t.Fatalf("propose: %v", err)
	}
}
