package transport

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// knownFor is how long what is known of other logs is of use: until the first request of the leader that is about to be elected.
const knownFor = 5 * time.Second

// KnownLogs spares a new leader a round trip to each follower whose log is shorter than its own. Raft probes with its own last entry, is
// refused, and begins again where the follower's log ends. Who stands for election in a lost leader's place has just heard where that is, so
// the probe is refused here. A wrong guess costs entries that are sent twice, or another probe.
type KnownLogs struct {
	mu   sync.Mutex // guards the rest
	last map[raft.ServerAddress]uint64
	at   time.Time
}

// Set notes the last entries of other logs, by node.
func (k *KnownLogs) Set(logs map[string]uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = time.Now()
	k.last = make(map[raft.ServerAddress]uint64, len(logs))
	for node, last := range logs {
		k.last[raft.ServerAddress(node)] = last
	}
}

// Probe answers the first request to a follower, if that would be refused for its previous entry.
func (k *KnownLogs) Probe(target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	last, ok := k.last[target]
	delete(k.last, target)
	if !ok || last >= args.PrevLogEntry || time.Since(k.at) > knownFor {
		return false
	}
	*resp = raft.AppendEntriesResponse{
		RPCHeader: raftHeader(string(target)),
		Term:      args.Term, LastLog: last, NoRetryBackoff: true,
	}
	return true
}
