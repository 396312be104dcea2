package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/textsearch"
	"hongyan/engine/fulltext"
)

// openText opens this node's full-text index, if it keeps one, and what asks the others'. An index that cannot be opened keeps no node from starting:
// searches ask others, or read messages.
func (n *Node) openText() error {
	cfg := textsearch.Config{
		Region: n.region, Net: n.net, Router: n.router, Host: n.host, Nodes: n.storageNodes, Volumes: n.volumes,
		Rate: n.cfg.FullText.BytesPerSecond, Log: n.log.With("part", "textsearch"),
	}
	if n.store != nil {
		cfg.Free = n.store.Volumes.FreeBytes
		dir := filepath.Join(n.cfg.Data, "fulltext")
		if n.cfg.FullText.Off {
			if err := vfs.Default.RemoveAll(dir); err != nil { // it has words of mail
				return fmt.Errorf("remove the full-text index, which is off: %w", err)
			}
		} else if db, err := fulltext.Open(n.store.Key.FS(vfs.Default), dir, n.log); err != nil {
			n.log.Error("full-text index: this node has none until it starts again", "err", err)
		} else {
			cfg.DB = db
			n.closing(func(context.Context) error { return db.Close() })
		}
	}
	n.text = textsearch.New(cfg)
	return nil
}

// TextIndexes says of every node that keeps mail how its full-text index is.
func (n *Node) TextIndexes(ctx context.Context) any { return n.text.Reports(ctx) }

// RebuildTextIndex has one node, or all if it is "", throw its full-text index away and begin a new one.
func (n *Node) RebuildTextIndex(ctx context.Context, node string) (any, error) {
	return n.text.Rebuild(ctx, node)
}
