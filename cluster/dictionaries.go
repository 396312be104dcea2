package cluster

import (
	"time"

	"hongyan/cluster/dictionary"
	"hongyan/cluster/placement"
	"hongyan/engine/volume"
)

// openDictionaries makes what knows and trains the dictionaries that mail is compressed with.
func (n *Node) openDictionaries(volumes *volume.Set) {
	n.dictionaries = dictionary.New(dictionary.Config{
		Directory: n.directory, Leads: n.leadsDirectory, Volumes: volumes,
		Interval: time.Duration(n.cfg.Dictionary.IntervalSeconds) * time.Second, Log: n.log,
	})
}

// leadsDirectory says whether this node leads the directory.
func (n *Node) leadsDirectory() bool {
	g, ok := n.host.Group(placement.DirectoryShard)
	return ok && g.IsLeader()
}
