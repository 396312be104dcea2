package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hongyan/bench/measure"
)

// step lets one kind of recovery happen, and waits until all nodes serve and every replica is where it should be: while those of an emptied disk are made anew, no other
// node may be stopped. Who leads which shard is no matter: that comes home by itself.
func (r *recoveries) step(ctx context.Context, kind string) error {
	r.env.Progress.Step("%s", strings.ReplaceAll(kind, "_", " "))
	r.env.Progress.Rate(func() string { return fmt.Sprintf("%.0f/s", r.rec.Live().Rate) })
	nodes := r.env.nodes()
	row := recoveryRow{kind: kind, node: nodes[r.rng.IntN(len(nodes))]}
	if kind != kindRestartAll { // which marks the moment when all are dead
		r.mark(&row)
	}
	var err error
	switch kind {
	case kindRestart:
		err = r.restart(ctx, &row)
	case kindRestartAll:
		row.node = "all"
		err = r.restartAll(ctx, &row)
	case kindRejoin:
		err = r.comeBack(ctx, &row, r.deliver)
	case kindReindex:
		err = r.comeBack(ctx, &row, func(context.Context) error {
			return r.remove(row.node, func(name string) bool { return name == "index" })
		})
	case kindRebuild:
		err = r.comeBack(ctx, &row, func(ctx context.Context) error {
			if err := r.othersLevel(ctx, row.node); err != nil {
				return err
			}
			return r.remove(row.node, func(name string) bool { return !slices.Contains(kept, name) && !strings.HasPrefix(name, nodeLog) })
		})
	case kindPowerCut:
		row.node = "all"
		err = r.powerCut(ctx, &row)
	}
	if err != nil {
		return err
	}
	r.rows = append(r.rows, row)
	return until(ctx, serveWait, func() error { return errors.Join(r.env.ready(ctx), r.env.settled(ctx, nodes)) })
}

// mark says on the charts that something is done now.
func (r *recoveries) mark(row *recoveryRow) {
	row.mark = len(r.rec.Figures().Marks)
	r.rec.Mark(strings.ReplaceAll(row.kind, "_", " "))
}

// What a node with an empty disk is given again: it is no part of what it stored.
const nodeLog = "node.log"

var kept = []string{"node.yaml", "node.pem", "node.key", "lost+found"}

// note keeps a figure of a run.
func (r *recoveries) note(id string, d time.Duration) {
	r.took[id] = append(r.took[id], d.Seconds())
}

// restart kills a node and starts it at once.
func (r *recoveries) restart(ctx context.Context, row *recoveryRow) error {
	if err := r.env.Lab.Kill(row.node); err != nil {
		return err
	}
	return r.start(row)
}

// start measures how long a node takes from the start of its process until it serves.
func (r *recoveries) start(row *recoveryRow) error {
	began := time.Now()
	if err := r.env.Lab.Start(row.node); err != nil {
		return err
	}
	row.serves = time.Since(began)
	r.note("recovery."+row.kind+".serves", row.serves)
	return nil
}

// restartAll kills all nodes at once, starts them, and waits until a delivery is accepted that was begun after that.
func (r *recoveries) restartAll(ctx context.Context, row *recoveryRow) error {
	nodes := r.env.nodes()
	if err := eachNode(nodes, r.env.Lab.Kill); err != nil {
		return err
	}
	r.mark(row)
	began := time.Now()
	if err := eachNode(nodes, r.env.Lab.Start); err != nil {
		return err
	}
	row.serves = time.Since(began)
	r.note("recovery."+row.kind+".serves", row.serves)
	err := until(ctx, serveWait, func() error {
		took, ok := r.rec.Figures().Marks[row.mark].ToFirst()
		if !ok {
			return errors.New("no delivery was accepted")
		}
		row.whole = took
		return nil
	})
	if err == nil {
		r.note("recovery."+row.kind, row.whole)
	}
	return err
}

