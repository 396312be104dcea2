package cold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// maxOpen bounds the fragment files that a Store keeps open for reading.
const maxOpen = 256

// Name tells the fragments of a node apart.
type Name struct {
	Volume     volume.ID
	Generation uint32
	Index      int
}

// file is the name of the fragment's file: volume in hexadecimal, generation and number in decimal.
func (n Name) file() string {
	return fmt.Sprintf("%s-%d-%02d%s", n.Volume, n.Generation, n.Index, suffix)
}

func parseName(file string) (Name, bool) {
	base, ok := strings.CutSuffix(file, suffix)
	parts := strings.Split(base, "-")
	if !ok || len(parts) != 3 {
		return Name{}, false
	}
	id, err1 := strconv.ParseUint(parts[0], 16, 64)
	generation, err2 := strconv.ParseUint(parts[1], 10, 32)
	index, err3 := strconv.ParseUint(parts[2], 10, 8)
	n := Name{Volume: volume.ID(id), Generation: uint32(generation), Index: int(index)}
	return n, errors.Join(err1, err2, err3) == nil && n.file() == file
}

// Store is all fragments of a node: one file each in one directory, which only one process uses at a time (the lock is the
// caller's). Safe for concurrent use.
type Store struct {
	fs     vfs.FS
	dir    string
	master keys.Master // nil: this node keeps no keys
	beside sync.Mutex  // held while index and key files are used

	mu      sync.Mutex // guards what follows; held while a file is opened or removed, not while one is read
	names   map[Name]struct{}
	open    map[Name]*Fragment
	recent  []Name // of open, the one used last at the end
	writing map[Name]struct{}
	closed  bool
}

// OpenStore opens the directory, making it if need be. It reads names only. master wraps the keys of encrypted volumes; without it
// these cannot be kept here.
func OpenStore(fs vfs.FS, dir string, master keys.Master) (*Store, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open fragments in %s: %w", dir, err)
	}
	if err := durable.SyncDir(fs, fs.PathDir(dir)); err != nil {
		return nil, fmt.Errorf("open fragments in %s: %w", dir, err)
	}
	files, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("open fragments in %s: %w", dir, err)
	}
	s := &Store{fs: fs, dir: dir, master: master, names: make(map[Name]struct{}), open: make(map[Name]*Fragment), writing: make(map[Name]struct{})}
	for _, file := range files {
		if n, ok := parseName(file); ok {
			s.names[n] = struct{}{}
		}
	}
	return s, nil
}

func (s *Store) path(n Name) string { return s.fs.PathJoin(s.dir, n.file()) }

// List gives the complete fragments here, in order.
func (s *Store) List() []Name {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Name, 0, len(s.names))
	for n := range s.names {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Name) int { return strings.Compare(a.file(), b.file()) })
	return out
}

// Has says whether the fragment is complete here.
func (s *Store) Has(n Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.names[n]
	return ok
}

// Get gives a fragment for reading. It may be closed under the reader's hands, when many others are asked for or it is removed:
// ErrClosed then, and Get again tells.
func (s *Store) Get(n Name) (*Fragment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("fragment %d of volume %s: %w", n.Index, n.Volume, ErrClosed)
	}
	if f := s.open[n]; f != nil {
		s.touch(n)
		return f, nil
	}
	if _, ok := s.names[n]; !ok {
		return nil, fmt.Errorf("fragment %d of volume %s: %w", n.Index, n.Volume, ErrNotFound)
	}
	f, err := Open(s.fs, s.path(n))
	if errors.Is(err, os.ErrNotExist) {
		delete(s.names, n) // somebody took the file away: it is to be rebuilt
		return nil, fmt.Errorf("fragment %d of volume %s: %w: %w", n.Index, n.Volume, ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	if l := f.layout; l.Volume != n.Volume || l.Generation != n.Generation || f.index != n.Index {
		err := &DamageError{Volume: n.Volume, Index: n.Index, Block: -1, Reason: "the file holds another fragment"}
		return nil, errors.Join(err, f.Close())
	}
	if len(s.recent) >= maxOpen {
		if err := s.shut(s.recent[0]); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	s.open[n] = f
	s.recent = append(s.recent, n)
	return f, nil
}

// touch is called under mu.
func (s *Store) touch(n Name) {
	i := slices.Index(s.recent, n)
	s.recent = append(slices.Delete(s.recent, i, i+1), n)
}

// shut closes an open fragment. Called under mu.
func (s *Store) shut(n Name) error {
	f := s.open[n]
	if f == nil {
		return nil
	}
	delete(s.open, n)
	i := slices.Index(s.recent, n)
	s.recent = slices.Delete(s.recent, i, i+1)
	return f.Close()
}

// Lost says whether a fragment that should be here is of no use: without a file, or one whose header or length is wrong or that was made by
// another layout. The files are looked for anew.
func (s *Store) Lost(l Layout, index int) (bool, error) {
	n := Name{Volume: l.Volume, Generation: l.Generation, Index: index}
	if _, err := s.fs.Stat(s.path(n)); errors.Is(err, os.ErrNotExist) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.names, n)
		return true, s.shut(n)
	}
	f, err := s.Get(n)
	var damage *DamageError
	if errors.Is(err, ErrNotFound) || errors.As(err, &damage) {
		return true, nil
	}
	return err == nil && f.layout != l, err
}

