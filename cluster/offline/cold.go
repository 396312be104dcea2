package offline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/replica"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// readOnly opens files for reading, whatever they are opened for.
type readOnly struct{ vfs.FS }

// OpenReadWrite does not let anybody write.
func (r readOnly) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return r.Open(name, opts...)
}

// fragments are those of several data directories, and the directories that they are of.
type fragments struct {
	stores []*cold.Store
	of     []*shelf
}

// open opens a directory's fragments, if it has any; master unwraps the keys beside them.
func (f *fragments) open(fs vfs.FS, sh *shelf, master keys.Master) error {
	if _, err := fs.Stat(sh.cold); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s, err := cold.OpenStore(readOnly{fs}, sh.cold, master)
	if err != nil {
		return err
	}
	f.stores, f.of = append(f.stores, s), append(f.of, sh)
	return nil
}

func (f *fragments) close() error {
	var errs []error
	for _, s := range f.stores {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// openCold opens a volume through its fragments.
func openCold(ctx context.Context, g *cold.Gathered) found {
	f := found{id: g.ID(), cold: g, where: "fragments " + strings.Trim(fmt.Sprint(g.Here()), "[]")}
	if g.Layout.Data > 0 {
		f.where += fmt.Sprintf(" of %d+%d", g.Layout.Data, g.Layout.Parity)
	}
	v, err := g.Open(ctx)
	if f.err = err; err == nil {
		f.opened = &opened{Volume: v, closeKeys: func() error { return nil }}
	}
	return f
}

// nodesOf says on which nodes the fragments lie, for the directory. One that is nowhere is given to a node that has none, or the fewest, which
// computes it from the others. It is nil if the nodes' own fragments do not suffice.
func (f *fragments) nodesOf(g *cold.Gathered, nodes []string) *replica.Cold {
	c := &replica.Cold{Data: g.Layout.Data, Parity: g.Layout.Parity, Seed: g.Layout.Seed, Nodes: make([]string, len(g.Holders))}
	load := make(map[string]int)
	for i, holders := range g.Holders {
		for _, at := range holders {
			if node := f.of[at].node; node != "" && c.Nodes[i] == "" {
				c.Nodes[i] = node
				load[node]++
			}
		}
	}
	if len(nodes) == 0 || len(c.Nodes)-count(c.Nodes, "") < int(c.Data) {
		return nil
	}
	for i := range c.Nodes {
		if c.Nodes[i] == "" {
			c.Nodes[i] = slices.MinFunc(nodes, func(a, b string) int { return load[a] - load[b] })
			load[c.Nodes[i]]++
		}
	}
	return c
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// coldDir is where a data directory has its fragments.
func coldDir(data string) string { return filepath.Join(data, "cold") }

// found is a copy of a volume, or its fragments, as a command looks at it.
type found struct {
	id    volume.ID
	where string
	err   error // why it is not open
	*opened
	cold *cold.Gathered // nil: it is a copy
}
