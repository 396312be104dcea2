package cluster

import (
	"context"
	"time"

	"hongyan/cluster/cold"
	"hongyan/cluster/config"
	"hongyan/cluster/replica"
)

// openCold makes this node's part in the cold tier. Without the section in the configuration nothing turns cold, but what did is
// read, and kept whole at the default rate.
func (n *Node) openCold() error {
	p := cold.Policy{Data: config.DefaultColdData, Parity: config.DefaultColdParity, Rate: config.DefaultColdRate}
	if c := n.cfg.Cold; c != nil {
		p = cold.Policy{After: time.Duration(c.AfterSeconds) * time.Second, Least: c.MinBytes,
			Data: int(c.DataFragments), Parity: int(c.ParityFragments), Rate: c.BytesPerSecond}
	}
	var err error
	n.cold, err = cold.New(cold.Config{
		ID: n.cfg.ID, Region: n.cfg.Region, Net: n.net, Volumes: n.store.Volumes, Fragments: n.store.Cold, Directory: n.directory, Peers: n.storagePeers, Paused: n.paused,
		Whole:      func(node string, e replica.Entry) bool { return n.volumes.WholeOn(node, e) }, // which is there once anything runs
		Recovering: n.recovering, Policy: p, Clock: &n.clock, Log: n.log,
	})
	return err
}

// startCold lets it convert and mend.
func (n *Node) startCold() {
	n.cold.Start()
	n.closing(func(context.Context) error { n.cold.Close(); return nil })
}
