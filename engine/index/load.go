package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// loadTableBytes is about how large a table that Load builds gets.
const loadTableBytes = 64 << 20

// Load replaces the shard with what Save wrote on another replica. Steps:
//
//  1. Read the stream into tables in the directory "incoming", checking every frame, and its trailer last. Up to here an error
//     or a crash changes nothing; Open removes the directory.
//  2. One pebble ingestion excises the shard's range and links the tables in; its manifest edit, fsynced, is the
//     moment of change. Views of before fail with ErrReplaced from then on.
//
// When Load returns the new state is durable. It waits for the shard's Txn to end.
func (s *Shard) Load(r io.Reader) error { return s.LoadOf(r, uint32(s.k)) }

// LoadOf is Load of what Save wrote of another shard.
func (s *Shard) LoadOf(r io.Reader, number uint32) (err error) {
	s.writer.Lock()
	defer s.writer.Unlock()
	in, err := newLoader(r)
	if err != nil {
		return s.errorf("load: %w", err)
	}
	defer in.dec.Close()
	dir := s.db.fs.PathJoin(s.db.incoming, fmt.Sprintf("%d", uint32(s.k)))
	b := &tableBuilder{db: s.db, k: s.k, of: number, dir: dir}
	defer func() {
		if e := s.db.fs.RemoveAll(dir); e != nil && err == nil {
			err = s.errorf("load: remove %s: %w", dir, e)
		}
	}()
	if err := b.readAll(in); err != nil {
		return s.errorf("load: %w", errors.Join(err, b.abandon()))
	}
	if err := s.swap(b.paths, in.applied); err != nil {
		return s.errorf("load: replace shard: %w", err)
	}
	return nil
}

// swap is step 2.
func (s *Shard) swap(paths []string, applied uint64) error {
	lower, upper := s.k.span()
	span := pebble.KeyRange{Start: lower, End: upper}
	s.excise.Lock()
	defer s.excise.Unlock()
	s.durableMu.Lock()
	defer s.durableMu.Unlock()
	var err error
	if len(paths) > 0 {
		_, err = s.db.p.IngestAndExcise(context.Background(), paths, nil, nil, span)
	} else {
		err = s.db.p.Excise(context.Background(), span)
	}
	// Whatever happened, what was remembered about the shard is now in doubt.
	s.generation++
	s.known.Store(false)
	s.durable, s.durableAt = 0, 0
	s.forget()
	if err != nil {
		return err
	}
	s.applied.Store(applied)
	s.known.Store(true)
	return nil
}

// tableBuilder writes pairs that arrive in order to tables.
type tableBuilder struct {
	db    *DB
	k     keys
	of    uint32 // shard that the stream is of
	dir   string
	paths []string
	w     *sstable.Writer // nil between tables
	key   []byte          // scratch
	saved uint64          // the applied index among the pairs
}

// readAll is step 1.
func (b *tableBuilder) readAll(in *loader) error {
	if err := b.db.fs.RemoveAll(b.dir); err != nil {
		return err
	}
	if err := b.db.fs.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	if err := in.header(); err != nil {
		return err
	}
	if in.shard != b.of {
		return fmt.Errorf("%w of this number: it is shard %d", ErrBadStream, in.shard)
	}
	if err := in.each(b.add); err != nil {
		return err
	}
	if b.saved != in.applied {
		return fmt.Errorf("%w: applied index %d in its header, %d inside", ErrBadStream, in.applied, b.saved)
	}
	return b.finish()
}

func (b *tableBuilder) add(key, value []byte) error {
	if b.w == nil {
		if err := b.create(); err != nil {
			return err
		}
	}
	b.key = append(append(b.key[:0], b.k.root(0)[:shardLen]...), key...)
	if bytes.Equal(b.key, b.k.applied()) {
		index, err := decodeIndex(value)
		if err != nil {
			return fmt.Errorf("%w: applied index: %v", ErrBadStream, err)
		}
		b.saved = index
	}
	if err := b.w.Set(b.key, value); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	if b.w.Raw().EstimatedSize() >= loadTableBytes {
		return b.finish()
	}
	return nil
}

func (b *tableBuilder) create() error {
	path := b.db.fs.PathJoin(b.dir, fmt.Sprintf("%06d.sst", len(b.paths)))
	f, err := b.db.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	b.paths = append(b.paths, path)
	b.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), b.db.opts.MakeWriterOptions(6, b.db.p.TableFormat()))
	return nil
}

// finish completes and fsyncs the table under construction.
func (b *tableBuilder) finish() error {
	if b.w == nil {
		return nil
	}
	w := b.w
	b.w = nil
	if err := w.Close(); err != nil {
		return fmt.Errorf("finish table: %w", err)
	}
	return nil
}

// abandon closes the table under construction after an error.
func (b *tableBuilder) abandon() error { return b.finish() }
