// Package offline is `hongyan volume`: an operator's look into the files of stopped nodes, at three in the morning, and the
// way back when the indexes are gone.
//
// A data directory is what a node's configuration calls `data`, or the directory of volumes itself. Cold volumes are read through
// their fragments (engine/cold), as many as are in the directories that were given. Its lock is held as long as
// a command looks at it, so a node that runs is left alone. Only rebuild writes; the others open volumes without cutting
// a torn tail or removing anything. A command that is killed leaves the locks free and the files as they are.
package offline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/command"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// session is one run of the tool.
type session struct {
	fs     vfs.FS
	asJSON bool

	masterKey string // file of the master keys; without it encrypted records show no metadata and no content
}

const commonFlags = `  --master-key FILE  master keys of the nodes, for what is encrypted (of a development cluster: DIR/master.key)
  --json           print JSON
`

// Run executes `hongyan volume ARGS`.
func Run(ctx context.Context, args []string, out io.Writer) error {
	s := &session{fs: vfs.Default}
	t := &command.Tool{
		Name: "volume", Summary: "hongyan volume: look into the volumes of stopped nodes. DATA is a node's data directory; several may be given.",
		Flags: commonFlags, Define: s.define,
		Commands: []command.Command{s.list(), s.inspect(), s.verify(), s.dump(), s.rebuild()},
	}
	return t.Run(ctx, args, out)
}

// define adds the flags that every command has. It is called twice, before and behind the command's name.
func (s *session) define(fs *flag.FlagSet) {
	fs.BoolVar(&s.asJSON, "json", s.asJSON, "")
	fs.StringVar(&s.masterKey, "master-key", s.masterKey, "")
}

// shelf is an opened data directory: the volumes in it and the lock that keeps a node away.
type shelf struct {
	dir  string // of the volumes
	cold string // of the fragments, which may not be there
	node string // whose directory it is, as far as that is known
	ids  []volume.ID
	lock io.Closer
}

// open locks data directories and lists their volumes.
func (s *session) open(dirs []string) (shelves []*shelf, err error) {
	if len(dirs) == 0 {
		return nil, command.Usagef("expected data directories of stopped nodes")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(shelves))
		}
	}()
	for _, dir := range dirs {
		sh, err := s.shelf(dir)
		if err != nil {
			return shelves, err
		}
		shelves = append(shelves, sh)
	}
	return shelves, nil
}

func (s *session) shelf(dir string) (*shelf, error) {
	at := filepath.Join(dir, "volumes")
	if _, err := s.fs.Stat(at); errors.Is(err, os.ErrNotExist) {
		at = dir
	}
	names, err := s.fs.List(at)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	sh := &shelf{dir: at, cold: coldDir(dir)}
	for _, name := range names {
		if id, ok := parseID(strings.TrimSuffix(name, ".vol")); ok && strings.HasSuffix(name, ".vol") {
			sh.ids = append(sh.ids, id)
		}
	}
	slices.Sort(sh.ids)
	if len(sh.ids) == 0 && !slices.Contains(names, "LOCK") {
		return nil, fmt.Errorf("%s holds no volumes", at)
	}
	if sh.lock, err = s.fs.Lock(filepath.Join(at, "LOCK")); err != nil {
		return nil, fmt.Errorf("%s is in use by a node that runs; stop it first: %w", at, err)
	}
	return sh, nil
}

// parseID reads a volume's id as file names have it: up to 16 hexadecimal digits.
func parseID(digits string) (volume.ID, bool) {
	n, err := strconv.ParseUint(digits, 16, 64)
	return volume.ID(n), err == nil && n > 0
}

func closeAll(shelves []*shelf) error {
	var errs []error
	for _, sh := range shelves {
		errs = append(errs, sh.lock.Close())
	}
	return errors.Join(errs...)
}

// each calls fn with every volume of every directory, opened for reading, and then with those that are read through their fragments.
func (s *session) each(ctx context.Context, dirs []string, fn func(f found) error) (err error) {
	master, err := s.master()
	if err != nil {
		return err
	}
	shelves, err := s.open(dirs)
	if err != nil {
		return err
	}
	var frags fragments
	defer func() { err = errors.Join(err, frags.close(), closeAll(shelves)) }()
	one := func(f found) error {
		err := fn(f)
		if f.opened != nil {
			err = errors.Join(err, f.close())
		}
		return err
	}
	for _, sh := range shelves {
		for _, id := range sh.ids {
			f := found{id: id, where: sh.dir}
			f.opened, f.err = s.openVolume(sh.dir, id, master)
			if err := one(f); err != nil {
				return err
			}
		}
		if err := frags.open(s.fs, sh, master); err != nil {
			return err
		}
	}
	for _, g := range cold.Gather(frags.stores) {
		if err := one(openCold(ctx, g)); err != nil {
			return err
		}
	}
	return nil
}

// master opens the master keys that were given, if any.
func (s *session) master() (keys.Master, error) {
	if s.masterKey == "" {
		return nil, nil
	}
	ring, err := keys.OpenKeyFile(s.fs, s.masterKey)
	if err != nil {
		return nil, fmt.Errorf("open the master keys: %w", err)
	}
	return ring, nil
}
