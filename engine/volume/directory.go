package volume

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
)

// makeDir makes a directory and what is missing above it, durably.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for missing := dir; ; missing = fs.PathDir(missing) {
		_, err := fs.Stat(missing)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parents = append(parents, fs.PathDir(missing))
	}
	if len(parents) == 0 {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := durable.SyncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}

// prepare lists the volumes and cleans up.
func (s *Set) prepare() error {
	if err := s.fs.MkdirAll(s.TmpDir(), 0o700); err != nil {
		return err
	}
	if err := RemoveLeftovers(s.fs, s.TmpDir()); err != nil {
		return err
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
		if id, ok := parseName(name, volumeSuffix); ok {
			if err := s.note(id); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if err := s.removeLeftover(name, have); err != nil {
			return fmt.Errorf("remove left-over %s: %w", name, err)
		}
		if id, ok := parseName(name, volumeSuffix+nextSuffix); ok {
			s.nexts[id] = struct{}{}
		}
	}
	return durable.SyncDir(s.fs, s.dir)
}

// note enters a file that is there.
func (s *Set) note(id ID) error {
	info, err := s.fs.Stat(s.path(id))
	if err != nil {
		return err
	}
	e := &entry{keys: s.keyFile(id)}
	e.size.Store(info.Size())
	s.entries[id] = e
	return nil
}

// removeLeftover removes a file that a crash in the making of a volume left, or the index of one that is gone. A key file is made
// while the volume's file has its temporary name.
func (s *Set) removeLeftover(name string, have map[string]bool) error {
	unfinished, temporary := strings.CutSuffix(name, temporarySuffix)
	id, isVolume := parseName(unfinished, volumeSuffix)
	switch {
	case !temporary && !lonelyIndex(name, have):
		return nil
	case temporary && isVolume && s.entries[id] == nil:
		if err := s.keyFile(id).remove(); err != nil {
			return err
		}
	case temporary && !isVolume && !keys.Leftover(name) && !strings.HasSuffix(unfinished, nextSuffix) && !strings.HasSuffix(unfinished, indexSuffix):
		return nil
	}
	return s.fs.Remove(s.fs.PathJoin(s.dir, name))
}

// lonelyIndex says that a file is the index of a volume that is not there.
func lonelyIndex(name string, have map[string]bool) bool {
	if of, ok := strings.CutSuffix(name, nextSuffix+indexSuffix); ok {
		return !have[of+nextSuffix]
	}
	id, ok := parseName(name, indexSuffix)
	return ok && !have[id.String()+volumeSuffix]
}

// parseName gives the id in the name of a volume's file, or of one that belongs to it.
func parseName(name, suffix string) (ID, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	return ID(id), err == nil && ID(id).String() == digits
}

func (s *Set) path(id ID) string { return s.fs.PathJoin(s.dir, id.String()+volumeSuffix) }

// TmpDir is where spools may put their temporary files; what a crash leaves there is removed by OpenSet.
func (s *Set) TmpDir() string { return s.fs.PathJoin(s.dir, tmpName) }