// ReadBlocks reads and checks blocks of a fragment that is here.
func (s *Store) ReadBlocks(ctx context.Context, n Name, first, blocks int64) ([]byte, error) {
	for again := true; ; again = false {
		f, err := s.Get(n)
		if err != nil {
			return nil, err
		}
		stored, err := f.ReadBlocks(ctx, first, blocks)
		if again && errors.Is(err, ErrClosed) {
			continue // others were in more demand
		}
		return stored, err
	}
}

// Draft is a fragment of a Store that is being made.
type Draft struct {
	*Writer
	store *Store
	name  Name
}

// Make begins a fragment, or goes on with what an earlier attempt left. Only one attempt may be under way. A fragment of that
// name that is there already is replaced by Finish.
func (s *Store) Make(ctx context.Context, l Layout, index int) (*Draft, error) {
	n := Name{Volume: l.Volume, Generation: l.Generation, Index: index}
	s.mu.Lock()
	_, busy := s.writing[n]
	closed := s.closed
	if !busy && !closed {
		s.writing[n] = struct{}{}
	}
	s.mu.Unlock()
	switch {
	case closed:
		return nil, fmt.Errorf("make fragment %d of volume %s: %w", index, l.Volume, ErrClosed)
	case busy:
		return nil, fmt.Errorf("make fragment %d of volume %s: %w", index, l.Volume, ErrBusy)
	}
	w, err := Begin(ctx, s.fs, s.path(n), l, index)
	if err != nil {
		s.unlock(n)
		return nil, err
	}
	return &Draft{Writer: w, store: s, name: n}, nil
}

func (s *Store) unlock(n Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writing, n)
}

// Finish makes the fragment complete and the store's.
func (d *Draft) Finish(ctx context.Context) error {
	if err := d.Writer.Finish(ctx); err != nil {
		return err
	}
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[d.name] = struct{}{}
	return s.shut(d.name) // an older file of this name
}

// Close ends the attempt. What is not finished stays for the next one.
func (d *Draft) Close() error {
	defer d.store.unlock(d.name)
	return d.Writer.Close()
}

// Remove deletes a fragment, and what was begun of it, for good once it returns.
func (s *Store) Remove(n Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.writing[n]; busy {
		return fmt.Errorf("remove fragment %d of volume %s: %w", n.Index, n.Volume, ErrBusy)
	}
	delete(s.names, n)
	err := s.shut(n)
	for _, path := range []string{s.path(n), s.path(n) + temporarySuffix} {
		if e := s.fs.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err = errors.Join(err, durable.SyncDir(s.fs, s.dir)); err != nil {
		return fmt.Errorf("remove fragment %d of volume %s: %w", n.Index, n.Volume, err)
	}
	return nil
}

// Drafts lists what is begun and not complete.
func (s *Store) Drafts() ([]Name, error) {
	files, err := s.fs.List(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list fragments in %s: %w", s.dir, err)
	}
	var out []Name
	for _, file := range files {
		base, temporary := strings.CutSuffix(file, temporarySuffix)
		if n, ok := parseName(base); ok && temporary {
			out = append(out, n)
		}
	}
	return out, nil
}

// Close closes what is open for reading.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	for len(s.recent) > 0 {
		err = errors.Join(err, s.shut(s.recent[0]))
	}
	return err
}
