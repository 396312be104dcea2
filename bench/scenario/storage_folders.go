package scenario

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// sort is what a file in a node's folder is for.
type sort string

// Sorts of files, in the order of tables.
const (
	sortVolumes   sort = "volumes"
	sortRecords   sort = "record indexes" // of volumes and fragments
	sortKeys      sort = "keys"           // of volumes and fragments
	sortFragments sort = "fragments"
	sortIndex     sort = "index"
	sortJournal   sort = "journal"
	sortOther     sort = "log and others"
)

var sorts = []sort{sortVolumes, sortRecords, sortKeys, sortFragments, sortIndex, sortJournal, sortOther}

// sortOf tells by the path below the node's folder.
func sortOf(path string) sort {
	top, rest, _ := strings.Cut(filepath.ToSlash(path), "/")
	switch {
	case top == "index":
		return sortIndex
	case top == "raft":
		return sortJournal
	case top != "volumes" && top != "cold":
		return sortOther
	}
	switch filepath.Ext(rest) {
	case ".vol":
		return sortVolumes
	case ".key":
		return sortKeys
	case ".idx":
		return sortRecords
	case ".frag":
		return sortFragments
	}
	return sortOther
}

// space is what some files take.
type space struct {
	bytes int64 // allocated
	files int
}

// contents is what a node's folder holds.
type contents struct {
	sorts     map[sort]space
	volumes   map[uint64]int64 // length of each volume file, without the zeros that are written ahead
	fragments map[uint64]int64 // length of the fragments of each cold volume
	spared    int64            // zeros that were written ahead
}

func (c contents) all() (sum space) {
	for _, s := range c.sorts {
		sum.bytes, sum.files = sum.bytes+s.bytes, sum.files+s.files
	}
	return sum
}

// inspect adds up a node's folder. Files that vanish meanwhile do not count. With deep the ends of volume files are read.
func inspect(dir string, deep bool) (contents, error) {
	c := contents{sorts: make(map[sort]space), volumes: make(map[uint64]int64), fragments: make(map[uint64]int64)}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err == nil {
			err = c.add(dir, path, d, deep)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return c, fmt.Errorf("add up folder %s: %w", dir, err)
	}
	return c, nil
}

func (c *contents) add(dir, path string, d fs.DirEntry, deep bool) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	s := sortOf(rel)
	one := c.sorts[s]
	one.bytes, one.files = one.bytes+allocated(fi), one.files+1
	c.sorts[s] = one
	if !deep || s != sortVolumes && s != sortFragments {
		return nil
	}
	number, _, _ := strings.Cut(strings.TrimSuffix(d.Name(), filepath.Ext(d.Name())), "-") // a fragment's name goes on
	id, err := strconv.ParseUint(number, 16, 64)
	if err != nil {
		return nil // not one of ours
	}
	if s == sortFragments {
		c.fragments[id] += fi.Size()
		return nil
	}
	length, err := written(path)
	if err != nil {
		return err
	}
	c.volumes[id] = length
	c.spared += fi.Size() - length
	return nil
}

func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}

// written is the length of a file up to its last byte that is not zero, rounded up to 8 as records of a volume are. What an open volume has been
// filled with ahead of its records are zeros, and a record does not end with many.
func written(path string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const header = 4096
	block := make([]byte, 64<<10)
	for end := fi.Size(); end > header; {
		begin := max(end-int64(len(block)), 0)
		part := block[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != 0 {
				return min(max((begin+int64(i)+8)&^7, header), fi.Size()), nil
			}
		}
		end = begin
	}
	return min(fi.Size(), header), nil
}

// record is how much mail, and what the nodes' folders held: one state of the whole cluster.
type record struct {
	nodes []string
	of    map[string]contents
}

// sum is what all nodes have of one sort; of all sorts when it is empty.
func (r record) sum(s sort) (sum space) {
	for _, c := range r.of {
		one := c.all()
		if s != "" {
			one = c.sorts[s]
		}
		sum.bytes, sum.files = sum.bytes+one.bytes, sum.files+one.files
	}
	return sum
}

// copies is what one copy of the volumes takes that which chooses: of each volume the mean length of the files there are of it.
func (r record) copies(which func(id uint64) bool) (bytes float64, volumes int) {
	total, count := make(map[uint64]int64), make(map[uint64]int64)
	for _, c := range r.of {
		for id, n := range c.volumes {
			total[id] += n
			count[id]++
		}
	}
	for id, n := range total {
		if which(id) {
			bytes += float64(n) / float64(count[id])
			volumes++
		}
	}
	return bytes, volumes
}
