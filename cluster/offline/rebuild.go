package offline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/command"
	"hongyan/cluster/config"
	"hongyan/cluster/placement"
	"hongyan/cluster/rebuild"
	"hongyan/cluster/shard"
	"hongyan/engine"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// asideSuffix names what a rebuild moves out of the way.
const asideSuffix = ".before-rebuild-"

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// rebuildRun is one call of the command.
type rebuildRun struct {
	s       *session
	files   list // configurations of the nodes to be made anew
	dev     string
	write   bool
	drop    bool
	out     io.Writer
	nodes   []*config.Node
	shelved int // how many nodes have volumes, the first ones; the disks of the others are empty
	groups  []placement.Group
	volumes rebuild.Volumes
	cold    []volume.ID // of which too few fragments were found
	damaged []volume.ID // of which copies were found that cannot be opened
	frags   fragments
	open    []*opened
	began   time.Time
	stamp   string // of began, in names
}

// rebuild makes the indexes of a stopped cluster anew.
func (s *session) rebuild() command.Command {
	r := &rebuildRun{s: s}
	return command.Command{
		Name: "rebuild", Args: "[DATA…]", Summary: "make the indexes of a whole cluster anew from its volumes and the checkpoints in them",
		Flags: `  --config FILE    configuration of a node to be made anew; once for each storage node of the cluster
  --dev DIR        all nodes of the stopped development cluster in DIR, instead of --config
  --write          do it; without, only say which checkpoints there are
  --drop-missing   remove messages whose bytes are in no volume given here; those of a volume that is left out stay
`,
		Example: "hongyan volume rebuild --dev .hongyan\nhongyan volume rebuild --config a.yaml --config b.yaml --config c.yaml --write\n" +
			"Indexes and logs that are there are kept beside the new ones, as index" + asideSuffix + "… and raft" + asideSuffix + "….",
		Define: func(fs *flag.FlagSet) {
			fs.Var(&r.files, "config", "")
			fs.StringVar(&r.dev, "dev", "", "")
			fs.BoolVar(&r.write, "write", false, "")
			fs.BoolVar(&r.drop, "drop-missing", false, "")
		},
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			r.out, r.began = out, time.Now()
			r.stamp = r.began.UTC().Format("20060102T150405.000") // given again within the second, it finds other names
			return r.run(ctx, words)
		},
	}
}

// run takes these steps. Up to the third nothing is changed; a crash later leaves a new index without groups, or some nodes made anew,
// and everything that was there before set aside: the command is given again.
//
//  1. The configurations are read; all data directories are locked, so no node runs.
//  2. Volumes are opened for reading and looked through for checkpoints.
//  3. Indexes and logs of the nodes are set aside.
//  4. The first node's new index gets everything; the other nodes' indexes are copied from it, shard by shard.
//  5. The groups are founded on every node: their logs begin behind the state.
func (r *rebuildRun) run(ctx context.Context, extra []string) (err error) {
	if err := r.configure(); err != nil { // step 1
		return err
	}
	dirs := extra
	for _, n := range r.nodes[:r.shelved] {
		dirs = append(dirs, n.Data)
	}
	shelves, err := r.s.open(dirs)
	if err != nil {
		return err
	}
	locked := shelves
	defer func() { err = errors.Join(err, closeAll(locked), r.closeVolumes(), r.frags.close()) }()
	if err := r.openVolumes(ctx, shelves, len(extra)); err != nil { // step 2
		return err
	}
	survey, err := rebuild.Look(&r.volumes)
	if err != nil {
		return err
	}
	if err := r.printSurvey(survey); err != nil || !r.write {
		return err
	}
	if err := r.possible(survey); err != nil {
		return err
	}
	for _, n := range r.nodes { // step 3
		if err := r.setAside(n); err != nil {
			return err
		}
	}
	locked = nil // the stores take the locks themselves
	if err := closeAll(shelves); err != nil {
		return err
	}
	return r.make(ctx, survey)
}

// possible says why nothing should be set aside.
func (r *rebuildRun) possible(s *rebuild.Survey) error {
	var absent []string
	for _, g := range r.groups {
		for _, id := range slices.Concat(g.Voters, g.Learners) {
			if !slices.Contains(absent, id) && !slices.ContainsFunc(r.nodes, func(n *config.Node) bool { return n.ID == id }) {
				absent = append(absent, id)
			}
		}
	}
	if len(absent) > 0 {
		slices.Sort(absent)
		return fmt.Errorf("replicas are to be on %s too, by the configuration of %s, and nothing was changed: give their --config as well, also if their disks are empty, or take them out of that file's peers",
			strings.Join(absent, ", "), r.nodes[0].ID)
	}
	if !slices.ContainsFunc(s.Checkpoints[placement.DirectoryShard], func(c *rebuild.Checkpoint) bool { return c.Whole }) {
		return fmt.Errorf("no whole checkpoint of the directory is in these volumes, and nothing was changed; of %d further volumes there are too few fragments: name more data directories", len(r.cold))
	}
	return nil
}

