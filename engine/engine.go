// Package engine is one node's storage: the volumes that hold message bytes and the index that holds
// everything else, under one directory which one process may use at a time.
//
//	DIR/volumes/  volume copies (package volume), with the lock that keeps a second process out
//	DIR/cold/     fragments of cold volumes (package cold)
//	DIR/index/    the index database (package index)
package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/cold"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Store is an open node directory.
type Store struct {
	Volumes *volume.Set
	Cold    *cold.Store
	Index   *index.DB
}

// Open opens or creates the store in dir. Volumes take nothing more when fewer than reserve bytes are free.
func Open(dir string, reserve uint64, log *slog.Logger) (*Store, error) {
	s := &Store{}
	if err := s.open(vfs.Default, dir, reserve, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(fs vfs.FS, dir string, reserve uint64, log *slog.Logger) (err error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if s.Volumes, err = volume.OpenSet(fs, filepath.Join(dir, "volumes"), volume.SetOptions{Reserve: reserve, Ahead: volume.DefaultAhead}); err != nil {
		return err
	}
	if s.Cold, err = cold.OpenStore(fs, filepath.Join(dir, "cold"), nil); err != nil {
		return err
	}
	s.Index, err = index.Open(fs, filepath.Join(dir, "index"), index.Options{Log: log})
	return err
}

// Close closes what is open. Nothing acknowledged depends on it.
func (s *Store) Close() error {
	var errs []error
	if s.Index != nil {
		errs = append(errs, s.Index.Close())
	}
	if s.Cold != nil {
		errs = append(errs, s.Cold.Close())
	}
	if s.Volumes != nil {
		errs = append(errs, s.Volumes.Close())
	}
	return errors.Join(errs...)
}
