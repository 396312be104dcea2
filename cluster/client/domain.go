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

// Domains has all of them, and in how many volumes mail lies under which policy: a volume keeps the one that it was opened under.
type Domains struct {
	Domains []Domain      `json:"domains"`
	Stored  []StoredUnder `json:"stored"`
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
