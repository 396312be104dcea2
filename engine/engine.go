// Package engine is one node's storage: the volumes that hold message bytes and the index that holds
// everything else, under one directory which one process may use at a time.
//
//	DIR/volumes/   volume copies (package volume), with the lock that keeps a second process out
//	DIR/cold/      fragments of cold volumes (package cold)
//	DIR/index/     the index database (package index)
//	DIR/store.key  the key of what is not in volumes (package atrest), wrapped by the master key; absent if that is in the clear
package engine

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/atrest"
	"hongyan/engine/cold"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Options say how a store is opened.
type Options struct {
	Reserve uint64      // bytes of free disk space that volumes leave alone
	Slots   int         // as in volume.SetOptions
	Master  keys.Master // wraps the keys; nil: nothing new is encrypted
	Log     *slog.Logger
}

// Store is an open node directory.
type Store struct {
	Volumes *volume.Set
	Cold    *cold.Store
	Index   *index.DB
	// Key encrypts what else is written for the shards, such as their logs; nil: it is in the clear.
	Key *atrest.Key

	master keys.Master
	own    *keys.File // DIR/store.key
}

// Open opens or creates the store in dir.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{master: o.Master}
	if err := s.open(vfs.Default, dir, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(fs vfs.FS, dir string, o Options) (err error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.openKey(fs, dir, o); err != nil {
		return err
	}
	if s.Volumes, err = volume.OpenSet(fs, filepath.Join(dir, "volumes"), volume.SetOptions{Reserve: o.Reserve, Ahead: volume.DefaultAhead, Slots: o.Slots, Master: o.Master}); err != nil {
		return err
	}
	if s.Cold, err = cold.OpenStore(fs, filepath.Join(dir, "cold"), o.Master); err != nil {
		return err
	}
	s.Index, err = index.Open(s.Key.FS(fs), filepath.Join(dir, "index"), index.Options{Log: o.Log})
	return err
}

// openKey opens the store's own key file, or makes it in a directory that is new. What was begun in the clear stays so: two kinds
// of files in one index would help nobody.
func (s *Store) openKey(fs vfs.FS, dir string, o Options) error {
	path := filepath.Join(dir, "store.key")
	_, err := fs.Stat(path)
	switch {
	case err == nil && o.Master == nil:
		return fmt.Errorf("%s is wrapped by a master key, and the configuration names none: put its encryption section back", path)
	case err == nil:
		s.own, err = keys.Open(fs, path, o.Master)
	case !errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("look for the store's key: %w", err)
	case o.Master == nil:
		o.Log.Warn("what this node keeps is not encrypted: its configuration has no encryption section")
		return nil
	case begun(fs, dir):
		if sealed, err := sealedIndex(fs, dir); err != nil || sealed {
			return errors.Join(err, fmt.Errorf("%s is missing, and the index in %s was encrypted with it: put it back; "+
				"if it is lost, docs/operations.md says how the node is filled from the others", path, dir))
		}
		o.Log.Warn("index and logs of this node were begun in the clear and stay so; new volumes are encrypted. "+
			"docs/operations.md says how the rest can be encrypted", "dir", dir)
		return nil
	default:
		s.own, err = keys.Create(fs, path, o.Master, 0, keys.NewSecret(1))
	}
	if err != nil {
		return fmt.Errorf("the store's key: %w", err)
	}
	secret, err := s.own.Record(1)
	if err != nil {
		return fmt.Errorf("the store's key: %w", err)
	}
	s.Key = atrest.NewKey(secret)
	return nil
}

// begun reports whether there is an index or a log already.
func begun(fs vfs.FS, dir string) bool {
	for _, name := range []string{"index", "raft"} {
		if _, err := fs.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// sealedIndex looks whether the files of the index are encrypted.
func sealedIndex(fs vfs.FS, dir string) (bool, error) {
	tables := filepath.Join(dir, "index", "pebble")
	names, err := fs.List(tables)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the index: %w", err)
	}
	for _, name := range names {
		if sealed, err := atrest.Sealed(fs, filepath.Join(tables, name)); err != nil || sealed {
			return sealed, err
		}
	}
	return false, nil
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
	if s.own != nil {
		errs = append(errs, s.own.Close())
	}
	return errors.Join(errs...)
}
