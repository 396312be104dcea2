package cluster

import (
	"context"
	"log/slog"

	"hongyan/cluster/config"
	"hongyan/cluster/placement"
	"hongyan/engine"
)

// What tools need that work on the files of stopped nodes.

// Groups are the Raft groups of the cluster that cfg is a node of.
func Groups(cfg *config.Node) ([]placement.Group, error) {
	nodes, homes := members(cfg)
	return placement.Layout(nodes, homes)
}

// OpenStore opens the storage of a node that is stopped, as the node itself does.
func OpenStore(_ context.Context, cfg *config.Node, log *slog.Logger) (*engine.Store, error) {
	return engine.Open(cfg.Data, uint64(cfg.DiskReserveBytes), log)
}