func eachNode(nodes []string, f func(string) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// powerCut takes all nodes' power: what they did not fsync is gone.
func (r *recoveries) powerCut(ctx context.Context, row *recoveryRow) error {
	began := time.Now()
	if err := r.env.Lab.PowerCut(); err != nil {
		return err
	}
	row.serves = time.Since(began)
	r.note("recovery."+row.kind+".serves", row.serves)
	accepted := r.rec.Figures().Successes
	err := until(ctx, serveWait, func() error {
		if f := r.rec.Figures(); f.Successes > accepted {
			row.whole = f.Marks[row.mark].Stall // a delivery may have been accepted between the mark and the cut
			return nil
		}
		return errors.New("no delivery was accepted")
	})
	if err == nil {
		r.note("recovery."+row.kind, row.whole)
	}
	return err
}

// comeBack stops a node, does something meanwhile, starts it, and waits until it has all that the others have.
func (r *recoveries) comeBack(ctx context.Context, row *recoveryRow, meanwhile func(context.Context) error) error {
	other := without(r.env.nodes(), row.node)
	before, err := r.env.holdings(ctx, row.node, other[0])
	if err != nil {
		return err
	}
	if err := r.env.Lab.Stop(row.node); err != nil {
		return err
	}
	if err := meanwhile(ctx); err != nil {
		return err
	}
	far, err := r.env.applied(ctx, other)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := r.start(row); err != nil {
		return err
	}
	if err := until(ctx, serveWait, func() error { return r.caughtUp(ctx, row.node, other[0], far, before) }); err != nil {
		return err
	}
	row.whole = time.Since(began)
	r.note("recovery."+row.kind, row.whole)
	if row.copied, err = r.copied(ctx, row.node); err != nil || row.kind != kindRebuild {
		return err
	}
	r.took["recovery.rebuild.bytes"] = append(r.took["recovery.rebuild.bytes"], float64(row.copied))
	r.took["recovery.rebuild.rate"] = append(r.took["recovery.rebuild.rate"], float64(row.copied)/row.whole.Seconds())
	return nil
}

// caughtUp is nil once the node's replicas have come as far as the others had when it was started, and every copy and fragment is whole that it
// held before or should hold by now.
func (r *recoveries) caughtUp(ctx context.Context, node, other string, far map[uint32]uint64, before map[string]int64) error {
	v, err := r.env.view(ctx, node)
	if err != nil {
		return err
	}
	if len(v.NotReady) > 0 {
		return fmt.Errorf("node %s does not serve: %s", node, v.NotReady[0])
	}
	if err := v.reached(far); err != nil {
		return err
	}
	return r.env.copiesWhole(ctx, node, other, v, before)
}

// copied is how many bytes of volumes and fragments the node's process has fetched or computed anew.
func (r *recoveries) copied(ctx context.Context, node string) (int64, error) {
	c, err := r.env.Lab.Cluster()
	if err != nil {
		return 0, err
	}
	m, err := memberOf(c, node)
	if err != nil {
		return 0, err
	}
	now, err := measure.Scrape(ctx, m.HTTP)
	if err != nil {
		return 0, err
	}
	return int64(now["hongyan_volume_repaired_bytes_total"] + now["hongyan_cold_rebuilt_bytes_total"]), nil
}

// othersLevel waits until all other nodes have everything that was committed while the node still voted. A voter that forgets is no danger
// then: whatever it has helped to commit is on every other one (docs/operations.md, Keys).
func (r *recoveries) othersLevel(ctx context.Context, node string) error {
	others := without(r.env.nodes(), node)
	far, err := r.env.applied(ctx, others)
	if err != nil {
		return err
	}
	return until(ctx, serveWait, func() error {
		for _, n := range others {
			v, err := r.env.view(ctx, n)
			if err != nil {
				return err
			}
			if err := v.reached(far); err != nil {
				return fmt.Errorf("node %s: %w", n, err)
			}
		}
		return nil
	})
}

// remove takes things out of the folder of a node that does not run.
func (r *recoveries) remove(node string, which func(name string) bool) error {
	st, err := r.env.Lab.Status()
	if err != nil {
		return err
	}
	for _, n := range st.Nodes {
		if n.ID == node && n.PID != 0 {
			return fmt.Errorf("node %s runs with process %d: its files are left alone", node, n.PID)
		}
	}
	dir, err := r.env.folder(node)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("empty the folder of node %s: %w", node, err)
	}
	for _, e := range entries {
		if which(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("empty the folder of node %s: %w", node, err)
	}
	return nil
}
