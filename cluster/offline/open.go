package offline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/command"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// keyFile opens a volume's key file when a key is asked for.
type keyFile struct {
	fs     vfs.FS
	path   string
	master keys.Master // nil: none was given

	mu   sync.Mutex // guards file
	file *keys.File
}

// Record gives a record's key.
func (k *keyFile) Record(n uint64) ([32]byte, error) {
	if k.master == nil {
		return [32]byte{}, fmt.Errorf("%w: give --config or --master-key", volume.ErrNoKeys)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == nil {
		f, err := keys.Open(k.fs, k.path, k.master)
		if err != nil {
			return [32]byte{}, fmt.Errorf("%w: %w", volume.ErrNoKeys, err)
		}
		k.file = f
	}
	return k.file.Record(n)
}

func (k *keyFile) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == nil {
		return nil
	}
	return k.file.Close()
}

// opened is a volume that is open for reading, with its keys.
type opened struct {
	*volume.Volume
	closeKeys func() error
}

func (o *opened) close() error { return errors.Join(o.Volume.Close(), o.closeKeys()) }

// openVolume opens a volume of a directory for reading.
func (s *session) openVolume(dir string, id volume.ID, master keys.Master) (*opened, error) {
	k := &keyFile{fs: s.fs, path: filepath.Join(dir, id.String()+".key"), master: master}
	v, err := volume.Open(s.fs, filepath.Join(dir, id.String()+".vol"), volume.Options{ReadOnly: true, Keys: k})
	if err != nil {
		return nil, err
	}
	o := &opened{v, k.close}
	if v.Header().ID != id {
		return nil, errors.Join(fmt.Errorf("%s in %s holds volume %s", id, dir, v.Header().ID), o.close())
	}
	return o, nil
}

// target is what an operator names: a volume, or one record of it.
type target struct {
	id     volume.ID
	record uint64 // 0: all
}

// parseTarget reads VOLUME or VOLUME/RECORD.
func parseTarget(word string) (target, error) {
	digits, number, has := strings.Cut(word, "/")
	id, ok := parseID(digits)
	t := target{id: id}
	var err error
	if has {
		t.record, err = strconv.ParseUint(number, 10, 64)
	}
	if !ok || err != nil || has && t.record == 0 {
		return t, command.Usagef("%q is neither a volume, such as 000000000000001f or 1f, nor a record of one, such as 1f/12", word)
	}
	return t, nil
}

// find gives the copies of a volume in all directories. That there are too few fragments is no matter where there is a copy.
func (s *session) find(ctx context.Context, t target, dirs []string, do func(o *opened) error) error {
	seen := false
	err := s.each(ctx, dirs, func(f found) error {
		switch {
		case f.id != t.id, seen && errors.Is(f.err, cold.ErrTooFew):
			return nil
		case f.err != nil:
			return f.err
		}
		seen = true
		return do(f.opened)
	})
	if err == nil && !seen {
		err = fmt.Errorf("volume %s is not in %s", t.id, strings.Join(dirs, " "))
	}
	return err
}
