package shard

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/wire"
)

// What peers say of nodes that nobody replaces here does not stay.
func TestToldOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := newTold()
		for i := range 1000 {
			told.note(fmt.Sprint("stranger ", i), answer{voter: "a", at: time.Now()})
			time.Sleep(suspectTimeout / 10)
		}
		if n := len(told.by); n > 12 {
			t.Errorf("%d nodes are remembered", n)
		}
		told.note("b", answer{voter: "a", at: time.Now()})
		if list, _ := told.of("b"); len(list) != 1 {
			t.Errorf("%d answers about a node that is doubted now", len(list))
		}
	})
}

// A doubt that does not fit the shards here is refused.
func TestOddDoubt(t *testing.T) {
	members := startGroup(t, 2)
	h := members[0].host
	for name, req := range map[string]*SuspectRequest{
		"stands are missing": {Node: "x", Shards: []uint32{testShard}},
		"too many shards":    {Node: "x", Shards: []uint32{testShard, 2}, Stands: make([]Stand, 2)},
	} {
		if _, err := h.suspect(t.Context(), members[1].id, req); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
