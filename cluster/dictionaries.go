package cluster

import (
	"time"

	"hongyan/cluster/dictionary"
	"hongyan/engine/volume"
)

// openDictionaries makes what knows and trains the dictionaries that mail is compressed with.
func (n *Node) openDictionaries(volumes *volume.Set) {
	n.dictionaries = dictionary.New(dictionary.Config{
		Directory: n.directory, Volumes: volumes,
		Interval: time.Duration(n.cfg.Dictionary.IntervalSeconds) * time.Second, Clock: &n.clock, Log: n.log,
	})
}
