package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2/vfs"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"hongyan/engine/durable"
)

// Logs that lack something of what this node has promised must not speak for it: it would vote twice, or for a log without what was acknowledged. OpenLogs
// refuses them (DamagedError), and the node sets them aside and has its replicas made anew, as one whose disk was lost. It looks for
//
//  1. a journal that is damaged (package journal), or missing though the node has run with one;
//  2. terms and votes that are missing, cut, or do not read as such;
//  3. a mark which says that a leader found acknowledged entries missing while the node ran (lapse.go).

// DamagedError says that the logs in Dir cannot be trusted.
type DamagedError struct {
	Dir string
	Why error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the logs in %s cannot be trusted: %v", e.Dir, e.Why)
}

func (e *DamagedError) Unwrap() error { return e.Why }

// IncarnationName is the file in the logs' folder with its name, which a node writes when it has opened them first. A rebuild from volumes leaves replicas and none.
const IncarnationName = "incarnation"

const (
	termsName   = "raft.db"
	journalName = "journal"
	logsMark    = "DAMAGED"
	maxMark     = 4096
	metaSize    = 64 // of bbolt's meta pages, behind a page header of 16 bytes
	pageHeader  = 16
	metaMagic   = 0xED0CDAED
)

// MarkDamaged has the next OpenLogs refuse the logs in dir.
func MarkDamaged(dir, why string) error {
	return durable.Replace(vfs.Default, filepath.Join(dir, logsMark), []byte(why), vfs.WriteCategoryUnspecified)
}

// checkLogs looks before anything is opened, for what opening would make anew or die of.
func checkLogs(dir string) error {
	why, err := lookAtLogs(dir)
	if err != nil {
		return fmt.Errorf("look at the logs: %w", err)
	}
	if why != nil {
		return &DamagedError{Dir: dir, Why: why}
	}
	return nil
}

func lookAtLogs(dir string) (why, err error) {
	mark, err := os.Open(filepath.Join(dir, logsMark))
	if err == nil {
		text, err := io.ReadAll(io.LimitReader(mark, maxMark))
		return errors.New(string(text)), errors.Join(err, mark.Close())
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	began, err := exists(vfs.Default, filepath.Join(dir, IncarnationName))
	if err != nil {
		return nil, err
	}
	journals, err := filepath.Glob(filepath.Join(dir, journalName, "*.log"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, termsName)
	fi, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, err
	case began && err != nil:
		return fmt.Errorf("%s, with the terms and votes of its replicas, is missing", termsName), nil
	case began && len(journals) == 0:
		return errors.New("the journal of its replicas is missing"), nil
	case err != nil:
		return nil, nil // a new node's
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is no file", termsName), nil
	case fi.Size() == 0: // made by a crash at the first start, or cut
		if began {
			return fmt.Errorf("%s is empty", termsName), nil
		}
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	why = checkTerms(f, fi.Size())
	if err := f.Close(); err != nil || why != nil {
		return why, err
	}
	return readTerms(path), nil
}

// checkTerms says why the file is no whole bbolt database. bbolt maps it, so a file that is cut would end the process.
func checkTerms(f io.ReaderAt, size int64) error {
	newest, need := uint64(0), int64(0)
	for _, at := range []int64{0, int64(os.Getpagesize()), 4096, 8192, 16384, 65536} {
		b := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(b, at); err != nil {
			continue
		}
		m := b[pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:metaSize-8]) // it never fails
		page, end, tx := binary.LittleEndian.Uint32(m[8:]), binary.LittleEndian.Uint64(m[40:]), binary.LittleEndian.Uint64(m[48:])
		if binary.LittleEndian.Uint32(m) == metaMagic && sum.Sum64() == binary.LittleEndian.Uint64(m[56:]) && tx >= newest && end < 1<<32 {
			newest, need = tx, int64(end)*int64(page)
		}
	}
	if need == 0 {
		return fmt.Errorf("%s is no database", termsName)
	}
	if size < need {
		return fmt.Errorf("%s has %d bytes of %d", termsName, size, need)
	}
	return nil
}

// readTerms walks through the database and says what in it is not as it is written. What bbolt does not expect it answers with a panic, or by reading where
// nothing is mapped.
func readTerms(path string) (why error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			why = fmt.Errorf("%s does not read as a database: %v", termsName, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) || errors.Is(err, os.ErrPermission) {
			return nil // whoever opens it next says so
		}
		return fmt.Errorf("%s: %w", termsName, err)
	}
	defer func() {
		if err := db.Close(); err != nil && why == nil {
			why = fmt.Errorf("%s: %w", termsName, err)
		}
	}()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return b.ForEach(func(_, _ []byte) error { return nil }) })
	})
}

// checkVotes holds what raft keeps of each replica against what was read of the journal.
func (l *Logs) checkVotes(dir string) error {
	kept, _, err := Replicas(vfs.Default, filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("look at the logs: %w", err)
	}
	for _, number := range kept {
		if why := l.group(number).contradiction(); why != nil {
			return &DamagedError{Dir: dir, Why: fmt.Errorf("shard %d %w", number, why)}
		}
	}
	return nil
}

// contradiction says what of a replica's term, vote and log cannot be: no vote and no entry is of a later term than is known.
func (g *groupLog) contradiction() error {
	term, err := g.keptTerm("CurrentTerm")
	if err != nil {
		return err
	}
	voted, err := g.keptTerm("LastVoteTerm")
	if err != nil {
		return err
	}
	if voted > term {
		return fmt.Errorf("has voted in term %d, and knows of term %d only", voted, term)
	}
	last := g.log.Last()
	if last == 0 {
		return nil
	}
	e, err := g.log.Get(last)
	if err != nil {
		return fmt.Errorf("cannot read its last entry: %w", err)
	}
	if e.Term > term {
		return fmt.Errorf("has entry %d of term %d, and knows of term %d only", last, e.Term, term)
	}
	return nil
}

// keptTerm is a term under raft's name for it, 0 if there is none.
func (g *groupLog) keptTerm(name string) (uint64, error) {
	n, err := g.GetUint64([]byte(name))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read its %s: %w", name, err)
	}
	return n, nil
}
