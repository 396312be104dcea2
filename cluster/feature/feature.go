// Package feature names what programs of different age can do together.
//
// A level is a step in the program's history: a program of level N knows everything of the levels up to N. The cluster is at one level at a time, which stands
// in the directory and never goes down. It rises when every node runs a program that knows the next one (package upgrade); from then on what the level
// brought may be used, and programs that do not know it are refused. The idea is that of CockroachDB's cluster version.
//
// The package keeps no state, and imports nothing of ours: everybody may ask it.
package feature

import (
	"fmt"
	"strconv"
)

// Level is a step in what programs know. Numbers are for good.
type Level uint32

// The levels, and what each switches on.
const (
	// Base is what every program knows, those included that say nothing about levels: all up to the one that first had Moves. Commands 1 to 59 of
	// the directory and the mailbox commands of that time belong to it.
	Base Level = 1
	// Moves switches on what says levels itself (command 70 of the directory), and accounts that move between shards, shards added online and
	// policies of domains: commands 60 and above of the directory.
	Moves Level = 2
	// Sharing switches on what mail clients and operators do with mailboxes beyond their own messages: quotas, rights of others, annotations, dates of saving, several
	// messages in one command. Commands 80 and above of the directory; mailbox.Command says of each command what level it is of.
	Sharing Level = 3
	// Brisk switches on short leases: programs before it hold an account for themselves for up to 8 s after its leader is gone (package lease).
	Brisk Level = 4
	// Bundles switches on log entries that hold several commands (package shard), in which accounts that go the same way move together.
	Bundles Level = 5

	newest = Bundles
)

// cap makes an older program of this source, for tests: -ldflags "-X hongyan/cluster/feature.cap=1". It then knows that level at most.
var cap string

// Newest is the highest level that this program knows.
func Newest() Level {
	if cap == "" {
		return newest
	}
	n, err := strconv.ParseUint(cap, 10, 32)
	if err != nil || n < uint64(Base) {
		return Base // a mistake in a test's build: it shall not be taken for the newest
	}
	return min(Level(n), newest)
}

// String is the number, and the name if this program knows it.
func (l Level) String() string {
	switch l {
	case Base:
		return "1 (base)"
	case Moves:
		return "2 (moves)"
	case Sharing:
		return "3 (sharing)"
	case Brisk:
		return "4 (brisk)"
	case Bundles:
		return "5 (bundles)"
	}
	return strconv.FormatUint(uint64(l), 10)
}

// Outdated says that a program is too old for the cluster. Node is the one that runs it, "" for this one.
type Outdated struct {
	Node    string
	Knows   Level // at most
	Cluster Level
}

// Error implements error.
func (o *Outdated) Error() string {
	who, what := "this node", "it"
	if o.Node != "" {
		who, what = "node "+o.Node, o.Node
	}
	return fmt.Sprintf("the cluster is at feature level %v, and the program of %s knows level %v at most: update %s to a program of level %d or later (see `hongyan admin upgrade` at another node)",
		o.Cluster, who, o.Knows, what, o.Cluster)
}