// configure reads what the nodes' files say.
func (r *rebuildRun) configure() error {
	if r.dev != "" {
		found, err := filepath.Glob(filepath.Join(r.dev, "*", "node.yaml"))
		if err != nil {
			return fmt.Errorf("look for nodes in %s: %w", r.dev, err)
		}
		r.files = append(r.files, found...)
	}
	if len(r.files) == 0 {
		return command.Usagef("expected --config FILE for each storage node, or --dev DIR")
	}
	for _, file := range r.files {
		n, err := config.Load(file)
		if err != nil {
			return err
		}
		if n.Has(config.Storage) {
			r.nodes = append(r.nodes, n)
		}
	}
	if len(r.nodes) == 0 {
		return errors.New("none of the nodes has the storage role")
	}
	slices.SortStableFunc(r.nodes, func(a, b *config.Node) int { return r.bare(a) - r.bare(b) })
	r.shelved = len(slices.DeleteFunc(slices.Clone(r.nodes), func(n *config.Node) bool { return r.bare(n) > 0 }))
	if r.shelved == 0 {
		return errors.New("none of the nodes has a volume")
	}
	var err error
	r.groups, err = cluster.Groups(r.nodes[0])
	return err
}

// bare is 1 for a node whose disk was lost: it has no folder for volumes.
func (r *rebuildRun) bare(n *config.Node) int {
	if _, err := r.s.fs.Stat(filepath.Join(n.Data, "volumes")); errors.Is(err, os.ErrNotExist) {
		return 1
	}
	return 0
}

// openVolumes opens every copy that can be opened, and cold volumes through their fragments. Those of a node need its master key, the first extra ones --master-key.
func (r *rebuildRun) openVolumes(ctx context.Context, shelves []*shelf, extra int) error {
	for i, sh := range shelves {
		master, err := r.s.master()
		if i >= extra && err == nil {
			master, err = masterOf(ctx, r.nodes[i-extra])
		}
		if err != nil {
			return err
		}
		for _, id := range sh.ids {
			o, err := r.s.openVolume(sh.dir, id, master)
			if err != nil {
				r.damaged = append(r.damaged, id)
				if _, err := fmt.Fprintf(r.out, "left out: %v\n", err); err != nil {
					return err
				}
				continue
			}
			r.open = append(r.open, o)
			r.volumes.Add(o.Volume)
			if i >= extra {
				r.volumes.On(o.Volume, r.nodes[i-extra].ID)
			}
		}
		if i >= extra {
			sh.node = r.nodes[i-extra].ID
		}
		if err := r.frags.open(r.s.fs, sh, master); err != nil {
			return err
		}
	}
	return r.openCold(ctx)
}

// opens says whether a volume can be read.
func (r *rebuildRun) opens(id volume.ID) bool {
	return slices.ContainsFunc(r.open, func(o *opened) bool { return o.Header().ID == id })
}

// openCold opens the volumes of which there are enough fragments, behind the copies.
func (r *rebuildRun) openCold(ctx context.Context) error {
	var nodes []string
	for _, n := range r.nodes {
		nodes = append(nodes, n.ID)
	}
	for _, g := range cold.Gather(r.frags.stores) {
		f := openCold(ctx, g)
		if f.err != nil && r.opens(f.id) {
			continue // a conversion that was under way; the copies are there
		}
		if f.err != nil {
			r.cold = append(r.cold, f.id)
			if _, err := fmt.Fprintf(r.out, "left out: %v\n", f.err); err != nil {
				return err
			}
			continue
		}
		r.open = append(r.open, f.opened)
		r.volumes.AddCold(f.Volume, g.Layout.Length, r.frags.nodesOf(g, nodes))
	}
	return nil
}

// masterOf opens a node's master keys, nil if it has none.
func masterOf(ctx context.Context, n *config.Node) (keys.Master, error) {
	ring, err := cluster.OpenMaster(ctx, n)
	if err != nil || ring == nil {
		return nil, err
	}
	return ring, nil
}

func (r *rebuildRun) closeVolumes() error {
	var errs []error
	for _, o := range r.open {
		errs = append(errs, o.close())
	}
	return errors.Join(errs...)
}

// setAside moves a node's index and logs away, and what it knew of the cluster: the nodes of the first configuration found it again.
func (r *rebuildRun) setAside(n *config.Node) error {
	for _, name := range []string{"topology", "index", "raft"} {
		path := filepath.Join(n.Data, name)
		err := r.s.fs.Rename(path, path+asideSuffix+r.stamp)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set the old %s of %s aside: %w", name, n.ID, err)
		}
	}
	return nil
}

