package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/config"
	"hongyan/cluster/placement"
	"hongyan/engine"
	"hongyan/engine/codec"
	"hongyan/engine/durable"
	"hongyan/engine/keys"
)

// What tools need that work on the files of stopped nodes.

// Groups are the Raft groups of the cluster that cfg is a node of.
func Groups(cfg *config.Node) ([]placement.Group, error) {
	nodes, homes := members(cfg)
	return placement.Layout(nodes, homes)
}

// WriteFirst has the node of cfg begin with what of's configuration founds, whatever its own says: its replicas are on its disk, of a cluster that was rebuilt.
func WriteFirst(cfg, of *config.Node) error {
	first := *of
	first.Join = false
	t, err := firstTopology(&first)
	if err != nil {
		return err
	}
	b, err := codec.Marshal(t)
	if err != nil {
		return err
	}
	return durable.Replace(vfs.Default, filepath.Join(cfg.Data, topologyFile), b, vfs.WriteCategoryUnspecified)
}

// OpenMaster opens the master keys of a node's configuration, nil if it names none.
func OpenMaster(ctx context.Context, cfg *config.Node) (ring *keys.Keyring, err error) {
	switch e := cfg.Encryption; {
	case e == nil:
		return nil, nil
	case e.MasterKeyFile != "":
		ring, err = keys.OpenKeyFile(vfs.Default, e.MasterKeyFile)
	default:
		if err := vfs.Default.MkdirAll(cfg.Data, 0o700); err != nil {
			return nil, err
		}
		ring, err = keys.OpenKeyCommand(ctx, vfs.Default, filepath.Join(cfg.Data, wrappedKeys), e.Command)
	}
	if err != nil {
		return nil, fmt.Errorf("open the master keys: %w", err)
	}
	return ring, nil
}

// OpenStore opens the storage of a node that is stopped, as the node itself does.
func OpenStore(ctx context.Context, cfg *config.Node, log *slog.Logger) (*engine.Store, error) {
	ring, err := OpenMaster(ctx, cfg)
	if err != nil {
		return nil, err
	}
	o := engine.Options{Reserve: uint64(cfg.DiskReserveBytes), Log: log}
	if ring != nil {
		o.Master = ring
	}
	return engine.Open(cfg.Data, o)
}
