package mover

// NodeStatus is a member of the cluster for its operators.
type NodeStatus struct {
	ID      string            `json:"id"`
	Region  string            `json:"region"`
	Zone    string            `json:"zone,omitempty"`
	Address string            `json:"address"`
	Roles   []string          `json:"roles"`
	Weight  uint32            `json:"weight"`
	Labels  map[string]string `json:"labels,omitempty"`
	State   string            `json:"state"` // active, draining, lost, or replaced: its data is being made anew
	Drain   bool              `json:"drain"` // it is to leave, lost or replaced as well
	Since   int64             `json:"since"` // unix seconds of the last change of it
	Up      bool              `json:"up"`

	Replicas  int   `json:"replicas"`  // of shards, but for the directory's that every node follows without a vote
	Copies    int   `json:"copies"`    // of volumes
	Fragments int   `json:"fragments"` // of cold volumes
	Bytes     int64 `json:"bytes"`     // of these copies and fragments
	Empty     bool  `json:"empty"`     // it keeps nothing: it may be switched off and removed
}

// NewNode is what a node needs to be let in.
type NewNode struct {
	ID      string            `json:"id"`
	Region  string            `json:"region"`
	Zone    string            `json:"zone"`
	Address string            `json:"address"` // host:port that other nodes dial
	Roles   []string          `json:"roles"`
	Weight  uint32            `json:"weight"`
	Labels  map[string]string `json:"labels"`
}

// NodeChange changes what is not nil.
type NodeChange struct {
	Weight   *uint32 `json:"weight"`
	Address  *string `json:"address"`
	Zone     *string `json:"zone"`
	Draining *bool   `json:"draining"`
	Anyway   bool    `json:"anyway,omitempty"` // also if it makes a domain's policy impossible
}

// Placement is what moves, or would.
type Placement struct {
	Paused bool   `json:"paused"`
	Steps  []Step `json:"steps"` // of shards' replicas, the first hundred
	More   bool   `json:"more"`  // there are further ones
	// Failures are why shards did not get on when their next step was last tried, as the node knows that leads the directory.
	Failures map[uint32]string `json:"failures,omitempty"`
}

// Step is one change of a shard's replicas.
type Step struct {
	Shard uint32 `json:"shard"`
	Step  string `json:"step"`
	Node  string `json:"node"`
}
