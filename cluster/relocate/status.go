package relocate

import "hongyan/cluster/directory"

// Order asks for accounts to move: by their addresses, or all of a domain, or of a shard; to a shard, or to a home region.
type Order struct {
	Addresses []string `json:"addresses,omitempty"`
	Domain    string   `json:"domain,omitempty"`
	From      uint32   `json:"from,omitempty"` // shard
	Shard     uint32   `json:"shard,omitempty"`
	Home      string   `json:"home,omitempty"`
}

// Status is what moves, for operators.
type Status struct {
	Paused  bool    `json:"paused"`
	Waiting int     `json:"waiting"` // accounts that move or are about to
	Moves   []Move  `json:"moves"`   // the first hundred
	Shards  []Shard `json:"shards"`
}

// Move is an account on its way.
type Move struct {
	directory.Relocation
	Failure string `json:"failure,omitempty"` // why it did not get on when it was last tried, as the node knows that leads the directory
}

// Shard is a shard with its accounts, those that are on their way to it included.
type Shard struct {
	Number   uint32 `json:"number"`
	Home     string `json:"home"`
	Accounts uint64 `json:"accounts"`
	Founding bool   `json:"founding,omitempty"`
}