// make is steps 4 and 5.
func (r *rebuildRun) make(ctx context.Context, survey *rebuild.Survey) error {
	first, err := cluster.OpenStore(ctx, r.nodes[0], discard())
	if err != nil {
		return err
	}
	report, err := rebuild.Run(&r.volumes, survey, first.Index, rebuild.Options{
		Groups: r.groups, Closed: slices.Concat(r.cold, r.damaged), DropMissing: r.drop, Now: r.began.Unix(),
		Say: func(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }, // the report is what counts
	})
	for _, n := range r.nodes[1:] {
		if err == nil {
			err = r.copyTo(ctx, n, first)
		}
	}
	if err == nil {
		err = r.found(r.nodes[0], first)
	}
	if err := errors.Join(err, first.Close()); err != nil {
		return err
	}
	return r.printReport(report)
}

// copyTo gives a node the shards that it holds, and founds its groups.
func (r *rebuildRun) copyTo(ctx context.Context, n *config.Node, from *engine.Store) (err error) {
	to, err := cluster.OpenStore(ctx, n, discard())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, g := range r.groups {
		if !g.Holds(n.ID) {
			continue
		}
		in, out := io.Pipe()
		go func() {
			_, err := from.Index.Shard(g.Shard).Save(out)
			out.CloseWithError(err)
		}()
		err := to.Index.Shard(g.Shard).Load(in)
		if err := errors.Join(err, in.Close()); err != nil {
			return fmt.Errorf("give shard %d to %s: %w", g.Shard, n.ID, err)
		}
	}
	return r.found(n, to)
}

// found founds the groups of a node on what its index holds, and removes what the node does not hold.
func (r *rebuildRun) found(n *config.Node, store *engine.Store) (err error) {
	logs, err := shard.OpenLogs(filepath.Join(n.Data, "raft"), store.Key, discard())
	if err != nil {
		return fmt.Errorf("found the groups of %s: %w", n.ID, err)
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	for _, g := range r.groups {
		state := store.Index.Shard(g.Shard)
		if !g.Holds(n.ID) {
			if err := state.Clear(); err != nil {
				return err
			}
			continue
		}
		applied, err := state.Applied()
		if err != nil {
			return err
		}
		if err := state.FlushTo(applied); err != nil {
			return err
		}
		if err := shard.Found(logs, shard.Dir(n.Data, g.Shard), g, applied, r.began); err != nil {
			return err
		}
	}
	return cluster.WriteFirst(n, r.nodes[0])
}

// printSurvey says what there is to rebuild from.
func (r *rebuildRun) printSurvey(s *rebuild.Survey) error {
	if r.s.asJSON && r.write {
		return nil // the report follows
	}
	if r.s.asJSON {
		return command.PrintJSON(r.out, s)
	}
	for _, n := range r.nodes[r.shelved:] {
		if _, err := fmt.Fprintf(r.out, "%s has no volumes in %s: its disk is taken to be new, is it only not mounted?\n", n.ID, n.Data); err != nil {
			return err
		}
	}
	if len(r.cold) > 0 {
		if _, err := fmt.Fprintf(r.out, "of %d cold volumes there are too few fragments: their checkpoints and messages are not read\n", len(r.cold)); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(r.out, "%d volumes, %d records, %d messages, %d records that no copy gives\n\n", s.Volumes, s.Records, s.Messages, s.Unreadable); err != nil {
		return err
	}
	var rows [][]string
	for _, g := range r.groups {
		row := []string{fmt.Sprint(g.Shard), "none", "", ""}
		for _, c := range s.Checkpoints[g.Shard] {
			if c.Whole {
				row = []string{fmt.Sprint(g.Shard), fmt.Sprint(c.Applied), time.Unix(c.Taken, 0).UTC().Format(time.DateTime), fmt.Sprint(len(s.Checkpoints[g.Shard]))}
				break
			}
		}
		rows = append(rows, row)
	}
	return command.Table(r.out, "SHARD CHECKPOINT TAKEN FOUND", rows)
}

func (r *rebuildRun) printReport(rep *rebuild.Report) error {
	if r.s.asJSON {
		return command.PrintJSON(r.out, rep)
	}
	var rows [][]string
	for _, s := range rep.Shards {
		rows = append(rows, []string{fmt.Sprint(s.Shard), fmt.Sprint(s.Checkpoint), fmt.Sprint(s.Entered), fmt.Sprint(s.Refused + s.Unreadable), fmt.Sprint(s.Missing), fmt.Sprint(s.Dropped)})
	}
	if _, err := fmt.Fprintf(r.out, "\nRebuilt: %d accounts, %d volumes (%d entered), %d messages of unknown accounts\n", rep.Accounts, rep.Volumes, rep.Entered, rep.Strangers); err != nil {
		return err
	}
	if err := command.Table(r.out, "SHARD CHECKPOINT ENTERED LEFT-OUT BYTES-MISSING DROPPED", rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(r.out, "Start the nodes now. Once all is well, remove what ends in "+asideSuffix+r.stamp+".")
	return err
}

// discard is the log of the stores: what an operator should see is printed.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
