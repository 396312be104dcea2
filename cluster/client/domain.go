package client

import "hongyan/cluster/policy"

// Domain is a mail domain of the cluster, as operators see it.
type Domain struct {
	Name string `json:"name"`
	Home string `json:"home_region"` // of accounts that are made from now on
	policy.Policy
	// Impossible is why mail cannot be stored under the policy now.
	Impossible string `json:"impossible,omitempty"`
}

// Domains has all of them, and in how many volumes mail lies under which policy: a volume keeps the one that it was opened under. Follows says of each shard how far its stored
// mail has been put under the policies that its domains have now.
type Domains struct {
	Domains []Domain      `json:"domains"`
	Stored  []StoredUnder `json:"stored"`
	Follows []Following   `json:"follows"`
}

// Following is how far a shard's stored mail follows the policies of its domains, as the node knows that leads it.
type Following struct {
	Shard   uint32 `cbor:"1,keyasint" json:"shard"`
	Node    string `cbor:"2,keyasint" json:"node"`
	Waiting int    `cbor:"3,keyasint,omitempty" json:"volumes_waiting"` // with messages that are to be put elsewhere, or that could not be looked at
	Why     string `cbor:"4,keyasint,omitempty" json:"why,omitempty"`   // one of them waits
	Looked  bool   `cbor:"5,keyasint,omitempty" json:"looked"`          // every volume was looked at, a minute after the last change of a policy or later
}

// StoredUnder counts volumes under a policy, and the bytes of one copy of those that are sealed.
type StoredUnder struct {
	policy.Policy
	Volumes int   `json:"volumes"`
	Bytes   int64 `json:"bytes"`
}

// PolicyChange changes what is given.
type PolicyChange struct {
	Home    *string   `json:"home_region"`
	Copies  uint8     `json:"copies"`
	Survive string    `json:"survive"`
	Regions *[]string `json:"regions"` // none: any
}
