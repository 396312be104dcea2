package shard

import (
	"sync"

	"github.com/hashicorp/raft"
)

// keepRecent bounds the bytes of the newest entries that a group keeps in memory.
const keepRecent = 128 << 10

// recent is the end of a group's log in memory. Raft asks for an entry soon after it was stored: a leader for each follower,
// a follower when the entry is committed. From the disk each time would cost a read, a decryption and two copies. It holds only what
// is durable, and nobody changes entries.
type recent struct {
	mu   sync.Mutex  // guards the rest
	logs []*raft.Log // their indexes follow each other
	size int
}

// add puts in what was stored, which replaces what was there from its first index on.
func (r *recent) add(entries []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.logs); n > 0 && entries[0].Index != r.logs[n-1].Index+1 {
		r.logs, r.size = nil, 0
	}
	r.logs = append(r.logs, entries...)
	for _, e := range entries {
		r.size += len(e.Data) + len(e.Extensions)
	}
	old := 0
	for ; r.size > keepRecent; old++ {
		r.size -= len(r.logs[old].Data) + len(r.logs[old].Extensions)
	}
	clear(r.logs[:old])
	r.logs = r.logs[old:]
}

// get gives an entry, if it is here.
func (r *recent) get(index uint64) (*raft.Log, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.logs) == 0 || index < r.logs[0].Index || index > r.logs[len(r.logs)-1].Index {
		return nil, false
	}
	return r.logs[index-r.logs[0].Index], true
}

// forget lets go of everything: entries are being deleted.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs, r.size = nil, 0
}
